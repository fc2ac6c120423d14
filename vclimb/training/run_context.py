"""What all parts of a run share, and where a task stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vclimb.memory.replay import ReplayMemory
from vclimb.memory.store.reader import MemoryStore
from vclimb.methods.method import Method, TaskInfo
from vclimb.pipeline.clips.dice import bits
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.scenario import MatchedScenario, TaskSequence
from vclimb.training.clocks import IdleClock, PhaseClock
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.predictor import Inference
from vclimb.training.processes import Processes
from vclimb.training.run_log import RunLog
from vclimb.training.stopping import StopRequest

# The released code passes over videos with fewer frames than a clip has segments, in evaluation.
_RELEASED_LEAST_FRAMES = 8


@dataclass
class TaskState:
    """A task under way.

    Attributes:
        info: which one.
        phase: from where a checkpoint goes on: `train`, `memory`, or `complete` after the last task.
        stream: {epoch, position} of its clips, if training has begun.
        replayed: exemplars that it is trained on.
        steps: taken so far.
        skipped: clips that were replaced, as their bytes are damaged.
        clock: what its phases took.
        idle: how much of its training was waited; None where this process trained nothing of it.
        best: score, epoch and network of the best epoch, where one is selected.
    """

    info: TaskInfo
    phase: str = "train"
    stream: dict[str, int] | None = None
    replayed: int = 0
    steps: int = 0
    skipped: int = 0
    clock: PhaseClock = field(default_factory=PhaseClock)
    idle: IdleClock | None = None
    best: dict[str, Any] | None = None


@dataclass
class RunContext:
    """What all parts of a run share.

    Attributes:
        config: of the run.
        dataset: prepared.
        matched: the scenario on it.
        processes: that share the work.
        log: is told what happens.
        stop: may ask for an end.
        method: that is run.
        learner: the network.
        inference: passes of it over items.
        memory: that is replayed, by methods that do.
    """

    config: RunConfig
    dataset: StoredDataset
    matched: MatchedScenario
    processes: Processes
    log: RunLog
    stop: StopRequest
    method: Method
    learner: Learner
    inference: Inference
    memory: ReplayMemory

    @property
    def scenario(self) -> TaskSequence:
        return self.matched.scenario

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of each task."""
        return tuple(len(task.classes) for task in self.scenario)

    @property
    def n_classes(self) -> int:
        """Classes of all tasks."""
        return sum(self.sizes)

    @property
    def codec(self) -> str:
        """Of the data set's frames."""
        return self.dataset.settings.codec

    @property
    def least_frames(self) -> int:
        """Shorter instances are not evaluated."""
        return _RELEASED_LEAST_FRAMES if self.method.released else 1

    def stored_memory(self) -> MemoryStore | None:
        """The memory as it is; None where there is none, or nothing in it."""
        if not self.method.replays or not self.memory.path.exists():
            return None
        store = self.memory.open()
        return store if len(store) else None

    @cached_property
    def content(self) -> str:
        """Digest of the clips that the run is about."""
        return self.matched.digest(self.dataset)

    def seed(self, task: int, *more: int) -> int:
        """A seed of its own for each task, and for whatever else."""
        return int(bits(self.config.seed, task, *more)) >> 2

    def progress(self, what: str, total: int) -> Callable[[int], None]:
        """Tells the log of clips that are done, over all processes; ends here if the run was asked to stop."""
        done = 0

        def on_clips(clips: int) -> None:
            nonlocal done
            done += clips * self.processes.world_size
            self.log.advance(what, min(done, total), total)
            self.stop.check()

        return on_clips
