"""The training step as a CUDA graph: recorded once a task for each size of a batch, then replayed by one launch.

Python needs longer to launch the kernels of a step at 112 pixels than the GPU to run them (docs/performance.md). The
first steps run as written, and are steps of the training like all others: they plan convolutions and make the state of
the optimiser. The step after them is recorded and replayed. A step that can't be recorded keeps running as written, and
the reason is reported. The last batch of an epoch has another size; once it has come a few times, it is recorded too.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vclimb.methods.method import Terms
from vclimb.pipeline.errors import VclimbError

WARM_UP_STEPS = 2
WARM_UP_STEPS_OF_SEVERAL = 12
"""Steps before the recording where processes exchange gradients: the exchange changes within its first eleven."""
WARM_UP_STEPS_OF_OTHER_SIZES = 4
"""Steps with a batch of another size before it is recorded: recording takes as long as about two steps save."""
MOST_RECORDINGS = 4
"""Sizes of a batch that are recorded: clips that can't be read make batches of many sizes."""
_MAX_REASON = 300  # characters
_SYNCHRONISES = "called a synchronizing"  # of torch's warning


class StepGraphError(VclimbError):
    """The step can't be recorded, and `compute.graphs` asks for it."""


Shapes = tuple[tuple[torch.Size, tuple[int, ...]] | None, ...]


@dataclass(frozen=True)
class StepInputs:
    """All that differs from step to step, besides learning rates.

    Attributes:
        clips: (B, T, 3, H, W) uint8 clips.
        labels: (B,) int64 label ids.
        items: (B,) int64 numbers of the clips among the task's items.
        down_sampled: (B, T, 3, H, W) uint8, down-sampled clips; None where the step has none.
        stored_logits: (B, C) float32, as `StepBatch` has them; None where the step has none.
    """

    clips: Tensor
    labels: Tensor
    items: Tensor
    down_sampled: Tensor | None = None
    stored_logits: Tensor | None = None

    def copies(self) -> StepInputs:
        """Copy all tensors, each in its own memory layout."""
        values: list[Any] = [value if value is None else value.clone() for value in self._values()]
        return StepInputs(*values)

    def take(self, inputs: StepInputs) -> None:
        """Copy the values of other inputs of the same shapes into these tensors."""
        for mine, value in zip(self._values(), inputs._values(), strict=True):
            if mine is not None and value is not None:
                mine.copy_(value)

    def shapes(self) -> Shapes:
        """Describe what a recording fixes: the shapes and layouts of all tensors."""
        return tuple(None if value is None else (value.shape, value.stride()) for value in self._values())

    def _values(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]


Step = Callable[[StepInputs], Terms]
Report = Callable[[bool, str], None]
"""Called once a task: whether the step is replayed as a graph, and the reason."""


@dataclass(frozen=True)
class _Recording:
    """A step on inputs of one shape, and where its inputs and the terms of its loss lie."""

    graph: torch.cuda.CUDAGraph
    inputs: StepInputs
    terms: Terms


class StepGraph:
    """Takes the steps of a task: as written at first, then as graphs.

    All steps of the task have to run within `stream`, whether by this object or not, since gradients are summed on the
    stream on which a parameter was used first.

    Args:
        step: A step of the training, from its inputs to the detached terms of its loss.
        report: Told whether the step is replayed, as soon as that is known.
        obstacle: Reason why the step must not be recorded; None: it is tried.
        required: Whether a step that can't be recorded is an error.
        warm_up: Number of steps before the recording.
    """

    def __init__(
        self, device: torch.device, step: Step, report: Report, obstacle: str | None, required: bool, warm_up: int
    ) -> None:
        self._step, self._report, self._required = step, report, required
        self._device, self._left = device, warm_up
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._recordings: dict[Shapes, _Recording] = {}
        self._others: Counter[Shapes] = Counter()  # steps with inputs of other shapes than the first recording's
        self._is_decided = False
        if obstacle is not None:
            self._give_up(obstacle)

    @contextmanager
    def stream(self) -> Generator[None, None, None]:
        """Run the block's kernels on the stream of the steps, between those before and after the block."""
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)

    def __call__(self, inputs: StepInputs) -> Terms:
        """Take a step. The terms are valid until the next step."""
        shapes = inputs.shapes()
        if not self._is_decided:
            if self._left:
                return self._warm_up(inputs)
            self._record(inputs)
        elif self._recordings and shapes not in self._recordings:
            self._others[shapes] += 1
            is_frequent = self._others[shapes] == WARM_UP_STEPS_OF_OTHER_SIZES + 1
            if is_frequent and len(self._recordings) < MOST_RECORDINGS:
                self._record(inputs)
        recording = self._recordings.get(shapes)
        if recording is None:
            return self._step(inputs)
        recording.inputs.take(inputs)
        recording.graph.replay()
        return recording.terms

    def _warm_up(self, inputs: StepInputs) -> Terms:
        """Take a step as written; the last one tells whether Python waits for the GPU, which no graph can."""
        self._left -= 1
        if self._left:
            return self._step(inputs)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                terms = self._step(inputs)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits = [warning for warning in caught if _SYNCHRONISES in str(warning.message)]
        if waits:
            places = {f"{warning.filename.rpartition('/')[2]}:{warning.lineno}" for warning in waits}
            self._give_up(f"the step waits for the GPU in {', '.join(sorted(places))}")
        return terms

    def _record(self, inputs: StepInputs) -> None:
        """Record the step without taking it. Recordings share their memory, since one is replayed at a time."""
        first = next(iter(self._recordings.values()), None)
        used, most = torch.cuda.max_memory_allocated(self._device), torch.cuda.mem_get_info(self._device)[1]
        if 2 * used > most:  # the recording has memory of its own beside that of the steps that run as written
            self._give_up(f"it needs {used / 2**30:.0f} GiB beside the same for other steps, of {most / 2**30:.0f} GiB")
            return
        random_state = torch.cuda.get_rng_state(self._device)
        graph, own = torch.cuda.CUDAGraph(), inputs.copies()
        try:
            pool = None if first is None else first.graph.pool()
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                terms = self._step(own)
        except (RuntimeError, NotImplementedError) as error:  # whatever a method's or a network's code does
            torch.cuda.set_rng_state(random_state, self._device)
            self._give_up(" ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON])
            return
        self._recordings[inputs.shapes()] = _Recording(graph, own, terms)
        if first is None:
            self._is_decided = True
            self._report(True, "batches of a size that comes again and again are replayed, others run as written")

    def _give_up(self, reason: str) -> None:
        """Run steps as written from now on; steps that are recorded already are still replayed."""
        if self._recordings:
            return
        self._is_decided = True
        if self._required:
            raise StepGraphError(f"compute.graphs on: the step can't be replayed as a graph: {reason}; take auto")
        self._report(False, reason)
