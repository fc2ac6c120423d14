"""`vclimb memory`: the flags and the help of its commands, and wrong usage."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from memory_cli_cases import memory

from vclimb.cli.main import app

# Every flag of every command. Change it when you mean to change what users have in their scripts.
FLAGS = {
    "show": "memory --png --verify --json",
    "pack": "dataset --budget --out -o --frames --codec --videos --frame-choice --rebalance --no-rebalance --seed "
    "--split --quality --png --json",
}


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands["memory"].commands)


def test_flags_are_those_that_users_know() -> None:
    flags = {
        name: {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands().items()
    }
    assert flags == {name: set(listed.split()) for name, listed in FLAGS.items()}


@pytest.mark.parametrize("name", FLAGS)
def test_help_tells_of_every_flag(name: str) -> None:
    for help_flag in ("--help", "-h"):
        result = memory(name, help_flag)
        assert (result.exit_code, result.stderr) == (0, "")
        assert all(word in result.stdout for word in FLAGS[name].split() if word.startswith("-"))
    for parameter in commands()[name].params:
        assert parameter.help, f"{name} {parameter.name} has no help"


def test_help_of_the_group_names_its_commands() -> None:
    result = memory("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(re.search(rf"\b{name}\b", result.stdout) for name in FLAGS)


@pytest.mark.parametrize(
    "arguments", [["show"], ["pack", "x"], ["pack", "x", "--out", "y"], ["pack", "x", "--budget", "3v"], ["nonsense"]]
)
def test_wrong_usage_has_status_2(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = memory(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_commands_do_not_wait_for_torch() -> None:
    code = "import sys, vclimb.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
