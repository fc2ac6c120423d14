"""A class-incremental scenario as a value: tasks of disjoint classes, with their instances.

Class-incremental means that no task id is given at test time (van de Ven et al., "Three types of incremental learning",
Nature Machine Intelligence 2022). A scenario names videos but not their places: `matching` finds them in a prepared
data set, so that one scenario runs on any copy of the videos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.sources.splits import SPLITS

MAX_NAME = 10_000
"""Longest name of a video, a class, a group or a scenario, in characters."""
MAX_SECONDS, MAX_FRAMES = 1e9, 2**53
_SHOWN = 60


class ScenarioError(VclimbError, ValueError):
    """A scenario can't be read, made, or run on a data set."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """A segment [start, end) of a source video, in seconds. None stands for the video's start or end.

    An end after the video's end counts as the video's end. An empty segment is kept as it is listed (ActivityNet has
    12), and left out when videos are matched.

    Raises:
        ScenarioError: A time is negative, over 30 years, or not finite.
    """

    start: float | None
    end: float | None

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= MAX_SECONDS):
                raise ScenarioError(
                    f"{name} {brief(value)} s is not a time; allowed: 0 to {MAX_SECONDS:,.0f}, in seconds"
                )

    @property
    def is_empty(self) -> bool:
        """Whether the segment ends at its start or before."""
        return self.end is not None and (self.start or 0.0) >= self.end

    def __str__(self) -> str:
        start, end = (self.start or 0.0), ("end" if self.end is None else f"{self.end:g}")
        return f"[{start:g}, {end}) s"


@dataclass(frozen=True, slots=True)
class Frames:
    """A segment [start, end) of a stored video, in frames at the stored frame rate.

    Raises:
        ScenarioError: The segment holds no frame, or more than any video.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ScenarioError(
                f"frames [{brief(self.start)}, {brief(self.end)}) hold none; the first frame is 0, and the end comes "
                "after the start"
            )
        if self.end > MAX_FRAMES:
            raise ScenarioError(f"frames end at {brief(self.end)}, after any video; allowed: up to {MAX_FRAMES}")

    def __str__(self) -> str:
        return f"frames [{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class ScenarioInstance:
    """A labelled segment of a video.

    Attributes:
        video: Key of the video in a data set, its path in the source, or the stem of that path.
        label: Name of the class.
        span: Segment of the video; None: the whole video.
        group: Name of the recording that the video was cut from; None: unknown.

    Raises:
        ScenarioError: A name is empty or not a text.
    """

    video: str
    label: str
    span: Seconds | Frames | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        _require_text(self.video, "a video's name")
        _require_text(self.label, "the class of video", self.video)
        if self.group is not None:
            _require_text(self.group, "the group of video", self.video)

    @property
    def source(self) -> tuple[str, str]:
        """Kind and name of the source: the group, or the video where no group is known."""
        return ("video", self.video) if self.group is None else ("group", self.group)


@dataclass(frozen=True)
class Task:
    """Classes that arrive together.

    Attributes:
        classes: Names of the classes, in the order of their label ids.
        train: Training instances; each class has some.
        val: Validation instances; may be empty.
        test: Test instances; may be empty.

    Raises:
        ScenarioError: There are no classes, a class has no training instance, or an instance is of another class.
    """

    classes: tuple[str, ...]
    train: tuple[ScenarioInstance, ...]
    val: tuple[ScenarioInstance, ...] = ()
    test: tuple[ScenarioInstance, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise ScenarioError("a task has no classes; allowed: 1 or more")
        for name in self.classes:
            _require_text(name, "a class name")
        known = set(self.classes)
        for split in SPLITS:
            for instance in self.split(split):
                if instance.label not in known:
                    raise ScenarioError(
                        f"{split} instance {brief(instance.video)} is of class {brief(instance.label)}, none of its "
                        f"task's {len(known)} classes ({_some(self.classes)})"
                    )
        trained = {instance.label for instance in self.train}
        if without := [name for name in self.classes if name not in trained]:
            raise ScenarioError(
                f"class {brief(without[0])} has no training instance ({len(without)} of {len(known)} classes of its "
                "task have none); give it some, or leave the class out"
            )

    def split(self, name: str) -> tuple[ScenarioInstance, ...]:
        """Instances of `train`, `val` or `test`."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class TaskSequence:
    """A sequence of tasks. The label id of a class is its place in the order of first appearance.

    Attributes:
        name: Name of the scenario.
        tasks: Tasks in the order in which they arrive.
        origin: Description of how the scenario was made; empty if unknown.

    Raises:
        ScenarioError: There are no tasks, or a class is in two tasks.
    """

    name: str
    tasks: tuple[Task, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        _require_text(self.name, "a scenario's name")
        if not self.tasks:
            raise ScenarioError(f"scenario {brief(self.name)} has no tasks; allowed: 1 or more")
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            places = tuple(str(number) for number, task in enumerate(self.tasks, 1) if twice[0] in task.classes)
            raise ScenarioError(
                f"class {brief(twice[0])} is listed twice (task {_some(places)}); the classes of tasks must be disjoint"
            )

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.tasks)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of their label ids."""
        return tuple(name for task in self.tasks for name in task.classes)

    @property
    def label_ids(self) -> dict[str, int]:
        """Class name -> label id."""
        return {name: number for number, name in enumerate(self.classes)}

    @property
    def evaluation_split(self) -> str:
        """Split that accuracies are reported on: `test`, or `val` where there is no test split (ActivityNet).

        Raises:
            ScenarioError: There are neither test nor validation instances.
        """
        for split in ("test", "val"):
            if self.count(split):
                return split
        raise ScenarioError(f"scenario {brief(self.name)} has neither test nor val instances; one of them is needed")

    def count(self, split: str) -> int:
        """Count the instances of a split over all tasks."""
        return sum(len(task.split(split)) for task in self.tasks)

    def instances(self, split: str) -> Iterator[ScenarioInstance]:
        """Iterate over the instances of a split, task after task."""
        return (instance for task in self.tasks for instance in task.split(split))


def brief(value: object) -> str:
    """Word a value for an error: the beginning of a text, a number, or the type of anything else."""
    if isinstance(value, str):
        more = f"... ({len(value):,} characters)" if len(value) > _SHOWN else ""
        return repr(value[:_SHOWN]) + more
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() < 64):
        return repr(value)
    return f"a number of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"


def _require_text(value: object, what: str, video: str | None = None) -> None:
    """Refuse what is no name. `what` says whose name it is; a video's name completes it."""
    if isinstance(value, str) and len(value) <= MAX_NAME and value.strip():
        if value.isascii():  # nearly always, and faster to say than to encode
            return
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            reason = f"holds half a surrogate pair, which is no text: {brief(value)}"
        else:
            return
    elif isinstance(value, str) and len(value) > MAX_NAME:
        reason = f"is longer than {MAX_NAME:,} characters: {brief(value)}"
    else:
        reason = f"must be a text that isn't empty, not {brief(value)}"
    raise ScenarioError(f"{what}{'' if video is None else f' {brief(video)}'} {reason}")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(name[:_SHOWN] for name in names[:3]) + (", ..." if len(names) > 3 else "")
