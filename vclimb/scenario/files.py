"""Scenarios as versioned JSON files with a line for each instance, so that `diff` compares two scenarios."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, with_config

from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.sources.annotations import peek_has
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.small_files import read_small
from vclimb.scenario.instance import Frames, ScenarioError, Seconds, brief
from vclimb.scenario.instance_lines import instance_lines
from vclimb.scenario.instances import InstanceError, ScenarioInstances, Span
from vclimb.scenario.pickles import parse_task_file
from vclimb.scenario.task_sequence import Task, TaskSequence

FORMAT = "vclimb-scenario"
FORMAT_VERSION = 1
MAX_JSON_BYTES = 256 * 2**20
"""Largest scenario as JSON; one of Kinetics-700 has 80 MB."""
_FIELDS = ["video", "class", "group", "seconds", "frames"]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@with_config(_Stored.model_config)
@dataclass(frozen=True, slots=True)
class _StoredInstance:
    video: str
    label: Annotated[str, Field(alias="class")]
    group: str | None = None
    seconds: tuple[float | None, float | None] | None = None
    frames: tuple[int, int] | None = None


def _instances(rows: tuple[_StoredInstance, ...]) -> ScenarioInstances:
    spans: list[Span] = []
    try:
        for row in rows:
            spans.append(_span(row))  # the number of spans is that of a row
        videos, labels, groups = ([*map(attrgetter(name), rows)] for name in ("video", "label", "group"))
        return ScenarioInstances.listed(videos, labels, groups, spans)
    except ScenarioError as error:
        raise InstanceError(error.row if isinstance(error, InstanceError) else len(spans), str(error)) from None


def _span(row: _StoredInstance) -> Span:
    seconds, frames = row.seconds, row.frames
    if seconds and frames:
        raise ScenarioError("has seconds and frames; give one of them, or neither for the whole video")
    return Seconds(*seconds) if seconds else Frames(*frames) if frames else None


_Instances = Annotated[tuple[_StoredInstance, ...], AfterValidator(_instances)]


class _StoredTask(_Stored):
    classes: tuple[str, ...]
    train: _Instances = ()
    val: _Instances = ()
    test: _Instances = ()

    def convert(self) -> Task:
        return Task(**dict(self))


class _StoredScenario(_Stored):
    format: Literal["vclimb-scenario"]
    format_version: Literal[1]
    name: str
    origin: str = ""
    tasks: tuple[Annotated[_StoredTask, AfterValidator(_StoredTask.convert)], ...]

    def convert(self) -> TaskSequence:
        return TaskSequence(self.name, self.tasks, self.origin)  # type: ignore[arg-type]  # converted by their validators


@collection_paused()
def read_scenario(path: Path | str, untrimmed: bool = False) -> TaskSequence:
    """Read a scenario file: JSON, or one of the benchmark's pickles, as `Scenario.open` describes."""
    path = local_path(path)
    try:
        data = read_small(path, MAX_JSON_BYTES)
    except OSError as error:
        raise ScenarioError(f"scenario {str(path)!r} can't be read: {error.strerror}") from None
    text = data.removeprefix(b"\xef\xbb\xbf")
    is_json = text.lstrip().startswith(b"{")  # which begins no pickle
    if not is_json:
        return parse_task_file(data, str(path), path.stem, untrimmed)
    if untrimmed:
        raise ScenarioError(f"{path} is a scenario as JSON, whose instances are fixed; only a pickle can be untrimmed")
    return parse_scenario(text, str(path))


def write_scenario(scenario: TaskSequence, path: Path | str) -> None:
    """Write a scenario as JSON, as `Scenario.save` describes."""
    path = local_path(path)
    if path.exists() and not peek_has(path, f'"{FORMAT}"'.encode(), 64):
        raise TargetError(f"{str(path)!r} is there and is no scenario; choose another path, or remove it")
    try:
        replace_file(path, scenario_text(scenario).encode())
    except OSError as error:
        raise TargetError(f"{str(path)!r} can't be written: {error.strerror}") from None


def scenario_text(scenario: TaskSequence) -> str:
    """Convert a scenario to JSON text, which `parse_scenario` reads back to an equal value."""
    return "\n".join(_lines(scenario)) + "\n"


def parse_scenario(text: str | bytes, where: str = "scenario") -> TaskSequence:
    """Parse a scenario from JSON text. Errors name its source, `where`.

    Raises:
        ScenarioError: The text isn't JSON, has another format version, or a field is missing, unknown or malformed.
    """
    try:
        return _StoredScenario.model_validate_json(text).convert()
    except ValidationError as error:
        raise ScenarioError(f"{where}: {_sentence(error)}") from None
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error}") from None


def _sentence(error: ValidationError) -> str:
    """Word the first error: its place, the value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    place = ""
    for part in first["loc"]:
        place += f" {part + 1}" if isinstance(part, int) else f"{place and ', '}{_beginning(part)}"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(of_instance := first.get("ctx", {}).get("error"), InstanceError):
        place += f" {of_instance.row + 1}"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        kinds = {1: [*_StoredScenario.model_fields], 3: [*_StoredTask.model_fields], 5: _FIELDS}
        names = kinds[len(first["loc"])]
        message = f"no such field; allowed: {', '.join(names)}"
    elif message.startswith("Input should"):
        message = f"must{message.removeprefix('Input should')}, not {brief(first['input'])}"
    if first["loc"] == ("format",):
        message += "; make a scenario with `vclimb scenario export`"
    return f"{place and place + ': '}{message}"


def _beginning(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:60]}..."


def _lines(scenario: TaskSequence) -> Iterator[str]:
    yield "{"
    yield f' "format": "{FORMAT}",'
    yield f' "format_version": {FORMAT_VERSION},'
    yield f' "name": {_json(scenario.name)},'
    yield f' "origin": {_json(scenario.origin)},'
    yield ' "tasks": ['
    for number, task in enumerate(scenario.tasks, 1):
        yield "  {"
        yield f'   "classes": {_json(task.classes)},'
        for split in SPLITS:
            yield f'   "{split}": ['
            if rows := [*instance_lines(task.split(split))]:
                yield ",\n".join(rows)
            yield "   ]" + ("," if split != SPLITS[-1] else "")
        yield "  }" + ("," if number < len(scenario.tasks) else "")
    yield " ]"
    yield "}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
