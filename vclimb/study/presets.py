"""Presets of studies. Settings that suit the data set (model, epochs, scenario) come from flags or a study's file."""

from __future__ import annotations

from vclimb.settings import Table

# Without rebalancing, coarse exemplars would use less of an equal budget.
_EVEN = {"rebalance": True}
_FRAMES = [1, 2, 4, 8, 16, "all"]
# Villa et al., section 5: regularisation methods are trained with Adagrad, in larger batches.
_REGULARISED = {"training.batch_size": 64, "training.optimizer": "adagrad"}
_EWC = {"method": {"name": "ewc", "strength": 3e3}, "training.epochs": 30, **_REGULARISED}
_MAS = {"method": {"name": "mas", "strength": 3e5}, "training.epochs": 20, **_REGULARISED}

PRESETS: dict[str, Table] = {
    # Number of frames kept of a video, at equal bytes and at equal videos.
    "memory-vs-frames": {
        "name": "memory-vs-frames",
        "base": {"method": "naive", "scenario": {"tasks": 10}, "memory": _EVEN},
        "axes": {"memory.frames": _FRAMES, "seed": [0, 1]},
        "constraints": {"equal": ["bytes", "videos"], "budgets": ["2%", "5%", "10%"]},
    },
    # What is kept, at equal bytes: statistics or features of a frozen network, frames, and tiny videos. Statistics
    # take the same bytes at every budget, so they are run once, and the largest budget must hold them.
    "kinds-of-memory": {
        "name": "kinds-of-memory",
        "base": {"scenario": {"tasks": 10}},
        "cells": [
            {"method": {"name": "analytic", "head": "nearest-mean"}},
            {"method": {"name": "analytic", "head": "ridge"}},
            {"method": {"name": "analytic", "head": "ridge", "projection": "auto"}},
            {"method": "features", "memory.codec": "features:fp16"},
            {"method": "naive", "memory.frames": 1},
            {"method": "naive", "memory.frames": 8},
            {"method": "naive", "memory.frames": 8, "memory.codec": "h264:24"},
        ],
        "axes": {"seed": [0, 1]},
        "constraints": {"equal": "bytes", "budgets": ["50kB", "200kB", "800kB", "2MB", "8MB"]},
    },
    # Encoding of exemplars, at equal bytes.
    "codecs": {
        "name": "codecs",
        "base": {"method": "naive", "scenario": {"tasks": 10}, "memory": {"frames": 8, **_EVEN}},
        "axes": {
            "memory.codec": ["copy", "jpeg:75", "jpeg:50", "jpeg:75@128", "webp:75", "webp:75@128", "h264:28"],
            "seed": [0, 1],
        },
        "constraints": {"equal": "bytes", "budgets": ["2%"]},
    },
    # Baselines with a memory of whole videos.
    "paper-table-a": {
        "name": "paper-table-a",
        "base": {"scenario": {"tasks": 10}, "memory": {"budget": "2020v", "frames": "all"}},
        "cells": [_EWC, _MAS, {"method": "naive"}, {"method": "icarl"}, {"method": "bic"}],
    },
    # Fewer frames of each video, with temporal consistency and without.
    "paper-table-b": {
        "name": "paper-table-b",
        "base": {"method": "icarl", "scenario": {"tasks": 10}, "memory": {"budget": "2020v"}},
        "axes": {"memory.frames": [4, 8, 16, "all"], "consistency.weight": [0.0, 0.5]},
    },
    # Untrimmed and trimmed videos, with temporal consistency and without; needs ActivityNet's task file.
    "paper-table-c": {
        "name": "paper-table-c",
        "base": {"method": "icarl", "memory": {"budget": "4000v"}},
        "axes": {
            "scenario.untrimmed": [True, False],
            "memory.frames": [4, 8, 16],
            "consistency.weight": [0.0, 0.5],
        },
    },
}
"""Contents of studies' files, by name."""
