"""The new instances of a task that may become exemplars, with the features by which the memory chooses among them."""

from __future__ import annotations

import numpy as np

from vclimb.memory.replay import ClassInstances
from vclimb.methods.method import TaskInfo
from vclimb.training.run_context import RunContext
from vclimb.training.training_data import TrainingItems


def memory_candidates(run: RunContext, info: TaskInfo, items: TrainingItems) -> list[ClassInstances]:
    """List the candidates of a task's classes; those that can't be read are named in the log, where features count."""
    candidates = items.candidates(range(info.n_old, info.n_classes), run.data.scenario.classes)
    if not run.memory.settings.needs_features:
        return candidates
    on_clips = run.progress("features", len(items.new.items))
    outputs = run.predictor.readable_outputs(run.learner.model, items.new, on_clips)
    features = outputs.features.numpy()
    for item in np.setdiff1d(np.arange(len(items.new.items)), outputs.items).tolist():
        key = str(items.new.items.keys[item])
        run.log.event("warning", text=f"passed over as an exemplar: {key!r} has frames that can't be read")
    return [candidate.readable(outputs.items, features) for candidate in candidates]
