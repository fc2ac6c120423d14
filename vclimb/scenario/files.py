"""Scenarios as versioned JSON files with a line for each instance, so that `diff` compares two scenarios."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.sources.annotations import peek_has
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.small_files import read_small
from vclimb.scenario.pickles import parse_task_file
from vclimb.scenario.task_sequence import Frames, ScenarioError, ScenarioInstance, Seconds, Task, TaskSequence, brief

FORMAT = "vclimb-scenario"
FORMAT_VERSION = 1
MAX_JSON_BYTES = 256 * 2**20
"""Largest scenario as JSON; one of Kinetics-700 has 80 MB."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _StoredInstance(_Stored):
    video: str
    label: str = Field(alias="class")
    group: str | None = None
    seconds: tuple[float | None, float | None] | None = None
    frames: tuple[int, int] | None = None

    def convert(self) -> ScenarioInstance:
        if self.seconds and self.frames:
            raise ScenarioError("has seconds and frames; give one of them, or neither for the whole video")
        span = Seconds(*self.seconds) if self.seconds else Frames(*self.frames) if self.frames else None
        return ScenarioInstance(self.video, self.label, span, self.group)


_Instances = tuple[Annotated[_StoredInstance, AfterValidator(_StoredInstance.convert)], ...]


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
    if first["type"] == "extra_forbidden":
        kinds: dict[int, type[_Stored]] = {1: _StoredScenario, 3: _StoredTask, 5: _StoredInstance}
        names = (field.alias or name for name, field in kinds[len(first["loc"])].model_fields.items())
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
            if rows := [f"    {_json(_row(instance))}" for instance in task.split(split)]:
                yield ",\n".join(rows)
            yield "   ]" + ("," if split != SPLITS[-1] else "")
        yield "  }" + ("," if number < len(scenario.tasks) else "")
    yield " ]"
    yield "}"


def _row(instance: ScenarioInstance) -> dict[str, Any]:
    row: dict[str, Any] = {"video": instance.video, "class": instance.label}
    if instance.group is not None:
        row["group"] = instance.group
    if (span := instance.span) is not None:
        row["frames" if isinstance(span, Frames) else "seconds"] = [span.start, span.end]
    return row


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
