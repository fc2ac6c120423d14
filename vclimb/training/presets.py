"""The benchmark's settings for each row of its tables (Villa et al., CVPR 2022), by name: `ucf101-10/icarl`.

A name is DATASET-TASKS/METHOD, with `+tc` behind for temporal consistency. The memory holds as many videos as the
paper's, with 8 frames each unless `--frames` says otherwise (`all` is the first table's). Epochs and batch size are
UCF101's; the other data sets take the same here.
"""

from __future__ import annotations

import difflib

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, merged

MEMORY_VIDEOS = {"ucf101": 2020, "kinetics": 8000, "activitynet-trim": 4000, "activitynet-untrim": 4000}
"""Data set -> videos in the memory."""
TASKS = (10, 20)
CONSISTENCY = "+tc"

_COMMON: Table = {
    "model": {"backbone": "resnet34.tv_in1k", "weights": "pretrained", "dropout": 0.5, "clip_frames": 8, "size": 224},
    "training": {
        "epochs": 50,
        "batch_size": 50,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "clip_norm": 20.0,
    },
}
_REGULARISED: Table = {"training": {"batch_size": 64, "optimizer": "adagrad"}}
_OF_METHOD: dict[str, Table] = {
    "finetune": {},
    "naive": {"memory": {"frames": 8}},
    "ewc": merged(_REGULARISED, {"training": {"epochs": 30}, "method": {"strength": 3e3}}),
    "mas": merged(_REGULARISED, {"training": {"epochs": 20}, "method": {"strength": 3e5}}),
    "lwf": {},
    "icarl": {"memory": {"frames": 8}},
    "bic": {"memory": {"frames": 8}},
    "joint": {},
}


def preset_names() -> list[str]:
    """All presets."""
    return [
        f"{data}-{tasks}/{method}{consistency}"
        for data in MEMORY_VIDEOS
        for tasks in TASKS
        for method in _OF_METHOD
        for consistency in ("", CONSISTENCY)
    ]


def preset_table(name: str) -> Table:
    """The settings of a preset; the data set and the scenario's task file are for the caller to name.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(
            f"preset {name!r} is not known; {hint}allowed: DATASET-TASKS/METHOD, of {', '.join(MEMORY_VIDEOS)}; "
            f"{' or '.join(map(str, TASKS))}; {', '.join(_OF_METHOD)}; {CONSISTENCY} behind adds temporal "
            "consistency"
        )
    scenario, _, method = name.partition("/")
    of_method = _OF_METHOD[method.removesuffix(CONSISTENCY)]
    table = merged(_COMMON, {"method": {"name": method.removesuffix(CONSISTENCY)}}, of_method)
    if "memory" in of_method:
        videos = MEMORY_VIDEOS[scenario.rpartition("-")[0]]
        table = merged(table, {"memory": {"budget": f"{videos}v"}})
    if method.endswith(CONSISTENCY):
        table = merged(table, {"consistency": {"weight": 0.5}})
    if scenario.startswith("activitynet-untrim"):
        table = merged(table, {"scenario": {"untrimmed": True}})
    return table
