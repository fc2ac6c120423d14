"""Programs in benchmarks/ whose runs are commands, computed in this process."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from vclimb.cli.main import app

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class CommandHere:
    """A command of vclimb as `subprocess.Popen` starts it, computed in this process before it returns."""

    def __init__(self, command: list[str], stdout: IO[bytes], **_: Any) -> None:
        assert command[:3] == [sys.executable, "-m", "vclimb.cli"]
        done = CliRunner().invoke(app, command[3:])
        stdout.write(done.output.encode())
        self._status = done.exit_code

    def poll(self) -> int:
        return self._status


def load_benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a program of benchmarks/ that builds on `results`, and let its runs be computed in this process."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    here = SimpleNamespace(Popen=CommandHere, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(importlib.import_module("results"), "subprocess", here)
    return importlib.import_module(name)
