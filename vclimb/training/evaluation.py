"""Measure a run's network: after each task, to select an epoch, and before a task is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vclimb.memory.kept_features import holds_features, read_features
from vclimb.memory.store.reader import MemoryStore
from vclimb.methods.method import LINEAR
from vclimb.methods.prototypes import ClassMeans, NearestMean
from vclimb.metrics import PredictionCounts
from vclimb.model.frame_model import FrameModel, clip_features, shown_frames
from vclimb.training.predictor import NEAREST_MEAN
from vclimb.training.run_context import RunContext
from vclimb.training.training_data import exemplar_items


def evaluate(run: RunContext, task: int) -> dict[str, PredictionCounts]:
    """Count predictions on all tasks so far, by the method's classifiers and the nearest mean of exemplars."""
    model, store = run.learner.model, run.stored_memory()
    nearest = None if store is None else _nearest_mean(run, store)
    items = run.data.evaluation_items(range(task + 1))
    return run.predictor.counts(model, items, run.method.classifiers(), nearest, run.progress("evaluation", len(items)))


def _nearest_mean(run: RunContext, store: MemoryStore) -> NearestMean:
    """Make the classifier by the nearest mean of the exemplars, on every rank."""
    model = run.learner.model
    if holds_features(store):
        kept = read_features(store)
        features = torch.from_numpy(kept.features)
        if features.ndim == 3:
            assert isinstance(model, FrameModel)
            features = clip_features(model, features, shown_frames(features.shape[1], run.config.model.clip_frames))
        means = ClassMeans(model.n_classes, model.n_features, run.processes.device)
        means.update(features, torch.from_numpy(kept.labels))
        return means.classifier()
    with exemplar_items(store, run.data.cache_bytes) as exemplars:
        on_clips = run.progress("exemplars", len(exemplars.items))
        return run.predictor.class_means(model, exemplars, model.n_classes, on_clips)


def selection_score(run: RunContext, task: int) -> tuple[float, str, bool]:
    """Measure the linear head to select an epoch; return the score, its split, and whether later epochs win ties."""
    split = "val" if run.config.training.select == "best" else None
    measured = split or run.data.scenario.evaluation_split
    items = run.data.evaluation_items(range(task + 1), measured)
    linear = {LINEAR: lambda outputs: run.method.scores(outputs.logits)}
    counts = run.predictor.counts(run.learner.model, items, linear, None)
    if run.config.resolved_differences.best_epoch == "first":
        return counts[LINEAR].accuracy(), measured, False
    accuracies = counts[LINEAR].accuracy_per_task()[: task + 1].tolist()
    return released_selection_score(accuracies, run.data.classes_per_task), measured, True


def released_selection_score(accuracies: Sequence[float], classes_per_task: Sequence[int]) -> float:
    """Compute the mean of the accuracies of tasks so far, weighted by their classes; 0 for a task without clips."""
    return float(np.average(np.nan_to_num(accuracies), weights=classes_per_task[: len(accuracies)]))


def forward_accuracies(run: RunContext, task: int) -> tuple[float, float]:
    """Measure accuracies on a task before it is learned: of the network, and of the network as it was initialised.

    The head has no outputs for the task's classes, so R[i - 1, i] of Lopez-Paz and Ranzato (NIPS 2017) would be 0.
    The nearest class mean of the task's training clips takes the place of the head.
    """
    training = run.data.training_items(task).new
    items = run.data.evaluation_items([task])
    n_classes = sum(run.data.classes_per_task[: task + 1])
    accuracies = []
    for network in (run.learner.model, run.learner.initial_model(run.data.classes_per_task[0])):
        nearest = run.predictor.class_means(network, training, n_classes, on_bad_frame="skip")
        counts = run.predictor.counts(network, items, {}, nearest)
        accuracies.append(counts[NEAREST_MEAN].accuracy())
    return accuracies[0], accuracies[1]
