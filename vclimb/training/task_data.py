"""The items of a task as a method sees them: batches for importances, and outputs on chosen items."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from vclimb.methods.batch import FeatureSamples
from vclimb.methods.method import StepOutputs, TaskInfo
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import Outputs
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import ChosenItems
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.training.evaluation import selection_score
from vclimb.training.frozen_outputs import feature_samples, name_left_out
from vclimb.training.learner import grow
from vclimb.training.run_context import RunContext
from vclimb.training.training_clips import training_stream, training_view
from vclimb.training.training_data import TrainingItems
from vclimb.training.training_outputs import TrainingOutputs


class RunTaskData:
    """Implements `vclimb.methods.method.TaskData`."""

    def __init__(self, run: RunContext, items: TrainingItems, info: TaskInfo) -> None:
        self._run = run
        self._items = items
        self._info = info
        self.labels: Indices = items.labels
        self.names = items.names
        self.is_exemplar = items.is_replay
        self.seed = run.config.seed

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        config = self._run.config
        settings = StreamSettings(
            batch_size=max(1, config.training.batch_size // self._run.processes.world_size),
            views=(View(n_frames=config.model.clip_frames, random=False),),
            augmentation=Augmentation.evaluation(config.model.size),
            shuffle=False,
            rank=self._run.processes.rank,
            world_size=self._run.processes.world_size,
            on_bad_frame="skip",
        )
        yield from self._batches(settings)

    def training_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        run = self._run
        yield from self._batches(training_stream(run, (training_view(run),), run.seed(self._info.number, 2)))

    def training_epochs(self, items: Indices) -> Iterator[Iterable[tuple[StepOutputs, Tensor]]]:
        yield from TrainingOutputs(self._run, self._items, items).epochs(self._info.number)

    def selection_score(self, epoch: int | None = None) -> float | None:
        run, task = self._run, self._info.number
        measured = run.config.training.epochs_of(task) - 1 if epoch is None else epoch
        return selection_score(run, task)[0] if run.config.training.measures(measured, task) else None

    def next_model(self) -> ClipModel | None:
        run, following = self._run, self._info.following
        if following is None:
            return None
        model = copy.deepcopy(run.learner.model)
        grow(model, following.n_classes, run.seed(following.number))
        return model

    def _batches(self, settings: StreamSettings) -> Iterator[tuple[Tensor, Tensor]]:
        run = self._run
        on_clips = run.progress("importance", len(self._items.new.items))
        stream, _ = run.open_stream(self._items.new, settings)
        with stream:
            for batch in stream:
                yield batch.frames, batch.labels
                on_clips(len(batch.keys))

    @torch.no_grad()
    def training_logits(self, model: ClipModel, items: Indices | None) -> tuple[Indices, Tensor]:
        run, number = self._run, self._info.number
        chosen = np.arange(len(self.labels)) if items is None else np.asarray(items)
        settings = training_stream(run, (training_view(run),), run.seed(number, 4))
        stream, _ = run.open_stream(ChosenItems(self._items.provider, chosen), settings)
        on_clips = run.progress("targets", len(chosen))
        share: list[tuple[Indices, Tensor]] = []
        with stream, run.predictor.mixed_precision():
            for batch in stream:
                if n_clips := len(batch.keys):
                    share.append((chosen[batch.plan.items], model(batch.frames).float().cpu()))
                on_clips(n_clips)
        parts = [part for share in run.processes.gather(share) for part in share]
        return np.concatenate([numbers for numbers, _ in parts]), torch.cat([logits for _, logits in parts])

    def outputs(self, items: Indices) -> Outputs:
        run = self._run
        chosen = ChosenItems(self._items.provider, items)
        outputs = run.predictor.readable_outputs(run.learner.model, chosen, run.progress("features", len(items)))
        name_left_out(run, (self.names[item] for item in np.delete(np.asarray(items), outputs.items).tolist()))
        return Outputs(np.asarray(items)[outputs.items], outputs.labels, outputs.features, outputs.logits)

    def feature_samples(self) -> FeatureSamples:
        return feature_samples(self._run, self._items)

    def same_everywhere(self, model: ClipModel) -> None:
        self._run.processes.broadcast_tensors(model.state_dict().values())

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        return self._run.processes.sum(tensor)
