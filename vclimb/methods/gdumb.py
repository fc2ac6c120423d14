"""GDumb (Prabhu et al., ECCV 2020): the memory takes a task's clips first, and a new network learns it alone.

vclimb train shards/ucf101 --out runs/gdumb --tasks 10 --method gdumb --budget 2020v --frames 8
"""

from __future__ import annotations

import numpy as np

from vclimb.methods.method import Method, TaskData, TaskInfo
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.errors import SettingsError


class GDumb(Method):
    """Softmax cross-entropy over all classes so far, on the memory's exemplars alone, from the initial weights.

    What it reaches is what the memory holds: nothing else passes from one task to the next. The paper lowers the
    learning rate by cosines with restarts (SGDR) from 0.05 to 0.0005 and mixes clips by CutMix; here the rate follows
    `training.schedule`, whose cosine has no restarts and ends at 0, and clips are not mixed. The greedy sampler of the
    paper balances classes as the memory's budget does; exemplars are drawn at random.
    """

    name = "gdumb"
    summary = "A new network for each task, trained on the memory alone; needs a budget."
    replays = True
    memory_first = True
    restarts = True
    memory_settings = frozenset({"budget", "frames", "frame_choice", "video_choice", "codec", "rebalance"})

    def training_items(self, task: TaskInfo, data: TaskData) -> Indices | None:
        exemplars = np.flatnonzero(data.is_exemplar)
        if not len(exemplars):
            raise SettingsError(
                f"method gdumb trains on exemplars alone, and the memory holds none after the clips of task "
                f"{task.number + 1}; allow a larger memory.budget"
            )
        return exemplars
