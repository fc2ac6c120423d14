"""The nearest-mean-of-exemplars classifier of iCaRL.

Source: Rebuffi et al., CVPR 2017, algorithm 1 and section 2: features are normalised to length 1, and so are the means
of the exemplars' features. The benchmark's code computes the same, one video at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vclimb.pipeline.errors import VclimbError


class ClassMeans:
    """Sums of the features of each class, from which the classifier is made.

    Sums are float64, so that the order of batches changes about the 16th digit. To combine processes, sum `sums` and
    `counts` over them.

    Attributes:
        sums: (n_classes, D) float64 sums of features of length 1.
        counts: (n_classes,) int64 numbers of samples.
    """

    def __init__(self, n_classes: int, n_features: int, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(n_classes, n_features, dtype=torch.float64, device=device)
        self.counts = torch.zeros(n_classes, dtype=torch.int64, device=device)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch, which may be empty: features (B, D) of any length, and label ids (B,)."""
        labels = labels.to(self.counts.device, torch.int64)
        unit = nn.functional.normalize(features.detach().to(self.sums), dim=1)
        self.sums.index_add_(0, labels, unit)
        self.counts.index_add_(0, labels, torch.ones_like(labels))

    def classifier(self) -> NearestMean:
        """Make the classifier of the classes with samples.

        Raises:
            VclimbError: no class has samples, or a mean holds NaN or infinity.
        """
        present = self.counts > 0
        if not present.any():
            raise VclimbError("no class has exemplars; nearest-mean classification needs a memory that holds some")
        bad = ~self.sums.isfinite().all(1)
        if bad.any():
            raise VclimbError(
                f"features of {int(bad.sum())} classes hold NaN or infinity, label id {int(bad.nonzero()[0])} is the "
                "first: the model has probably diverged; train it with a lower learning rate"
            )
        # The mean has the direction of the sum.
        return NearestMean(nn.functional.normalize(self.sums, dim=1).float(), present)


@dataclass(frozen=True, eq=False)
class NearestMean:
    """Classifier by the class mean nearest to a sample's feature of length 1.

    Attributes:
        means: (n_classes, D) float32 means of length 1.
        present: (n_classes,) bool flags of the classes with a mean; no other class is predicted.
    """

    means: Tensor
    present: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Compute scores (B, n_classes) float32 of features (B, D) of any length.

        A score is minus the squared distance to a class's mean, or -inf without a mean. The first of equally near
        classes has the first of the highest scores.
        """
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 lacks the digits in which distances differ
            unit = nn.functional.normalize(features.float(), dim=1)
            # Squared distances of vectors of length 1. A feature of zeros has the same distance to all means.
            distances = 2 - 2 * unit @ self.means.T
        return (-distances).masked_fill(~self.present, -torch.inf)
