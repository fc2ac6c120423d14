"""Files of an unfinished run, in `.work/`: sealed JSON, read back into checked models.

A run may go on days later, on another machine, or in a folder that somebody else has sent. What is read here decides
which files are written, and the labels of videos, so a changed byte is refused rather than believed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed
from vclimb.pipeline.system.small_files import read_small
from vclimb.pipeline.system.validation import first_problem

Content = TypeVar("Content")

# A shard of 100,000 videos takes 100 MB.
_MAX_BYTES = 2**30


def work_bytes(kind: TypeAdapter[Content], content: Content) -> bytes:
    """The bytes of a file of `.work/`."""
    # By `json`, since a path may hold half a surrogate pair.
    return json.dumps(sealed(kind.dump_python(content, mode="json"))).encode()


def parse_work_bytes(kind: TypeAdapter[Content], data: bytes) -> Content:
    """Parse the bytes of a file of `.work/`. Raises a ValueError that says what is wrong with them."""
    return _validated(kind, unsealed(parse_object(data)))


def parse_line(kind: TypeAdapter[Content], line: bytes) -> Content:
    """Parse a line of a file of JSON lines. Raises a ValueError that says what is wrong with it."""
    if not line.endswith(b"\n"):
        raise ValueError("its last line was cut short")
    return _validated(kind, parse_object(line))


def _validated(kind: TypeAdapter[Content], content: object) -> Content:
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def read_work_file(path: Path, kind: TypeAdapter[Content], consequence: str) -> Content:
    """Read a file of `.work/`.

    Args:
        path: Path of the file.
        kind: Model of its content.
        consequence: What a run does once the file is removed, as the end of a sentence.

    Raises:
        FileNotFoundError: There is no such file.
        DatasetError: The file is damaged. The message says which file to remove.
    """
    try:
        return parse_work_bytes(kind, read_small(path, _MAX_BYTES))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise damaged_work_file(path, str(reason), consequence) from None


def damaged_work_file(path: Path, problem: str, consequence: str) -> DatasetError:
    """The error for a file of `.work/` that can't be used."""
    return DatasetError(f"{path} is damaged: {problem}; remove it and run the same command again: {consequence}")
