"""The benchmark's settings for each row of its tables (Villa et al., CVPR 2022), by name: `ucf101-10/icarl`.

A name is DATASET-TASKS/METHOD, followed by `+tc` for temporal consistency. The memory holds as many videos as in the
paper, with 8 frames each; `--frames all` gives those of the first table. Settings are those of the released conf files:
of UCF101 for iCaRL, and of Kinetics for EWC and MAS. No others were released, so the other data sets and methods take
the epochs and batch size of these. As in the released code, the best of every second epoch on the validation split is
kept, which for ActivityNet is the reported split. The protocol is not a part of a preset.

`smile-like` and `snro-like` are reconstructions from the abstracts of SMILE (Alssum et al., CVPR Workshops 2023) and
SNRO (Jiao et al., 2024), over naive replay: numbers of theirs are not to be expected. SMILE keeps single frames of
four times as many videos, and learns from single frames of the current videos too; the weight of that loss, 0.5, is
chosen here. SNRO keeps half the frames of a clip of twice as many videos, and stops early after the first task; that
it does so after half the epochs is chosen here.
"""

from __future__ import annotations

import difflib
import itertools

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, merged

MEMORY_VIDEOS = {"ucf101": 2020, "kinetics": 8000, "activitynet-trim": 4000, "activitynet-untrim": 4000}
"""Data set -> number of videos in the memory."""
TASKS = (10, 20)
CONSISTENCY = "+tc"

# What these tables lack is as in `RunConfig`, whose defaults are the benchmark's.
_REGULARISED: Table = {"training": {"batch_size": 64, "optimizer": "adagrad"}}
_METHODS: dict[str, Table] = {
    "finetune": {},
    "naive": {"memory": {"frames": 8}},
    "ewc": merged(_REGULARISED, {"training": {"epochs": 30}, "method": {"strength": 3e3}}),
    "mas": merged(_REGULARISED, {"training": {"epochs": 20}, "method": {"strength": 3e5}}),
    "lwf": {},
    "icarl": {"memory": {"frames": 8}},
    "bic": {"memory": {"frames": 8}},
    "joint": {},
    "smile-like": {
        "method": {"name": "naive"},
        "memory": {"frames": 1},
        "consistency": {"weight": 0.5, "frames": 1},
    },
    "snro-like": {
        "method": {"name": "naive"},
        "memory": {"frames": 4},
        "training": {"first_epochs": 50, "epochs": 25},
    },
}
_TIMES_VIDEOS = {"smile-like": 4, "snro-like": 2}


def preset_names() -> list[str]:
    parts = itertools.product(MEMORY_VIDEOS, TASKS, _METHODS, ("", CONSISTENCY))
    return [
        f"{data}-{tasks}/{method}{consistency}"
        for data, tasks, method, consistency in parts
        if not (method == "smile-like" and consistency)  # it has that loss already
    ]


def preset_table(name: str) -> Table:
    """Make the settings of a preset, without the data set and the task file of the scenario."""
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(
            f"preset {name!r} is not known; {hint}allowed: DATASET-TASKS/METHOD, of {', '.join(MEMORY_VIDEOS)}; "
            f"{' or '.join(map(str, TASKS))}; {', '.join(_METHODS)}; a trailing {CONSISTENCY} adds "
            "temporal consistency"
        )
    scenario, _, method = name.partition("/")
    method_table = _METHODS[method.removesuffix(CONSISTENCY)]
    table = merged({"method": {"name": method.removesuffix(CONSISTENCY)}}, method_table)
    if "memory" in method_table:
        times = _TIMES_VIDEOS.get(method.removesuffix(CONSISTENCY), 1)
        videos = times * MEMORY_VIDEOS[scenario.rpartition("-")[0]]
        table = merged(table, {"memory": {"budget": f"{videos}v"}})
    if method.endswith(CONSISTENCY):
        table = merged(table, {"consistency": {"weight": 0.5}})
    select = "best-reported" if scenario.startswith("activitynet") else "best"
    table = merged(table, {"training": {"select": select, "select_every": 2}})
    if scenario.startswith("activitynet-untrim"):
        table = merged(table, {"scenario": {"untrimmed": True}})
    return table
