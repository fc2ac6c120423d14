"""A class-incremental scenario as a value: tasks of disjoint classes, and the instances that each may use.

After van de Ven et al., "Three types of incremental learning", Nature Machine Intelligence 2022, class-incremental:
no task id is given at test time. It names videos and says nothing of where they lie: `matching` finds them in a
prepared data set, so that one scenario runs on any copy of the videos.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.sources.splits import SPLITS

_SHOWN = 60


class ScenarioError(VclimbError):
    """A scenario can't be read, made, or run on a data set."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """A stretch [start, end) of a source video in seconds. None is the video's own start or end.

    An end beyond the video is cut there. A stretch that is empty is kept as it is listed (ActivityNet has 12), and
    left out where videos are matched.
    """

    start: float | None
    end: float | None

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ScenarioError(f"{name} {brief(value)} s is not a time; allowed: 0 or more, in seconds")

    @property
    def is_empty(self) -> bool:
        """Whether it ends where it starts, or before."""
        return self.end is not None and (self.start or 0.0) >= self.end

    def __str__(self) -> str:
        start, end = (self.start or 0.0), ("end" if self.end is None else f"{self.end:g}")
        return f"[{start:g}, {end}) s"


@dataclass(frozen=True, slots=True)
class Frames:
    """A stretch [start, end) of a stored video in frames; it holds for the frame rate that it was written for."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ScenarioError(
                f"frames [{self.start}, {self.end}) hold none; the first frame is 0, and the end comes after the start"
            )

    def __str__(self) -> str:
        return f"frames [{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class ScenarioInstance:
    """A labelled stretch of a video.

    Attributes:
        video: its key in a data set, its path in the source, or that path's stem.
        label: name of its class.
        span: which part of the video; None: all of it.
        group: videos cut from one recording share it; None: unknown.
    """

    video: str
    label: str
    span: Seconds | Frames | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        _require_text(self.video, "a video's name")
        _require_text(self.label, f"the class of video {self.video!r}")
        if self.group is not None:
            _require_text(self.group, f"the group of video {self.video!r}")

    @property
    def source(self) -> tuple[str, str]:
        """What it was cut from, as far as is known: its group, else its video."""
        return ("video", self.video) if self.group is None else ("group", self.group)


@dataclass(frozen=True)
class Task:
    """Classes that arrive together.

    Attributes:
        classes: their names, in the order of their label ids.
        train: instances to train on; each class has some.
        val: instances to choose hyper-parameters by; may be empty.
        test: instances that are reported; may be empty.
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
                        f"{split} instance {instance.video!r} is of class {instance.label!r}, which is not one of its "
                        f"task's {len(known)} classes ({_some(self.classes)})"
                    )
        trained = {instance.label for instance in self.train}
        if without := [name for name in self.classes if name not in trained]:
            raise ScenarioError(
                f"class {without[0]!r} has no training instance ({len(without)} of {len(known)} classes of its task "
                "have none); give it some, or leave the class out"
            )

    def split(self, name: str) -> tuple[ScenarioInstance, ...]:
        """The instances of `train`, `val` or `test`."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class Scenario:
    """A sequence of tasks. The label id of a class is its place in the order of first appearance.

    Attributes:
        name: for people.
        tasks: in the order in which they arrive.
        origin: how it came about, in a sentence; empty if unknown.

    Raises:
        ScenarioError: there are no tasks, or a class is in two.
    """

    name: str
    tasks: tuple[Task, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        _require_text(self.name, "a scenario's name")
        if not self.tasks:
            raise ScenarioError(f"scenario {self.name!r} has no tasks; allowed: 1 or more")
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            places = [str(number) for number, task in enumerate(self.tasks, 1) if twice[0] in task.classes]
            raise ScenarioError(
                f"class {twice[0]!r} is listed twice (task {', '.join(places)}); the classes of tasks must be disjoint"
            )

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.tasks)

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names; the place of each is its label id."""
        return tuple(name for task in self.tasks for name in task.classes)

    @property
    def label_ids(self) -> dict[str, int]:
        """Class name -> label id."""
        return {name: number for number, name in enumerate(self.classes)}

    @property
    def evaluation_split(self) -> str:
        """The split that accuracies are reported on: `test`, or `val` where there is no test split (ActivityNet).

        Raises:
            ScenarioError: there is neither.
        """
        for split in ("test", "val"):
            if self.count(split):
                return split
        raise ScenarioError(f"scenario {self.name!r} has neither test nor val instances; one of them is needed")

    def count(self, split: str) -> int:
        """Instances of a split over all tasks."""
        return sum(len(task.split(split)) for task in self.tasks)

    def instances(self, split: str) -> Iterator[ScenarioInstance]:
        """The instances of a split, task after task."""
        return (instance for task in self.tasks for instance in task.split(split))


def brief(value: object) -> str:
    """A value for an error: the beginning of a text or number, the type of anything else (it may be large or deep)."""
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() < 64):
        return repr(value)
    return f"a {type(value).__name__}"


def _require_text(value: object, what: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ScenarioError(f"{what} must be a text that isn't empty, not {brief(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ScenarioError(f"{what}, {brief(value)}, holds half a surrogate pair, which is no text") from None


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
