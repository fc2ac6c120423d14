"""Outputs of a network for the new instances of a task, with features of their frames where a memory keeps these."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from vclimb.methods.batch import FeatureSamples
from vclimb.model.frame_model import shown_frames
from vclimb.model.inference import Outputs
from vclimb.training.memory_settings import frames_to_keep
from vclimb.training.run_context import RunContext
from vclimb.training.training_data import TrainingItems


def outputs_of_new(run: RunContext, items: TrainingItems) -> Outputs:
    """Compute the outputs for the new instances that can be read, and name the others in the log.

    Where features are replayed, those that count come from layers that are never trained, and are computed once a task.
    """
    if items.outputs is not None:
        return items.outputs
    frames = frames_to_keep(run.config, run.method)
    on_clips = run.progress("features", len(items.new.items))
    outputs = run.predictor.readable_outputs(run.learner.model, items.new, on_clips, frames)
    left_out = np.setdiff1d(np.arange(len(items.new.items)), outputs.items)
    name_left_out(run, map(str, items.new.items.keys[left_out]))
    if run.method.replays_features:
        items.outputs = outputs
    return outputs


def name_left_out(run: RunContext, names: Iterable[str]) -> None:
    """Name instances in the log that can't be read."""
    for name in names:
        run.log.event("warning", text=f"left out: {name!r} has frames that can't be read")


def feature_samples(run: RunContext, items: TrainingItems) -> FeatureSamples:
    """Join the features of a task's new instances to those that the memory keeps, ordered by label and name.

    The order doesn't depend on what is new: features of all instances give the same samples in one task or in several.
    """
    outputs = outputs_of_new(run, items)
    of_clips = outputs.frames is None
    features = outputs.features if outputs.frames is None else outputs.frames
    labels = torch.from_numpy(outputs.labels)
    new_names = items.instance_names()
    names = [new_names[item] for item in outputs.items.tolist()]
    if (kept := items.kept) is not None:
        features = torch.cat([torch.from_numpy(kept.features), features])
        labels = torch.cat([torch.from_numpy(kept.labels), labels])
        names = kept.names + names
    ids = labels.tolist()
    order = torch.tensor(sorted(range(len(names)), key=lambda place: (ids[place], names[place])), dtype=torch.int64)
    shown = None if of_clips else shown_frames(features.shape[1], run.config.model.clip_frames)
    return FeatureSamples(features[order], labels[order], shown)
