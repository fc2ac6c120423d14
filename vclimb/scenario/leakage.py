"""Leakage: evaluation clips that show what training has seen, because another clip is of the same recording.

Clips of one recording share scene, people and light, so that recognising the recording is enough. A split that
separates clips of a recording overstates accuracy and, since a memory may hold that recording, replay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vclimb.pipeline.dataset.text_hashes import are_among
from vclimb.scenario.task_sequence import TaskSequence


@dataclass(frozen=True)
class LeakageShare:
    """Share of evaluation clips whose source is in the training data.

    Attributes:
        leaked: Number of clips that share their group with a training clip of any task; where no group is known, their
            video.
    """

    clips: int
    leaked: int

    @property
    def share(self) -> float | None:
        """Fraction from 0 to 1; None without clips."""
        return self.leaked / self.clips if self.clips else None

    def __str__(self) -> str:
        return "-" if self.share is None else f"{100 * self.share:.1f} %"


@dataclass(frozen=True)
class Leakage:
    """Leakage of one split of a scenario.

    Attributes:
        split: Split that is evaluated, `val` or `test`.
        unknown: Number of clips in the training split and this split without a known group; these clips leak only
            through their video.
    """

    split: str
    overall: LeakageShare
    tasks: tuple[LeakageShare, ...]
    unknown: int


def measure_leakage(scenario: TaskSequence, split: str) -> Leakage:
    """Measure the leakage from the training data of all tasks to an evaluation split.

    UCF101's official split separates clips of a recording: 98.8 % of the benchmark's test clips have their source in
    the training data.
    """
    train, clips = ([task.split(name) for task in scenario] for name in ("train", split))
    sources, seen = (pa.concat_arrays([part.sources() for part in parts]) for parts in (clips, train))
    is_leaked = are_among(sources, seen)
    ends = np.cumsum([*map(len, clips)])
    tasks = tuple(LeakageShare(len(part), int(part.sum())) for part in np.split(is_leaked, ends[:-1]))
    return Leakage(
        split,
        LeakageShare(len(sources), int(is_leaked.sum())),
        tasks,
        sum(part.columns.column("group").null_count for part in (*train, *clips)),
    )
