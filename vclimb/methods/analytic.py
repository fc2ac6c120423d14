"""Heads in closed form on a frozen network: statistics of the features are kept instead of exemplars.

vclimb train shards/ucf101 --out runs/ridge --tasks 10 --method analytic --set method.head=ridge

Sources: class means, SimpleCIL, Zhou et al., IJCV 2024; linear discriminants, SLDA, Hayes and Kanan, CVPR Workshops
2020; ridge regression, ACIL, Zhuang et al., NeurIPS 2022; random projections, RanPAC, McDonnell et al., NeurIPS 2023.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vclimb.methods.closed_form import (
    LinearHead,
    Moments,
    RandomProjection,
    discriminant_head,
    nearest_mean_head,
    ridge_head,
)
from vclimb.methods.kept import KeptArrays, KeptShape, KeptShapes, NetworkSize
from vclimb.methods.method import Classifiers, Method, MethodConfig, TaskData, TaskInfo
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import Outputs
from vclimb.pipeline.errors import SettingsError
from vclimb.protocol import PAPER, Differences

if TYPE_CHECKING:
    from vclimb.scenario import TaskSequence

_METADATA_BYTES = 4_000  # of a memory with three arrays, at most
_CHUNK = 1024  # samples that are projected at a time
# Chosen on training videos of J-HMDB-21 alone, of which the sources of a fifth were left out in turn (docs/results.md).
_REGULARISATION = {"discriminant": 0.9, "ridge": 1.0}


class AnalyticConfig(MethodConfig):
    """Settings of heads in closed form.

    Attributes:
        head: Head: `nearest-mean` (the mean of each class, by cosine), `discriminant` (a linear discriminant with one
            covariance), or `ridge` (a ridge regression to one-hot labels).
        regularisation: Regularisation of the head. `discriminant`: shrinkage of the covariance, up to 1. `ridge`:
            share of the mean of the Gram matrix's diagonal that is added to the diagonal. None: 0.9 and 1.
        projection: Number of random features that take the place of the network's; 0: none; `auto`: none where the
            budget holds the statistics of the network's features, or else as many as it holds those of.
        adapt: Tasks that the network is trained on: `none`, or the `first`, with an ordinary head.
    """

    head: Literal["nearest-mean", "discriminant", "ridge"] = "ridge"
    regularisation: float | None = Field(default=None, gt=0, le=1e9)
    projection: Annotated[int, Field(ge=0, le=100_000)] | Literal["auto"] = 0
    adapt: Literal["none", "first"] = "none"


class Analytic(Method[AnalyticConfig]):
    """A head that follows from sums over all clips so far, on a network that is trained in the first task at most.

    What is kept between tasks is float32: the number of clips and the sum of the features of each class, and the upper
    triangle of the Gram matrix for all but nearest means. Heads are fitted to these rounded sums, in float64.
    """

    name = "analytic"
    summary = "Heads in closed form on a frozen network: statistics of features in place of exemplars."
    Config = AnalyticConfig
    memory_settings = frozenset({"budget"})  # gives an automatic projection its size

    _statistics: dict[str, Tensor] | None = None
    _seed = 0
    _n_projected = 0
    _head: LinearHead | None = None
    _projection: RandomProjection | None = None

    def __init__(self, config: AnalyticConfig, differences: Differences = PAPER, consistency: float = 0.0) -> None:
        super().__init__(config, differences, consistency)
        self.classifier = config.head.replace("-", "_")

    @classmethod
    def fills_budget(cls, config: MethodConfig) -> bool:
        return isinstance(config, AnalyticConfig) and config.projection == "auto"

    def check(self, scenario: TaskSequence) -> None:
        head, regularisation = self.config.head, self.config.regularisation
        if head == "nearest-mean" and regularisation is not None:
            raise SettingsError(
                f"method.regularisation is {regularisation:g}, and head nearest-mean has none; leave it out"
            )
        if head == "discriminant" and regularisation is not None and regularisation > 1:
            raise SettingsError(
                f"method.regularisation {regularisation:g} is no shrinkage of a covariance; allowed with head "
                "discriminant: from above 0 to 1"
            )
        if self.config.adapt == "first" and len(next(iter(scenario)).classes) == 1:
            raise SettingsError(
                f"method.adapt first trains the network to tell the first task's classes apart, and the first task of "
                f"scenario {scenario.name!r} has one class; take adapt none, or a larger first task"
            )

    def trains(self, task: TaskInfo) -> bool:
        return self.config.adapt == "first" and task.number == 0

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        outputs = data.outputs(np.arange(len(data.labels)))
        self._seed, self._n_projected = data.seed, self._projected_size(task, model.n_features)
        self._projection = self._make_projection(model)
        if self._statistics is None:
            n_features = self._n_projected or model.n_features
            moments = Moments(task.n_classes, n_features, with_products=self.config.head != "nearest-mean")
        else:
            moments = Moments.unpacked(self._statistics)
            moments.grow(task.n_classes)
        labels = torch.split(torch.from_numpy(outputs.labels), _CHUNK)
        for part, part_labels in zip(torch.split(outputs.features, _CHUNK), labels, strict=True):
            moments.update(self._projected(part), part_labels)
        moments.check()
        self._statistics = moments.packed()
        self._head = self._fit(self._statistics)

    def classifiers(self) -> Classifiers:
        return {self.classifier: self._scores}

    def kept(self) -> KeptArrays:
        return {f"statistics/{name}": array for name, array in (self._statistics or {}).items()}

    def kept_shapes(self, task: TaskInfo, network: NetworkSize) -> KeptShapes:
        n_features = self._projected_size(task, network.n_features) or network.n_features
        shapes: dict[str, tuple[int, ...]] = {"counts": (task.n_classes,), "class_sums": (task.n_classes, n_features)}
        if self.config.head != "nearest-mean":
            shapes["gram"] = (n_features * (n_features + 1) // 2,)
        return {f"statistics/{name}": KeptShape("float32", shape) for name, shape in shapes.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"statistics": self._statistics, "seed": self._seed, "n_projected": self._n_projected}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._statistics, self._seed = state["statistics"], int(state["seed"])
        self._n_projected = int(state["n_projected"])
        if self._statistics is not None:
            self._projection = self._make_projection(model)
            self._head = self._fit(self._statistics)

    def _fit(self, statistics: dict[str, Tensor]) -> LinearHead:
        moments, head = Moments.unpacked(statistics), self.config.head
        if head == "nearest-mean":
            return nearest_mean_head(moments)
        regularisation = self.config.regularisation or _REGULARISATION[head]
        return (discriminant_head if head == "discriminant" else ridge_head)(moments, regularisation)

    def _make_projection(self, model: ClipModel) -> RandomProjection | None:
        size = self._n_projected
        return RandomProjection(model.n_features, size, self._seed) if size else None

    def _projected_size(self, task: TaskInfo, n_features: int) -> int:
        """Number of random features in place of the network's; 0: none. With `auto`, it is the same in all tasks."""
        if self.config.projection != "auto":
            return self.config.projection
        if self.budget_bytes is None:
            return 0
        # Numbers that are kept: C counts, C M sums, and M (M + 1) / 2 of the Gram matrix, for C classes and M features.
        n_classes = sum(task.classes_per_task)
        room = max(0, (self.budget_bytes - _METADATA_BYTES) // 4 - n_classes)
        if self.config.head == "nearest-mean":
            fitting = room // n_classes
        else:
            half = n_classes + 0.5
            fitting = int(math.sqrt(half * half + 2 * room) - half)
        return 0 if fitting >= n_features else max(1, fitting)

    def _projected(self, features: Tensor) -> Tensor:
        return features if self._projection is None else self._projection(features)

    def _scores(self, outputs: Outputs) -> Tensor:
        assert self._head is not None
        return torch.cat([self._head.scores(self._projected(part)) for part in torch.split(outputs.features, _CHUNK)])
