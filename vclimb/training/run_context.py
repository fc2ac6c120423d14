"""What the parts of a run share, and the state of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vclimb.memory.replay import ReplayMemory
from vclimb.memory.store.reader import MemoryStore
from vclimb.methods.method import Method, TaskInfo
from vclimb.pipeline.clips.dice import bits
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import Choice, open_stream
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.clocks import IdleClock, PhaseClock
from vclimb.training.config import RunConfig
from vclimb.training.hidden_settings import HiddenSettings
from vclimb.training.learner import Learner
from vclimb.training.predictor import Predictor
from vclimb.training.processes import Processes
from vclimb.training.run_log import RunLog
from vclimb.training.start import StartClock
from vclimb.training.stopping import StopRequest
from vclimb.training.training_data import RunData


@dataclass
class TaskState:
    """State of the task that is under way.

    Attributes:
        phase: Phase that a checkpoint resumes: `train`, `memory`, or `complete` after the last task.
        stream: {epoch, position} of the training clips; None before training begins.
        replayed: Number of exemplars that are trained on.
        skipped: Number of clips that were replaced, since their bytes are damaged.
        idle: Time spent waiting in training; None where this process did not train the task.
        best: Score, epoch and network of the best epoch, where one is selected.
        taken_from: Beginning that the task's training was taken from; None: this run trains the task.
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
    taken_from: str | None = None


@dataclass
class RunContext:
    """What the parts of a run share. Methods that keep nothing leave `memory` unused."""

    config: RunConfig
    data: RunData
    processes: Processes
    log: RunLog
    stop: StopRequest
    method: Method
    learner: Learner
    predictor: Predictor
    memory: ReplayMemory
    start: StartClock = field(default_factory=StartClock)

    def stored_memory(self) -> MemoryStore | None:
        """Open the memory as it is now; None where there is none, or an empty one."""
        if not self.method.replays or not self.memory.path.exists():
            return None
        store = self.memory.open()
        return store if len(store) else None

    @contextmanager
    def training(self, task: int) -> Iterator[None]:
        """Hide, within a block that trains a task, the settings that the task's training can't depend on.

        Those are the memory's in the first task, so that runs which differ in them share that training.
        """
        config, memory = self.config, self.memory
        if not task:
            self.config = config.beginning()
            self.memory = HiddenSettings("memory", {})  # type: ignore[assignment]  # nothing in it may be read
        try:
            yield
        finally:
            self.config, self.memory = config, memory

    def epochs_of(self, task: int) -> int:
        """Number of epochs of a task; 0 where the method doesn't train the network on it."""
        trains = self.method.trains(TaskInfo(task, self.data.classes_per_task))
        return self.config.training.epochs_of(task) if trains else 0

    def seed(self, task: int, *more: int) -> int:
        """Derive a seed for a task, and for further numbers that tell uses apart."""
        return int(bits(self.config.seed, task, *more)) >> 2

    def open_stream(self, provider: ClipProvider, settings: StreamSettings) -> tuple[ClipStream, Choice]:
        """Open a clip stream with the decoder and workers of the run's settings."""
        compute = self.config.compute
        return open_stream(provider, self.data.codec, settings, self.processes.device, compute.decoder, compute.workers)

    def progress(self, what: str, total: int) -> Callable[[int], None]:
        """Make a function that counts clips as done, over all processes, and stops the run where that was requested."""
        done = 0

        def on_clips(clips: int) -> None:
            nonlocal done
            done += clips * self.processes.world_size
            self.log.advance(what, min(done, total), total)
            self.stop.check()

        return on_clips
