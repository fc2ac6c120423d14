"""The benchmark's official task files, read without trust.

The files are pickles: `{"train", "val"[, "test"]} -> list of tasks -> {class name: list of items}`, where an item is a
stem (`v_Surfing_g22_c02`: UCF101, Kinetics) or a dict of texts (ActivityNet: a segment of a video).

Unpickling runs any code that a file names. So nothing is unpickled before every opcode of the file is known to build a
list, a dict, a text or a number, and the unpickler itself refuses all else.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterator
from typing import Any

from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario.instance import MAX_NAME, ScenarioError, ScenarioInstance, Seconds, brief
from vclimb.scenario.instances import InstanceError, ScenarioInstances, Span
from vclimb.scenario.task_sequence import Task, TaskSequence

MAX_FILE_BYTES = 64 * 2**20
# Kinetics-700 has 650,000. A small file can list more only by naming one list again and again.
MAX_INSTANCES = 2_000_000
MAX_CHARACTERS = 2**28
# Kinetics-700 takes 2,600,000; checking as many as a file can hold would take minutes.
MAX_OPCODES = 6_000_000
# Larger numbers can have equal hashes, and a dict of them takes the square of their count to build.
_MAX_BITS = 60
# No tuples and sets: hashing deeply nested ones overflows the interpreter's stack. No bytes: memory for them is
# allocated by what the file claims.
_BUILDS_PLAIN_VALUES = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_LIST APPEND APPENDS LIST EMPTY_DICT DICT SETITEM SETITEMS
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
"""
_OPCODES = frozenset(_BUILDS_PLAIN_VALUES.split())
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_UCF101_STEM = re.compile(r"(v_\w+_g\d++)_c\d+")


def parse_task_file(data: bytes, where: str, name: str, untrimmed: bool = False) -> TaskSequence:
    """Parse an official task file. Classes are in the order of its training split.

    Segments are kept as they are listed. ActivityNet's files list 1,164 training segments that end after their video
    (the released code and `matching` cut them at the video's end) and 12 that are empty (the released code drops them,
    with all segments under 8 frames; `matching` names the empty ones as left out).

    `untrimmed` does what the released code does with `train_per_noise = val_per_noise = 1`: a video becomes one
    instance of its whole length if all its segments are of one class and not all of them are empty.

    Args:
        where: Path of the file, for errors.
        name: Name of the scenario; `_untrimmed` is appended for whole videos.
        untrimmed: Whether to take whole videos rather than segments.

    Raises:
        ScenarioError: The file holds anything but lists, dicts, texts and numbers, is damaged, or is no task file.
    """
    if len(data) > MAX_FILE_BYTES:
        limit = f"over {MAX_FILE_BYTES // 2**20} MiB"
        raise ScenarioError(f"{where} is larger than any task file: {limit}; is the path right?")
    splits = _check_layout(load_plain(data, where), where)
    if untrimmed and not all(isinstance(item, dict) for item in _items(splits)):
        raise ScenarioError(f"{where} lists whole videos, not segments: there is nothing to untrim; leave that out")
    if (n_characters := sum(_n_characters(item) for item in _items(splits))) > MAX_CHARACTERS:
        limit = f"allowed: up to {MAX_CHARACTERS:,}"
        raise ScenarioError(f"{where}: the names of its videos have {n_characters:,} characters in all; {limit}")
    instances = {split: [_instances(task, f"{where}: {split}") for task in tasks] for split, tasks in splits.items()}
    if untrimmed:
        instances = {split: _untrimmed(tasks) for split, tasks in instances.items()}
    try:
        tasks = tuple(
            Task(tuple(classes), **{split: instances[split][number] for split in instances})
            for number, classes in enumerate(splits["train"])
        )
        origin = f"the benchmark's task file {name}" + (", untrimmed" if untrimmed else "")
        return TaskSequence(name + ("_untrimmed" if untrimmed else ""), tasks, origin)
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error}") from None


def load_plain(data: bytes, where: str) -> Any:
    """Unpickle lists, dicts, texts and numbers. Anything else is refused before it has any effect.

    Raises:
        ScenarioError: The pickle holds anything else, is damaged, or is followed by other bytes.
    """
    end = 0
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if opcode.name not in _OPCODES:
                what = f" ({brief(argument)})" if argument is not None else ""
                raise ScenarioError(
                    f"{where}: byte {position} is the pickle opcode {opcode.name}{what}; a task file holds only lists, "
                    "dicts, texts and numbers. Other content can run code, so nothing was loaded"
                )
            if count >= MAX_OPCODES:
                raise ScenarioError(f"{where}: has over {MAX_OPCODES:,} values, which no task file has")
            if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
                raise ScenarioError(
                    f"{where}: byte {position} is a number of {argument.bit_length()} bits; it is damaged"
                )
            if opcode.name in _PUTS and int(str(argument)) > count:  # the unpickler allocates a table of this size
                raise ScenarioError(f"{where}: byte {position} numbers an object {argument}; the file is damaged")
            end = (position or 0) + 1  # the last opcode, STOP, is one byte
        if end != len(data):
            raise ScenarioError(f"{where}: {len(data) - end:,} bytes follow the end of the pickle; it is damaged")
        return _PlainUnpickler(io.BytesIO(data)).load()
    except ScenarioError:
        raise
    except Exception as error:  # a damaged file makes the unpickler fail in many ways
        raise ScenarioError(
            f"{where}: neither a JSON scenario nor a whole pickle ({type(error).__name__}: {str(error)[:200]}); fetch "
            "the file again"
        ) from None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not a list, dict, text or number")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("objects outside the file are not read")


def _check_layout(content: Any, where: str) -> dict[str, list[dict[str, list[Any]]]]:
    """Check the nesting, counts and classes of a task file, and return its splits."""
    if not isinstance(content, dict) or "train" not in content or not set(content) <= set(SPLITS):
        keys = f" of {', '.join(map(brief, list(content)[:4]))}" if isinstance(content, dict) else ""
        raise ScenarioError(
            f"{where}: no task file: it holds a {type(content).__name__}{keys}; a dict of train, val and test is needed"
        )
    n_instances = 0
    for split, tasks in content.items():
        if not isinstance(tasks, list) or len(tasks) != len(_list(content["train"], f"{where}: train")):
            raise ScenarioError(f"{where}: {split} must be a list of as many tasks as train has")
        for number, task in enumerate(tasks):
            place = f"{where}: {split}, task {number + 1}"
            if not isinstance(task, dict):
                raise ScenarioError(f"{place} must be a dict of classes, not a {type(task).__name__}")
            if split != "train" and task.keys() != content["train"][number].keys():
                raise ScenarioError(f"{place} has other classes than the same task of train")
            # A task and a class without instances count too: they may be one object that is named again and again.
            n_instances += 1 + sum(
                1 + len(_list(items, f"{place}, class {brief(name)}")) for name, items in task.items()
            )
            if n_instances > MAX_INSTANCES:
                raise ScenarioError(f"{where}: lists over {MAX_INSTANCES:,} instances, which no task file does")
    return content


def _items(splits: dict[str, list[dict[str, list[Any]]]]) -> Iterator[Any]:
    return (item for tasks in splits.values() for task in tasks for listed in task.values() for item in listed)


def _n_characters(item: Any) -> int:
    name = item.get("filename") if isinstance(item, dict) else item
    return len(name) if isinstance(name, str) else 0


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ScenarioError(f"{where} must be a list, not a {type(value).__name__}")
    return value


def _instances(task: dict[str, list[Any]], where: str) -> ScenarioInstances:
    videos: list[Any] = []
    labels: list[str] = []
    groups: list[str | None] = []
    spans: list[Span] = []
    label = ""
    try:
        for label, items in task.items():
            for item in items:
                video, group, span = (item, _recording(item), None) if isinstance(item, str) else _segment(item)
                videos.append(video)
                groups.append(group)
                spans.append(span)
            labels += [label] * len(items)
        return ScenarioInstances.listed(videos, labels, groups, spans)
    except ScenarioError as error:
        of_class = labels[error.row] if isinstance(error, InstanceError) else label
        raise ScenarioError(f"{where}, class {brief(of_class)}: {error}") from None


def _recording(stem: str) -> str | None:
    recording = _UCF101_STEM.fullmatch(stem) if len(stem) <= MAX_NAME and stem.startswith("v_") else None
    return None if recording is None else recording[1]


def _segment(item: Any) -> tuple[Any, None, Seconds]:
    if not isinstance(item, dict):
        raise ScenarioError(f"an item is a {type(item).__name__}; allowed: a file's stem, or a dict of texts")
    return item.get("filename"), None, Seconds(_time(item, "t_start"), _time(item, "t_end"))


def _time(item: dict[str, Any], name: str) -> float:
    text = item.get(name)
    try:
        seconds = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ScenarioError(f"{name} of {brief(item.get('filename'))} is {brief(text)}; seconds, as a text, are needed")
    return seconds


def _untrimmed(tasks: list[ScenarioInstances]) -> list[ScenarioInstances]:
    """Make one instance of each video whose segments are of one class and not all empty."""
    labels: dict[str, set[str]] = {}
    covered: set[str] = set()
    for task in tasks:
        for instance in task:
            labels.setdefault(instance.video, set()).add(instance.label)
            if isinstance(instance.span, Seconds) and not instance.span.is_empty:
                covered.add(instance.video)
    taken: set[str] = set()

    def whole(task: ScenarioInstances) -> Iterator[ScenarioInstance]:
        for instance in task:
            video = instance.video
            if video in covered and len(labels[video]) == 1 and video not in taken:
                taken.add(video)
                yield ScenarioInstance(video, instance.label)

    return [ScenarioInstances.of(whole(task)) for task in tasks]
