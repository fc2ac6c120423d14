"""Naive replay (Villa et al., "vCLIMB", CVPR 2022): exemplars are mixed with the new clips, and nothing else is done.

vclimb train shards/ucf101 --out runs/naive --tasks 10 --method naive --budget 2020v --frames 8
"""

from __future__ import annotations

from vclimb.methods.method import Method


class Naive(Method):
    """Softmax cross-entropy over all classes so far, on the current task's clips and the memory's exemplars."""

    name = "naive"
    summary = "Replay of exemplars together with the new clips; needs a budget."
    replays = True
