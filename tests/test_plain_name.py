"""A name that is read from a file names a file of one folder, and no other."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from vclimb.pipeline.system.plain_name import PlainName

_NAME = TypeAdapter(PlainName)
HOSTILE = [
    "",
    ".",
    "..",
    ".work",
    "../escaped",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "C:\\x",
    "nul\0.tar",
    "two\nlines",
    "\x1b[2J",
    "half \ud800",
    "n" * 201,
    "é" * 101,
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        _NAME.validate_python(name)


@pytest.mark.parametrize("name", ["ucf101", "Kinetics-400 (val)", "動画", "a..b", "x-000000.tar", "n" * 200])
def test_plain_names_are_kept(name: str) -> None:
    assert _NAME.validate_python(name) == name
