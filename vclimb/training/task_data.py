"""The items of a task as a method sees them: batches for importances, and outputs on chosen items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from vclimb.methods.method import TaskInfo
from vclimb.model.inference import Outputs
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.training.run_context import RunContext
from vclimb.training.training_clips import training_view
from vclimb.training.training_data import ChosenItems, TrainingItems


class RunTaskData:
    """Implements `vclimb.methods.method.TaskData`."""

    def __init__(self, run: RunContext, items: TrainingItems, info: TaskInfo) -> None:
        self._run = run
        self._items = items
        self._info = info
        self.labels: Indices = items.labels
        self.names = items.names
        self.seed = run.config.seed

    def batches(self, training_clips: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        run, config = self._run, self._run.config
        size = config.model.size
        settings = StreamSettings(
            batch_size=max(1, config.training.batch_size // run.processes.world_size),
            views=(training_view(run) if training_clips else View(n_frames=config.model.clip_frames, random=False),),
            augmentation=Augmentation(size) if training_clips else Augmentation.evaluation(size),
            seed=run.seed(self._info.number, 2),
            shuffle=False,
            rank=run.processes.rank,
            world_size=run.processes.world_size,
            on_bad_frame="skip",
        )
        on_clips = run.progress("importance", len(self._items.new.items))
        stream, _ = run.open_stream(self._items.new, settings)
        with stream:
            for batch in stream:
                yield batch.frames, batch.labels
                on_clips(len(batch.keys))

    def outputs(self, items: Indices) -> Outputs:
        run = self._run
        chosen = ChosenItems(self._items.provider, items)
        outputs = run.predictor.readable_outputs(run.learner.model, chosen, run.progress("hold-out", len(items)))
        return Outputs(np.asarray(items)[outputs.items], outputs.labels, outputs.features, outputs.logits)

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        return self._run.processes.sum(tensor)
