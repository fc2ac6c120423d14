"""Prepared data sets for tests of `vclimb memory`, and its commands as functions."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from memory_store_cases import files_of
from typer.testing import CliRunner, Result

from vclimb.cli.main import app


def memory(*arguments: str | Path, columns: int = 200) -> Result:
    return CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"}).invoke(app, ["memory", *map(str, arguments)])


def pack(dataset: Path, out: Path, *arguments: str | Path) -> Any:
    result = memory("pack", dataset, "--out", out, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def show(path: Path, *arguments: str | Path) -> Any:
    result = memory("show", path, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def words(text: str) -> list[str]:
    """The lines of a text with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def explains(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def apparent(path: Path) -> int:
    return sum(files_of(path).values())


def du(path: Path, *options: str) -> int:
    done = subprocess.run(["du", "-s", *options, path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])
