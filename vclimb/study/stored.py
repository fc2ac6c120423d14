"""Contents of the JSON files in a study's folder: sealed, and checked when they are read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.plain_name import PlainName
from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed
from vclimb.pipeline.system.small_files import read_small
from vclimb.pipeline.system.validation import first_problem

MAX_CELLS = 10_000
MAX_SETTINGS = 500
"""Largest number of settings of one run; vclimb has about 70, and methods of other packages bring their own."""
MAX_FILE_BYTES = 256 * 2**20
_MAX_VALUE, _MAX_SHOWN = 10_000, 300

Text = Annotated[str, Field(max_length=100_000)]


def _setting_value(value: object) -> object:
    """Check the value of a setting: a truth value, a number, a text, a list, or none."""
    if isinstance(value, int):
        is_allowed = -(2**63) <= value < 2**63
    elif isinstance(value, float):
        is_allowed = math.isfinite(value)
    else:
        is_allowed = value is None or (isinstance(value, str | list) and len(value) <= _MAX_VALUE)
    if not is_allowed:
        kind = f"a text of {len(value):,} characters" if isinstance(value, str) else f"a {type(value).__name__}"
        raise ValueError(
            f"{kind}; allowed: true, false, a finite number, or a text of at most {_MAX_VALUE:,} characters"
        )
    return value


RunSettings = Annotated[
    dict[Annotated[str, Field(max_length=200)], Annotated[Any, AfterValidator(_setting_value)]],
    Field(max_length=MAX_SETTINGS),
]
"""Settings of a run by their dotted names."""

_STRICT = ConfigDict(strict=True, extra="forbid")


class StudyError(VclimbError, ValueError):
    """A file in a study's folder does not hold what vclimb writes there."""


@dataclass(frozen=True)
class StudiedData:
    """Data set of a study's runs, as `data.json` holds it.

    Attributes:
        name: Name of the data set.
        content: SHA-256 of its videos and instances.
    """

    __pydantic_config__ = _STRICT

    name: Text
    content: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Failure:
    """Failure of a run.

    Attributes:
        error: Reason, in one line.
        exit_status: Exit status of the process; negative: the signal that ended it.
        tail: Last lines of the process' stderr.
        attempts: Number of times that the run failed.
        time: Time of the failure, in seconds since 1970.
        settings: Settings of the run by their dotted names.
    """

    __pydantic_config__ = _STRICT

    error: Text
    exit_status: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    tail: Text
    attempts: Annotated[int, Field(ge=1, lt=2**31)]
    time: Annotated[float, Field(ge=0, le=1e12)]
    settings: RunSettings


@dataclass(frozen=True)
class StudiedCells:
    """Cells of a study, as `cells.json` holds them. The field tells the file from other files of settings by name.

    Attributes:
        cells: Settings of each run by its name.
    """

    __pydantic_config__ = _STRICT

    cells: Annotated[dict[PlainName, RunSettings], Field(max_length=MAX_CELLS)]


CELLS_OF_STUDY, DATA_OF_STUDY = TypeAdapter(StudiedCells), TypeAdapter(StudiedData)
FAILURE_OF_RUN = TypeAdapter(Failure)
SETTINGS_OF_RUN = TypeAdapter[dict[str, Any]](RunSettings, config=ConfigDict(strict=True))

T = TypeVar("T")


def write_stored(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file of a study's folder."""
    replace_file(path, json.dumps(sealed(content), indent=1).encode())


def read_stored(path: Path, content: TypeAdapter[T], remedy: str) -> T | None:
    """Read a JSON file of a study's folder; None where there is none.

    Args:
        content: Content that the file must have.
        remedy: What to do about another content, for the error.

    Raises:
        StudyError: The file can't be read, or has another content.
    """
    try:
        document = parse_object(read_small(path, MAX_FILE_BYTES))
        return content.validate_json(json.dumps(unsealed(document)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StudyError(f"{path} can't be read: {error.strerror}; {remedy}") from None
    except ValueError as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise StudyError(f"{path} is damaged: {problem[:_MAX_SHOWN]}; {remedy}") from None


def encodable(name: str) -> str:
    """Write the name of a file so that it can be printed and encoded: bytes that are not UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")
