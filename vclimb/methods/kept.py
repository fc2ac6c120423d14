"""What a method keeps between tasks besides exemplars: named arrays of statistics, parameters or logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from vclimb.model.clip_model import ClipModel
from vclimb.model.frame_model import FrameModel

KeptArrays = dict[str, Tensor]
"""Part and name, such as `statistics/importance` -> tensor. Parts are `statistics`, `parameters` and `logits`."""


class KeptShape(NamedTuple):
    """Type of numbers, such as `float32`, and shape of an array that a method will keep."""

    dtype: str
    shape: tuple[int, ...]


KeptShapes = dict[str, KeptShape]
"""Part and name, such as `statistics/importance` -> type and shape."""


class NetworkSize:
    """Sizes of a run's network. It is made when the first size is asked for.

    Args:
        make: Function that makes the network, with any number of outputs.
    """

    def __init__(self, make: Callable[[], ClipModel]) -> None:
        self._make = make

    @property
    def n_features(self) -> int:
        """Length of a clip's feature."""
        return self._sizes[0]

    @property
    def n_frame_features(self) -> int:
        """Length of a frame's feature; 0 where the network computes none."""
        return self._sizes[2]

    def n_trained(self, n_classes: int) -> int:
        """Count the parameters that are trained, with a number of outputs."""
        n_features, n_backbone, _ = self._sizes
        return n_backbone + n_classes * (n_features + 1)

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        model = self._make()
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        n_backbone = trained - model.n_classes * (model.n_features + 1)
        return model.n_features, n_backbone, model.n_frame_features if isinstance(model, FrameModel) else 0
