"""BiC (Wu et al., CVPR 2019): distillation, then a scale and an offset for the newest classes, fitted on a hold-out.

vclimb train shards/ucf101 --out runs/bic --tasks 10 --method bic --budget 2020v --frames 8
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vclimb.methods.bias import BiasCorrection, Correct, Split, hold_out, released_hold_out, released_step
from vclimb.methods.distillation import TEMPERATURE, bic_loss, lwf_targets
from vclimb.methods.kept import KeptArrays, KeptShape, KeptShapes, NetworkSize
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, TaskData, TaskInfo, Terms
from vclimb.methods.old_model import DistillingMethod
from vclimb.model.clip_model import ClipModel
from vclimb.pipeline.arrays import Indices


class BiCConfig(MethodConfig):
    """Settings of BiC.

    Attributes:
        hold_out: Share of an old class's exemplars that is held out to fit the bias (section 3.2: 1 in 10).
        temperature: Temperature of the distillation (equation 1).
        bias_decay: Decay of the fit towards scale 1 and offset 0.
    """

    hold_out: float = Field(default=0.1, gt=0, lt=1)
    temperature: float = Field(default=TEMPERATURE, gt=0, le=1e6)
    bias_decay: float = Field(default=1e-3, gt=0, le=1e6)


class BiC(DistillingMethod[BiCConfig]):
    """Stage 1 trains the network without the hold-out; stage 2 fits the newest classes' scale and offset on it.

    As in section 3.2 and the authors' code (resnet.py), the losses act on raw logits, the old model's corrected logits
    are distilled, and stage 2 sees clips that are not augmented. The released code corrects the logits of the losses
    too, by the scales and offsets of all tasks, and its stage 2 is as many epochs of training as stage 1 has: augmented
    clips in batches, with temporal consistency where it is on, the last batch dropped, steps of plain SGD. Where the
    hold-out is smaller than a batch, stage 2 takes no step, and nothing is corrected.

    The scale and the offset of each task so far are kept between tasks (`parameters/bias`, float32, a row for each
    task). The old model is a copy of the network that a task begins with, and costs nothing.
    """

    name = "bic"
    summary = "Replay, distillation, and a bias correction of the newest classes; needs a budget."
    Config = BiCConfig
    replays = True
    video_choice = "herding"

    _correction = _old_correction = BiasCorrection()

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        super().begin_task(task, model)
        self._old_correction = self._correction
        self._correction = self._correction.next_task(task.n_new, keep=self.differences.bic_logits == "corrected")

    def training_items(self, task: TaskInfo, data: TaskData) -> Indices | None:
        return self._hold_out(task, data)[0] if task.number else None

    def to_targets(self, old_logits: Tensor) -> Tensor:
        return lwf_targets(self._old_correction(old_logits), self.config.temperature)

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        if self.differences.bic_logits == "corrected":
            outputs = corrected_outputs(outputs, self._correction)
        classification = self.classification(outputs, batch.labels)
        return {"bic": bic_loss(classification, outputs.logits, self.targets(batch), self.config.temperature)}

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        if not task.number:
            return
        held_out = self._hold_out(task, data)[1]
        if self.differences.bic_fit == "steps":
            self._released_fit(held_out, data)
            return
        outputs = data.outputs(held_out)
        labels = torch.from_numpy(outputs.labels)
        self._correction = self._correction.fitted(outputs.logits, labels, self.config.bias_decay)

    def _released_fit(self, held_out: Indices, data: TaskData) -> None:
        """Take the steps of stage 2; where the best epoch is selected, its epochs compete with the best of stage 1."""
        best, score = self._correction, data.selection_score()  # of stage 1
        for number, epoch in enumerate(data.training_epochs(held_out)):
            for outputs, labels in epoch:
                self._correction = released_step(self._correction, partial(self._corrected_loss, outputs, labels))
            reached = data.selection_score(number)
            if score is None or (reached is not None and reached >= score):
                best, score = self._correction, reached
        self._correction = best

    def _corrected_loss(self, outputs: StepOutputs, labels: Tensor, correct: Correct) -> Tensor:
        return self.classification(corrected_outputs(outputs, correct), labels)

    def scores(self, logits: Tensor) -> Tensor:
        return self._correction(logits)

    def _hold_out(self, task: TaskInfo, data: TaskData) -> Split:
        if self.differences.bic_hold_out == "last":
            return released_hold_out(data.labels, self.config.hold_out)
        return hold_out(data.labels, data.names, task.n_old, self.config.hold_out, data.seed)

    def kept(self) -> KeptArrays:
        return {"parameters/bias": torch.tensor([self._correction.scales, self._correction.offsets]).T.contiguous()}

    def kept_shapes(self, task: TaskInfo, network: NetworkSize) -> KeptShapes:
        return {"parameters/bias": KeptShape("float32", (task.number + 1, 2))}

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


def corrected_outputs(outputs: StepOutputs, correct: Correct) -> StepOutputs:
    """Correct the logits of the clips, and of the down-sampled clips where there are any."""
    down = outputs.down_sampled
    return StepOutputs(correct(outputs.logits), None if down is None else correct(down))
