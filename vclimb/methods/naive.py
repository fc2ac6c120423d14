"""Naive replay: the exemplars are trained on together with the new clips, and nothing else is done (Villa et al.)."""

from __future__ import annotations

from vclimb.methods.finetune import Finetune


class Naive(Finetune):
    """Fine-tuning on the current task's clips and the memory's, joined."""

    name = "naive"
    replays = True
