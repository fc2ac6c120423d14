"""What a network says of items, on every process alike, and the classifiers that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vclimb.methods.prototypes import ClassMeans, NearestMean
from vclimb.metrics import PredictionCounts
from vclimb.model.inference import InferenceSettings, Outputs, infer
from vclimb.model.tsn import TSN
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.training.processes import Processes

LINEAR = "linear"
NEAREST_MEAN = "nearest_mean"

OnClips = Callable[[int], None]


@dataclass(frozen=True)
class Inference:
    """Passes of a network over items.

    Attributes:
        settings: how clips are shown.
        codec: of the data set.
        processes: that share the items.
    """

    settings: InferenceSettings
    codec: str
    processes: Processes

    def own(
        self, model: TSN, provider: ClipProvider, on_clips: OnClips | None = None, on_bad_frame: str = "raise"
    ) -> Outputs:
        """Of this process' share of the items."""
        processes = self.processes
        return infer(
            model,
            provider,
            self.codec,
            self.settings,
            processes.device,
            processes.rank,
            processes.world_size,
            on_clips,
            on_bad_frame,
        )

    def readable(self, model: TSN, provider: ClipProvider, on_clips: OnClips | None = None) -> Outputs:
        """Of all items that can be read, in their order, on every process."""
        shares = self.processes.gather(self.own(model, provider, on_clips, "skip"))
        return Outputs(
            items=np.concatenate([share.items for share in shares]),
            labels=np.concatenate([share.labels for share in shares]),
            features=torch.cat([share.features for share in shares]),
            logits=torch.cat([share.logits for share in shares]),
        ).once()

    def class_means(
        self,
        model: TSN,
        provider: ClipProvider,
        n_classes: int,
        on_clips: OnClips | None = None,
        on_bad_frame: str = "raise",
    ) -> NearestMean:
        """The nearest-mean classifier of a provider's items, on every process.

        Raises:
            VclimbError: the features aren't finite.
        """
        own = self.own(model, provider, on_clips, on_bad_frame)
        device = self.processes.device
        means = ClassMeans(n_classes, model.n_features, device)
        means.update(own.features.to(device), torch.from_numpy(own.labels).to(device))
        self.processes.sum(means.sums)
        self.processes.sum(means.counts)
        return means.classifier()

    def counts(
        self,
        model: TSN,
        provider: ClipProvider,
        tasks: Indices,
        scores_of: Callable[[Tensor], Tensor],
        nearest: NearestMean | None,
        n_classes: int,
        n_tasks: int,
        on_clips: OnClips | None = None,
    ) -> dict[str, PredictionCounts]:
        """Predictions of each classifier on items, counted over all processes.

        Args:
            tasks: (n,) number of each item's task.
            scores_of: the linear classifier's scores from the head's logits.
            nearest: the nearest-mean classifier, where there is one.
            n_classes: of the scenario.
            n_tasks: of the scenario.

        Raises:
            VclimbError: scores hold NaN.
        """
        own = self.own(model, provider, on_clips)
        device = self.processes.device
        scores: dict[str, Tensor] = {LINEAR: scores_of(own.logits)}
        if nearest is not None:
            scores[NEAREST_MEAN] = nearest.scores(own.features.to(device))
        counted = {}
        for name, of_classifier in scores.items():
            counts = PredictionCounts(n_classes, n_tasks, device)
            counts.update(
                of_classifier.to(device),
                torch.from_numpy(own.labels).to(device),
                torch.from_numpy(tasks[own.items]).to(device),
            )
            self.processes.sum(counts.state)
            counted[name] = counts
        return counted
