"""Whether exemplars can stand for original clips in replay: heads in closed form on a network's features.

In replay, old classes are seen as exemplars and new ones as original clips. Whatever tells exemplars from original
clips, such as blur, then tells old classes from new ones, and original test clips of old classes are taken for new
ones. The probe does that to each class in turn: its exemplars beside the original clips of the others, a ridge head on
both, and the recall of the class on original clips of videos that are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices

Rows = npt.NDArray[np.float64]
N_FOLDS = 5
_PENALTY = 0.1  # of the mean square of a centred feature vector


def video_folds(labels: Indices, groups: Sequence[str | None]) -> Indices:
    """Number the fold (n,) of each video, so that videos of one group share a fold where that leaves none without.

    Args:
        labels: (n,) classes of the videos.
        groups: Groups of the videos, such as the recordings that they were cut from; None: unknown.
    """
    numbers: dict[object, int] = {}
    names = [(place, None) if group is None else group for place, group in enumerate(groups)]
    folds = np.array([numbers.setdefault(name, len(numbers)) % N_FOLDS for name in names], np.int64)
    if all(len(np.unique(folds[labels == label])) > 1 for label in np.unique(labels)):
        return folds
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        ranks[labels == label] = np.arange(np.count_nonzero(labels == label))
    return ranks % N_FOLDS


def old_recall(originals: Rows, exemplars: Rows, labels: Indices, folds: Indices) -> float:
    """Compute the mean recall of classes on original clips where their exemplars stand beside others' originals.

    Args:
        originals: (n, D) features of the original clips.
        exemplars: (n, D) features of the exemplars of the same videos.
        labels: (n,) classes.
        folds: (n,) folds of the videos, which are left out in turn.
    """
    classes = np.unique(labels)
    targets = np.where(labels[:, None] == classes, 1.0, -1.0)
    hits = []
    for place, label in enumerate(classes):
        shown = np.where((labels == label)[:, None], exemplars, originals)
        for fold in np.unique(folds):
            trained = folds != fold
            tested = ~trained & (labels == label)
            if tested.any() and trained.any():
                scores = _ridge(shown[trained], targets[trained], originals[tested])
                hits += (scores.argmax(1) == place).tolist()
    return float(np.mean(hits)) if hits else 0.0


def _ridge(features: Rows, targets: Rows, tested: Rows) -> Rows:
    """Fit a ridge head with an offset, and compute its scores of other features."""
    mean, offset = features.mean(0), targets.mean(0)
    centred = features - mean
    gram = centred @ centred.T
    penalty = _PENALTY * np.trace(gram) / len(gram) + np.finfo(np.float64).tiny
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), targets - offset)
    scores: Rows = (tested - mean) @ (centred.T @ weights) + offset
    return scores
