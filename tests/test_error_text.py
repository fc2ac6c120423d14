"""The text of an error is one line of bounded length, whatever was put into it."""

from __future__ import annotations

import errno

import pytest

from vclimb.pipeline.errors import SettingsError, SourceError, TargetError, VclimbError
from vclimb.settings import from_table
from vclimb.study.definition import StudyDefinition


@pytest.mark.parametrize("kind", [VclimbError, SettingsError, SourceError, TargetError])
def test_one_line_of_bounded_length(kind: type[VclimbError]) -> None:
    assert str(kind("a value; allowed: others")) == "a value; allowed: others"
    assert str(kind("of a library\r\nthat writes lines\n")) == "of a library that writes lines"
    text = str(kind(f"{'x' * 10**6}; allowed: others"))
    assert len(text) < 2100
    assert text.startswith("xxx")
    assert text.endswith("xxx; allowed: others")
    assert "998,017 characters left out" in text


def test_errors_of_the_system_keep_their_words() -> None:
    assert str(TargetError(errno.ENOSPC, "no space", "x")) == f"[Errno {errno.ENOSPC}] no space: 'x'"


def test_a_setting_of_any_length_is_refused_in_one_short_line() -> None:
    with pytest.raises(SettingsError, match="not understood; write videos") as caught:
        from_table(StudyDefinition, {"name": "x", "constraints": {"budgets": ["9" * 10**5 + "x"]}})
    assert len(str(caught.value)) < 2100
