"""Sealed JSON for tests: files as vclimb writes them, or changed as somebody does who knows the format."""

from __future__ import annotations

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
