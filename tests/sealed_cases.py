"""Sealed JSON for tests: files as vclimb writes them, or changed as somebody does who knows the format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of a content, with the SHA-256 that fits it."""
    path.write_text(json.dumps(sealed(content)), "utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read the content of a file."""
    return unsealed(parse_object(path.read_bytes()))


def edit_sealed(path: Path, change: Callable[[Any], object]) -> None:
    """Change the content of a file, and give it the right SHA-256 again."""
    content = read_sealed(path)
    change(content)
    write_sealed(path, content)


def edit_plan(path: Path, change: Callable[[Any], object]) -> None:
    """Change the plan of a run, given as one object with its shards, and give it the right SHA-256 again."""
    head, *shards, _ = map(json.loads, path.read_text("utf-8").splitlines())
    content = {**head, "shards": shards}
    change(content)
    lines = [{name: content[name] for name in head}, *content["shards"]]
    seal_lines(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def seal_lines(path: Path, lines: bytes) -> None:
    """Write JSON lines, and a last one with their SHA-256."""
    path.write_bytes(lines + json.dumps({"sha256": hashlib.sha256(lines).hexdigest()}).encode() + b"\n")


def lines_payload(data: bytes) -> bytes:
    """Sealed JSON lines without the last one."""
    return b"".join(data.splitlines(keepends=True)[:-1])
