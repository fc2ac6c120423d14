"""Outputs of the network, in evaluation mode, for training clips: what the released code's BiC fits its bias on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from vclimb.methods.method import StepOutputs
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ChosenItems
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.run_context import RunContext
from vclimb.training.second_view import DOWN_SAMPLED, SecondView
from vclimb.training.training_clips import training_stream, training_view
from vclimb.training.training_data import TrainingItems

Batch = tuple[StepOutputs, Tensor]
"""Outputs and labels."""


class TrainingOutputs:
    """Passes of the network over the training clips of the `chosen` items of a task."""

    def __init__(self, run: RunContext, items: TrainingItems, chosen: Indices) -> None:
        self._run, self._items, self._chosen = run, items, chosen
        self._clip = training_view(run)
        self._second = SecondView(run, items, self._clip)

    def epochs(self, task: int) -> Iterator[Iterable[Batch]]:
        """Yield the batches of each epoch of a task's training, whole on every process."""
        run, second = self._run, self._second.view
        views = (self._clip, second) if second is not None and run.config.consistency.weight else (self._clip,)
        settings = training_stream(run, views, run.seed(task, 3))
        n_epochs = run.config.training.epochs_of(task)
        if settings.drop_last and len(self._chosen) < run.config.training.batch_size:
            yield from ([] for _ in range(n_epochs))
            return
        on_clips = run.progress("hold-out", n_epochs * len(self._chosen))
        stream, _ = run.open_stream(ChosenItems(self._items.provider, self._chosen), settings)
        with stream:
            for _ in range(n_epochs):
                yield self._epoch(stream, on_clips)

    def _epoch(self, stream: ClipStream, on_clips: Callable[[int], None]) -> Iterator[Batch]:
        for batch in stream:
            yield self._outputs(batch)
            on_clips(len(batch.keys))

    @torch.no_grad()
    def _outputs(self, batch: ClipBatch) -> Batch:
        """Compute this process' share of a batch, and join the shares of all processes."""
        learner, views = self._run.learner, dict(batch.views)
        if DOWN_SAMPLED in views:
            views[DOWN_SAMPLED] = self._second.shown(views[DOWN_SAMPLED], self._chosen[batch.plan.items])
        was_training = learner.model.training
        learner.model.eval()
        with torch.autocast(learner.device.type, learner.autocast, enabled=learner.autocast is not None):
            logits = {name: learner.model(clips).float().cpu() for name, clips in views.items() if len(clips)}
        learner.model.train(was_training)
        shares = self._run.processes.gather((logits, batch.labels.cpu()))
        whole = {name: torch.cat([part[name] for part, _ in shares if part]) for name in shares[0][0]}
        outputs = StepOutputs(whole[self._clip.name], whole.get(DOWN_SAMPLED))
        return outputs, torch.cat([labels for _, labels in shares])
