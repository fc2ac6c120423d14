"""The new instances of a task that may become exemplars, with their features and logits where the memory needs them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vclimb.memory.replay import ClassInstances
from vclimb.memory.store.stored_class import LOGITS
from vclimb.methods.method import TaskInfo
from vclimb.training.frozen_outputs import outputs_of_new
from vclimb.training.run_context import RunContext
from vclimb.training.stored_logits import logits_to_keep
from vclimb.training.training_data import TrainingItems


def memory_candidates(run: RunContext, info: TaskInfo, items: TrainingItems) -> list[ClassInstances]:
    """List the candidates of a task's classes, with what the network says of them where that counts.

    Those that can't be read are left out then, and named in the log.
    """
    candidates = items.candidates(range(info.n_old, info.n_classes), run.data.scenario.classes)
    if not run.memory.settings.needs_features and not run.method.keeps_logits:
        return candidates
    outputs = outputs_of_new(run, items)
    features = (outputs.features if outputs.frames is None else outputs.frames).numpy()
    readable = [candidate.readable(outputs.items, features) for candidate in candidates]
    if not run.method.keeps_logits:
        return readable
    logits = logits_to_keep(outputs.logits)
    return [
        replace(candidate, arrays={LOGITS: logits[np.searchsorted(outputs.items, candidate.items)]})
        for candidate in readable
    ]
