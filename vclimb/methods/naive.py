"""Naive replay (Villa et al., "vCLIMB", CVPR 2022): exemplars are mixed with the new clips, and nothing else is done.

vclimb train shards/ucf101 --out runs/naive --tasks 10 --method naive --budget 2020v --frames 8
"""

from __future__ import annotations

from vclimb.methods.alignment import align_weights
from vclimb.methods.method import Method, MethodConfig, TaskData, TaskInfo
from vclimb.model.clip_model import ClipModel


class NaiveConfig(MethodConfig):
    """Settings of naive replay.

    Attributes:
        align: Whether the head's new weights are scaled to the mean length of the old ones after each task, as WA does.
    """

    align: bool = False


class Naive(Method[NaiveConfig]):
    """Softmax cross-entropy over all classes so far, on the current task's clips and the memory's exemplars."""

    name = "naive"
    summary = "Replay of exemplars together with the new clips; needs a budget."
    Config = NaiveConfig
    replays = True

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        if self.config.align:
            align_weights(model.head, task.n_old)
