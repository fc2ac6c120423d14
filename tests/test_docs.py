"""The pages: every command in them exists with its flags, and every link leads to a file."""

from __future__ import annotations

import pkgutil
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vclimb.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "shards" / "README.md",
]
ENTRY_POINT_GROUPS = {"vclimb.codecs", "vclimb.executors", "vclimb.methods", "vclimb.networks", "vclimb.run_executors"}


def commands(page: str) -> list[list[str]]:
    """Words of each `vclimb` command of a page: in indented lines, in fenced blocks, or between backticks."""
    page = page.replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code = "\n".join([*re.findall(r"^    (.*)$", page, re.MULTILINE), *blocks])
    lines = re.findall(r"^(?:\S*torchrun .*-m )?(vclimb(?:\.cli)? .*)$", code, re.MULTILINE)
    lines += [line for line in re.findall(r"`(vclimb [^`\n]*)`", page) if "..." not in line]
    return [shlex.split(re.split(r" +#|&&| \|", line)[0])[1:] for line in lines]


def flags_of(words: list[str]) -> set[str] | None:
    """Flags that the command of these words knows; None where there is no such command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        inner = getattr(command, "commands", None)
        if inner is None:
            break
        if word not in inner:
            return None if not word.startswith("-") else {"--help", "--version"}
        command = inner[word]
    return {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_page_exist_with_their_flags(path: Path) -> None:
    for words in commands(path.read_text("utf-8")):
        known = flags_of(words)
        assert known is not None, f"there is no command {words[:2]}"
        used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known, f"vclimb {' '.join(words)}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
        if not link.startswith(("https://", "http://")):
            assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_exist(path: Path) -> None:
    page = path.read_text("utf-8")
    for name in re.findall(r"`((?:pipeline|vclimb|cli|tests|benchmarks|docs)/[\w./]*)`", page):
        assert (ROOT / name).exists(), name
    for name in set(re.findall(r"`(vclimb(?:\.\w+)+)`", page)) - ENTRY_POINT_GROUPS:
        pkgutil.resolve_name(name)
