"""Fine-tuning on each task alone: the lower bound.

vclimb train shards/ucf101 --out runs/finetune --tasks 10 --method finetune
"""

from __future__ import annotations

from vclimb.methods.method import Method


class Finetune(Method):
    """Softmax cross-entropy over all classes so far, on the current task's clips."""

    name = "finetune"
    summary = "Fine-tuning on each task alone: the lower bound."
