"""Rules that rank the videos of a class, best first; the memory keeps the start of the ranking.

A smaller quota drops the last-ranked videos. A new rule is a small class that is entered in `VIDEO_CHOICES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import bits, key_number
from vclimb.pipeline.errors import SettingsError, VclimbError

Features = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]

TIE = 1e-9
"""Squared distances (of features of length 1) that differ by less are equal: far above what the order of additions
changes in float64 (about 1e-13), and below the precision of float32 features (about 1e-7)."""


@dataclass(frozen=True)
class Candidates:
    """The instances of one class that may be kept.

    Attributes:
        keys: Names of the instances, each once.
        groups: Source group of each instance, shared by videos cut from one recording; None: unknown.
        features: (n, D) finite floating numbers; None where the rule doesn't need them.

    Raises:
        VclimbError: a feature holds NaN or infinity.
    """

    keys: Sequence[str]
    groups: Sequence[str | None] | None = None
    features: Features | None = None

    def __post_init__(self) -> None:
        if len(set(self.keys)) != len(self.keys):
            raise ValueError("two candidates have one key")
        if self.groups is not None and len(self.groups) != len(self.keys):
            raise ValueError(f"{len(self.groups)} groups don't fit {len(self.keys)} candidates")
        if self.features is None:
            return
        if self.features.ndim != 2 or len(self.features) != len(self.keys):
            raise ValueError(f"features {self.features.shape} don't fit {len(self.keys)} candidates; needs (n, D)")
        finite = np.isfinite(self.features).all(axis=1)
        if not finite.all():
            others = ", ".join(name for name, make in VIDEO_CHOICES.items() if not make(0).needs_features)
            raise VclimbError(
                f"features of {np.count_nonzero(~finite)} of {len(self)} videos hold NaN or infinity, the first of "
                f"them {self.keys[int(np.argmin(finite))]!r}; allowed: finite numbers. The model that made them has "
                "probably diverged: train it with a lower learning rate, or choose videos by a rule that needs no "
                f"features: {others}"
            )

    def __len__(self) -> int:
        return len(self.keys)


class VideoChoice(Protocol):
    """A rule that ranks the videos of a class.

    Attributes:
        needs_features: Whether `rank` looks at the candidates' features.
    """

    needs_features: ClassVar[bool]

    def rank(self, candidates: Candidates) -> Indices:
        """Rank all candidates, best first: a permutation of range(n), int64. A pure function of the candidates."""
        ...


@dataclass(frozen=True)
class RandomVideos:
    """Random order, in which a key's place depends on the seed and the key alone.

    Two keys keep their order whatever other candidates there are, and in whatever order these come.
    """

    seed: int = 0
    needs_features: ClassVar[bool] = False

    def rank(self, candidates: Candidates) -> Indices:
        return np.lexsort((np.array(candidates.keys, np.str_), key_draws(candidates.keys, self.seed)))


@dataclass(frozen=True)
class SpreadVideos:
    """One random video of each source group, then a second of each, and so on.

    The first g videos are of g different groups, where there are g groups. A video of unknown group is its own group.
    """

    seed: int = 0
    needs_features: ClassVar[bool] = False

    def rank(self, candidates: Candidates) -> Indices:
        order = RandomVideos(self.seed).rank(candidates)
        groups = candidates.groups or [None] * len(candidates)
        seen: dict[str, int] = {}
        rounds = np.zeros(len(order), np.int64)
        for place, candidate in enumerate(order.tolist()):
            if (group := groups[candidate]) is not None:
                rounds[place] = seen.get(group, 0)
                seen[group] = int(rounds[place]) + 1
        return order[np.argsort(rounds, kind="stable")]


@dataclass(frozen=True)
class VideosByFeatures:
    """Order that a function of the features (n, D), such as `herding`, computes."""

    ranking: Callable[[Features], Indices]
    needs_features: ClassVar[bool] = True

    def rank(self, candidates: Candidates) -> Indices:
        if candidates.features is None:
            raise ValueError("this video choice needs the features of its candidates")
        return self.ranking(candidates.features)


VIDEO_CHOICES: dict[str, Callable[[int], VideoChoice]] = {
    "random": RandomVideos,
    "herding": lambda seed: VideosByFeatures(herding),
    "released-herding": lambda seed: VideosByFeatures(released_herding),
    "spread": SpreadVideos,
}
"""Name of a rule -> function that makes the rule from a seed."""


def parse_video_choice(name: str, seed: int = 0) -> VideoChoice:
    """Make the rule of a name.

    Raises:
        SettingsError: there is no such rule.
    """
    if name not in VIDEO_CHOICES:
        raise SettingsError(f"video choice {name!r} is not known; allowed: {', '.join(VIDEO_CHOICES)}")
    return VIDEO_CHOICES[name](seed)


def key_draws(keys: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """Draw 64 random bits for each key: (n,)."""
    numbers = np.array([key_number(key, "exemplar videos") for key in keys], np.uint64)
    return bits(seed, numbers.view(np.int64))


def normalised(features: Features) -> Doubles:
    """Scale rows to length 1, in float64; a row of zeros stays."""
    rows = features.astype(np.float64)
    if rows.size:
        # Two steps, since the squares of very large or very small numbers are no float64.
        largest = np.abs(rows).max(axis=1, keepdims=True)
        rows /= np.where(largest > 0, largest, 1)
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
        rows /= np.where(lengths > 0, lengths, 1)
    return rows


def herding(features: Features) -> Indices:
    """Rank by herding, Algorithm 4 of iCaRL (Rebuffi et al., CVPR 2017), to the last candidate.

    With phi the features of length 1 and mu their mean, the k-th choice is the candidate, of those not chosen yet,
    that brings the mean of the k chosen ones nearest to mu: it minimises |mu - (phi + sum of the chosen) / k|. As in
    the authors' own code, the means themselves are not made length 1 again, and each candidate is chosen once.

    Of candidates whose distances, times k and squared, are within `TIE` of the least, the first is chosen. So the
    ranking is the same with every BLAS, except where a distance lies within rounding of that limit.

    The ranking of finite features (n, D) is (n,) int64, a permutation. It takes n matrix-vector products of n x D and
    two copies of the features in float64.
    """
    phi = normalised(features)
    n, dimensions = phi.shape
    mean = phi.mean(axis=0) if n else np.zeros(dimensions)
    squares = np.einsum("nd,nd->n", phi, phi)
    chosen_sum = np.zeros(dimensions)
    left = np.arange(n)  # candidates that the rows of phi stand for
    taken = np.zeros(n, bool)  # of those rows
    order = np.empty(n, np.int64)
    for k in range(n):
        target = (k + 1) * mean - chosen_sum
        # k^2 times the squared distance, but for |target|^2, which all candidates share.
        distances = squares - 2 * (phi @ target)
        distances[taken] = np.inf
        row = int(np.argmax(distances <= distances.min() + TIE))
        order[k] = left[row]
        chosen_sum += phi[row]
        taken[row] = True
        if 2 * np.count_nonzero(taken) > len(left):  # rows of chosen candidates only cost time
            phi, squares, left, taken = phi[~taken], squares[~taken], left[~taken], np.zeros((~taken).sum(), bool)
    return order


def released_herding(features: Features) -> Indices:
    """Rank as the benchmark's released code does under the name of herding, to the last candidate: (n,) int64.

    With phi the features of length 1, mu their mean made length 1, and S the sum of the chosen ones, that code divides
    the candidate means (phi + S) / k by the norm of the whole (n, D) matrix that they make, F / k, not each by its own.
    The nearest to mu, of those not chosen yet, then minimises S . phi / F - mu . phi. F grows with S, so that mostly
    the nearness to mu decides, and the first term leans away from what is chosen.

    Its loop goes over the k + 1 nearest in the order in which `numpy.argpartition` leaves them. With vector
    instructions (AVX2, AVX-512), NumPy 2 sorts up to 256 of them, and the choice is the one here, but for float32's
    rounding; without, about one in thirty of the first five choices differs. Features are (n, D), finite.
    """
    phi = normalised(features)
    n, dimensions = phi.shape
    total = phi.sum(axis=0) if n else np.zeros(dimensions)
    to_mean = phi @ normalised(total[None])[0]
    chosen_sum, to_chosen = np.zeros(dimensions), np.zeros(n)
    left = np.ones(n, np.bool_)
    order = np.empty(n, np.int64)
    for k in range(n):
        norm = np.sqrt(max(n + 2 * chosen_sum @ total + n * chosen_sum @ chosen_sum, TIE))
        scores = np.where(left, to_chosen / norm - to_mean, np.inf)
        order[k] = np.argmax(scores <= scores.min() + TIE)  # ties go to the first
        left[order[k]] = False
        chosen_sum += phi[order[k]]
        to_chosen += phi @ phi[order[k]]
    return order
