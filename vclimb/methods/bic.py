"""BiC (Wu et al., CVPR 2019): distillation, then a scale and an offset for the newest classes, fitted on a hold-out.

vclimb train shards/ucf101 --out runs/bic --tasks 10 --method bic --budget 2020v --frames 8
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vclimb.methods.bias import BiasCorrection, Split, hold_out, released_fit, released_hold_out
from vclimb.methods.distillation import TEMPERATURE, bic_loss
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, TaskData, TaskInfo, Terms
from vclimb.methods.old_model import DistillingMethod
from vclimb.model.clip_model import ClipModel
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import bits


class BiCConfig(MethodConfig):
    """Settings of BiC.

    Attributes:
        hold_out: Share of an old class's exemplars that is held out to fit the bias (section 3.2: 1 in 10).
        temperature: Temperature of the distillation (equation 1).
        bias_decay: Decay of the fit towards scale 1 and offset 0.
        bias_epochs: Number of epochs of the released protocol's fit, by SGD.
        bias_batch_size: Number of clips in a batch of the released protocol's fit.
    """

    hold_out: float = Field(default=0.1, gt=0, lt=1)
    temperature: float = Field(default=TEMPERATURE, gt=0, le=1e6)
    bias_decay: float = Field(default=1e-3, gt=0, le=1e6)
    bias_epochs: int = Field(default=50, ge=1, le=100_000)
    bias_batch_size: int = Field(default=50, ge=1, le=100_000)


class BiC(DistillingMethod[BiCConfig]):
    """Stage 1 trains the network without the hold-out; stage 2 fits the newest classes' scale and offset on it."""

    name = "bic"
    summary = "Replay, distillation, and a bias correction of the newest classes; needs a budget."
    Config = BiCConfig
    replays = True
    video_choice = "herding"

    _correction = _old_correction = BiasCorrection()

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        super().begin_task(task, model)
        self._old_correction = self._correction
        self._correction = self._correction.next_task(task.n_new, keep=self.differences.bic_fit == "steps")

    def training_items(self, task: TaskInfo, data: TaskData) -> Indices | None:
        return self._hold_out(task, data)[0] if task.number else None

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        old_logits = self.old_logits(batch.clips)
        corrected = None if old_logits is None else self._old_correction(old_logits)
        classification = self.classification(outputs, batch.labels)
        return {"bic": bic_loss(classification, outputs.logits, corrected, self.config.temperature)}

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        if not task.number:
            return
        outputs = data.outputs(self._hold_out(task, data)[1])
        labels = torch.from_numpy(outputs.labels)
        if self.differences.bic_fit == "steps":
            self._correction = released_fit(self._correction, self._batches(outputs.logits, labels, data.seed))
        else:
            self._correction = self._correction.fitted(outputs.logits, labels, self.config.bias_decay)

    def scores(self, logits: Tensor) -> Tensor:
        return self._correction(logits)

    def _hold_out(self, task: TaskInfo, data: TaskData) -> Split:
        if self.differences.bic_hold_out == "last":
            return released_hold_out(data.labels, self.config.hold_out)
        return hold_out(data.labels, data.names, task.n_old, self.config.hold_out, data.seed)

    def _batches(self, logits: Tensor, labels: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the hold-out in batches, in a new order in each epoch."""
        size = self.config.bias_batch_size
        for epoch in range(self.config.bias_epochs):
            order = torch.from_numpy(np.argsort(bits(seed, epoch, np.arange(len(labels))), kind="stable"))
            for start in range(0, len(order), size):
                chosen = order[start : start + size]
                yield logits[chosen], labels[chosen]

    def state_dict(self) -> dict[str, Any]:
        corrections = {"correction": self._correction, "old_correction": self._old_correction}
        return {
            **super().state_dict(),
            **{
                name: {field: list(values) for field, values in asdict(correction).items()}
                for name, correction in corrections.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        super().load_state_dict(state, model)
        self._correction, self._old_correction = (
            BiasCorrection(**{field: tuple(values) for field, values in state[name].items()})
            for name in ("correction", "old_correction")
        )
