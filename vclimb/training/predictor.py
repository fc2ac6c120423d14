"""Predictions of a network on items, shared by all processes, and the classifiers that a method is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from vclimb.methods.method import Classifiers
from vclimb.methods.prototypes import ClassMeans, NearestMean
from vclimb.metrics import PredictionCounts
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import InferenceSettings, Outputs, Share, infer, mixed_precision
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.training.processes import Processes

NEAREST_MEAN = "nearest_mean"

OnClips = Callable[[int], None]


@dataclass(frozen=True)
class EvaluationItems:
    """Items whose predictions are counted; `tasks` holds the number of each item's task."""

    provider: ClipProvider
    tasks: Indices
    n_classes: int
    n_tasks: int

    def __len__(self) -> int:
        return len(self.tasks)


@dataclass(frozen=True)
class Predictor:
    """Passes of a network over items, which all processes share."""

    settings: InferenceSettings
    processes: Processes

    def mixed_precision(self) -> torch.autocast:
        """Make the context of passes without training."""
        return mixed_precision(self.settings.autocast, self.processes.device)

    def rank_outputs(
        self,
        model: ClipModel,
        provider: ClipProvider,
        on_clips: OnClips | None = None,
        on_bad_frame: str = "raise",
        frames: Indices | None = None,
    ) -> Outputs:
        """Compute features and logits for this rank's share of the items, and features of frames (see `infer`)."""
        processes = self.processes
        share = Share(processes.device, processes.rank, processes.world_size)
        return infer(model, provider, self.settings, share, on_clips, on_bad_frame, frames)

    def readable_outputs(
        self,
        model: ClipModel,
        provider: ClipProvider,
        on_clips: OnClips | None = None,
        frames: Indices | None = None,
    ) -> Outputs:
        """Compute the outputs for all items that can be read, in their order, on every rank."""
        outputs = self.rank_outputs(model, provider, on_clips, "skip", frames)
        return Outputs.joined(self.processes.gather(outputs)).unique()

    def class_means(
        self,
        model: ClipModel,
        provider: ClipProvider,
        n_classes: int,
        on_clips: OnClips | None = None,
        on_bad_frame: str = "raise",
    ) -> NearestMean:
        """Make the nearest-mean classifier of a provider's items, on every rank; features must be finite."""
        outputs = self.rank_outputs(model, provider, on_clips, on_bad_frame)
        device = self.processes.device
        means = ClassMeans(n_classes, model.n_features, device)
        means.update(outputs.features.to(device), torch.from_numpy(outputs.labels).to(device))
        self.processes.sum(means.sums)
        self.processes.sum(means.counts)
        return means.classifier()

    def counts(
        self,
        model: ClipModel,
        items: EvaluationItems,
        classifiers: Classifiers,
        nearest: NearestMean | None,
        on_clips: OnClips | None = None,
    ) -> dict[str, PredictionCounts]:
        """Count the predictions of each classifier, and of the nearest mean where there is one, over all ranks."""
        outputs = self.rank_outputs(model, items.provider, on_clips)
        device = self.processes.device
        labels = torch.from_numpy(outputs.labels).to(device)
        tasks = torch.from_numpy(items.tasks[outputs.items]).to(device)
        scores = {name: score(outputs) for name, score in classifiers.items()}
        if nearest is not None:
            scores[NEAREST_MEAN] = nearest.scores(outputs.features.to(device))
        counted = {}
        for classifier, predictions in scores.items():
            counts = PredictionCounts(items.n_classes, items.n_tasks, device)
            counts.update(predictions.to(device), labels, tasks)
            self.processes.sum(counts.state)
            counted[classifier] = counts
        return counted
