"""The package's public face: its names, and what importing it or asking for help loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import vclimb

HEAVY = {"av", "imagecodecs", "matplotlib", "numcodecs", "pandas", "pyarrow", "timm", "torch", "torchvision", "zarr"}


def test_names_are_the_same_for_type_checkers_and_at_run_time() -> None:
    stub = ast.parse(Path(vclimb.__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname: node.module for node in imports for alias in node.names}
    assert len(typed) > 40
    for name, module in typed.items():
        assert name is not None
        assert module is not None
        assert getattr(vclimb, name) is getattr(import_module(module), name)
        assert getattr(vclimb, name).__doc__, f"vclimb.{name} has no docstring"
    assert set(typed) <= set(dir(vclimb))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'vclimb' has no attribute 'prepair'"):
        _ = vclimb.prepair  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", ["", "--help", "--version", "study plan --help", "train --help"])
def test_import_and_help_load_nothing_heavy(arguments: str) -> None:
    """In time: 0.4 s on an idle core, where torch alone takes seconds."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted({name.split('.')[0] for name in sys.modules}))))\n"
        "import vclimb\n"
        "if len(sys.argv) > 1:\n"
        "    from vclimb.cli.__main__ import main\n"
        "    main()\n"
    )
    command = [sys.executable, "-c", program, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout.splitlines()[-1])) == set()
