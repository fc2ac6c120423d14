"""Scenarios as versioned JSON files with a line for each instance, so that `diff` compares two scenarios."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import SourceError, TargetError
from vclimb.pipeline.sources.annotations import expect, parse_json, read_text
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.pipeline.system.durable import replace_file
from vclimb.scenario.pickles import read_pickle
from vclimb.scenario.task_sequence import Frames, ScenarioError, ScenarioInstance, Seconds, Task, TaskSequence, brief

FORMAT = "vclimb-scenario"
FORMAT_VERSION = 1
_TOP_FIELDS = ("format", "format_version", "name", "origin", "tasks")
_TASK_FIELDS = ("classes", *SPLITS)
_ROW_FIELDS = ("video", "class", "group", "seconds", "frames")


def read_scenario(path: Path | str, untrimmed: bool = False) -> TaskSequence:
    """Read a scenario file: JSON, or one of the benchmark's pickles.

    Args:
        path: Path of the file.
        untrimmed: Whether to take whole videos where a pickle lists segments, as `pickles.read_pickle` does.

    Raises:
        ScenarioError: The file can't be read, is of another kind, or is malformed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise ScenarioError(f"scenario {str(path)!r} can't be read: {error.strerror}") from None
    if not head.startswith(b"{"):  # which begins no pickle
        return read_pickle(path, untrimmed=untrimmed)
    if untrimmed:
        raise ScenarioError(f"{path} is a scenario as JSON, whose instances are fixed; only a pickle can be untrimmed")
    try:
        return parse_scenario(read_text(path), str(path))
    except SourceError as error:
        raise ScenarioError(str(error)) from None


def write_scenario(scenario: TaskSequence, path: Path | str) -> None:
    """Write a scenario as JSON, at once or not at all. A scenario that is there already is replaced.

    Raises:
        TargetError: The file can't be written, or another kind of file is there.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and f'"{FORMAT}"'.encode() not in _head(path)):
        raise TargetError(f"{str(path)!r} is there and is no scenario; choose another path, or remove it")
    try:
        replace_file(path, scenario_text(scenario).encode())
    except OSError as error:
        raise TargetError(f"{str(path)!r} can't be written: {error.strerror}") from None


def scenario_text(scenario: TaskSequence) -> str:
    """Convert a scenario to JSON text, which `parse_scenario` reads back to an equal value."""
    return "\n".join(_lines(scenario)) + "\n"


def parse_scenario(text: str, where: str = "scenario") -> TaskSequence:
    """Parse a scenario from JSON text.

    Args:
        text: The JSON text.
        where: Source of the text, for errors.

    Raises:
        ScenarioError: The text isn't JSON, has another format version, or a field is missing, unknown or malformed.
    """
    try:
        content = expect(parse_json(text, where), dict, where, "the content")
        if content.get("format") != FORMAT:
            raise ScenarioError(
                f'{where} is no scenario: its "format" is {brief(content.get("format"))}, not "{FORMAT}"; make one '
                "with `vclimb scenario export`"
            )
        if content.get("format_version") != FORMAT_VERSION:
            raise ScenarioError(
                f"{where} has format version {brief(content.get('format_version'))}; this vclimb reads version "
                f"{FORMAT_VERSION}"
            )
        _refuse_unknown(content, _TOP_FIELDS, where)
        tasks = expect(content.get("tasks"), list, where, "tasks")
        name = expect(content.get("name"), str, where, "name")
        origin = expect(content.get("origin", ""), str, where, "origin")
        parsed = tuple(_task(row, f"{where}: task {number}") for number, row in enumerate(tasks, 1))
    except SourceError as error:
        raise ScenarioError(str(error)) from None
    try:
        return TaskSequence(name, parsed, origin)
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error}") from None


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
            rows = [f"    {_json(_row(instance))}" for instance in task.split(split)]
            comma = "," if split != SPLITS[-1] else ""
            yield f'   "{split}": ['
            if rows:
                yield ",\n".join(rows)
            yield f"   ]{comma}"
        yield "  }" + ("," if number < len(scenario.tasks) else "")
    yield " ]"
    yield "}"


def _row(instance: ScenarioInstance) -> dict[str, Any]:
    row: dict[str, Any] = {"video": instance.video, "class": instance.label}
    if instance.group is not None:
        row["group"] = instance.group
    if isinstance(instance.span, Seconds):
        row["seconds"] = [instance.span.start, instance.span.end]
    elif isinstance(instance.span, Frames):
        row["frames"] = [instance.span.start, instance.span.end]
    return row


def _task(value: object, where: str) -> Task:
    fields = expect(value, dict, where, "a task")
    _refuse_unknown(fields, _TASK_FIELDS, where)
    classes = expect(fields.get("classes"), list, where, "classes")
    splits = {}
    for split in SPLITS:
        rows = expect(fields.get(split, []), list, where, split)
        splits[split] = tuple(_instance(row, f"{where}, {split} instance {n}") for n, row in enumerate(rows, 1))
    try:
        return Task(tuple(classes), **splits)
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error}") from None


def _instance(value: object, where: str) -> ScenarioInstance:
    fields = expect(value, dict, where, "an instance")
    _refuse_unknown(fields, _ROW_FIELDS, where)
    if "seconds" in fields and "frames" in fields:
        raise ScenarioError(f"{where} has seconds and frames; give one of them, or neither for the whole video")
    span: Seconds | Frames | None = None
    try:
        if "seconds" in fields:
            start, end = _pair(fields["seconds"], where, "seconds")
            span = Seconds(*(None if time is None else _number(time, where) for time in (start, end)))
        elif "frames" in fields:
            start, end = _pair(fields["frames"], where, "frames")
            if type(start) is not int or type(end) is not int:
                raise ScenarioError(f"frames [{brief(start)}, {brief(end)}] must be two whole numbers")
            span = Frames(start, end)
        return ScenarioInstance(fields.get("video"), fields.get("class"), span, fields.get("group"))  # type: ignore[arg-type]
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error}") from None


def _pair(value: object, where: str, name: str) -> tuple[object, object]:
    pair = expect(value, list, where, name)
    if len(pair) != 2:
        raise ScenarioError(f"{name} must be two values, [start, end], not {len(pair)}")
    return pair[0], pair[1]


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        pass
    raise ScenarioError(f"{brief(value)} is no number of seconds")


def _refuse_unknown(fields: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [name for name in fields if name not in known]:
        raise ScenarioError(f"{where} has the field {brief(unknown[0])}; allowed: {', '.join(known)}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise TargetError(f"{str(path)!r} can't be read: {error.strerror}") from None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
