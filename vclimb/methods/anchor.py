"""Anchors: values of parameters after earlier tasks, and the penalty on moving away from them.

Sources: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3. One
accumulated penalty in place of one for each task: Huszar, "Note on the quadratic penalties in elastic weight
consolidation", PNAS 2018, and online EWC of Schwarz et al., "Progress and compress", ICML 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Parameters = dict[str, Tensor]
"""Name, as in `model.named_parameters()`, -> float32 tensor. Take the bare model: DDP and `compile` change names."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """Values of parameters after a task, and how much each parameter mattered: 0 or more, of the same shapes."""

    importance: Parameters
    values: Parameters


def anchor_at(model: nn.Module, importance: Mapping[str, Tensor], previous: Anchor | None = None) -> Anchor:
    """Anchor the present values of a model's parameters, with the importance for the task just learned.

    Args:
        importance: Importances for the task just learned, of the parameters that are anchored.
        previous: Anchor of the earlier tasks, whose importances are added to the present ones: MAS' penalty. None: an
            anchor of this task alone. Rows that a head gained since have an earlier importance of 0.
    """
    parameters = dict(model.named_parameters())
    total = {name: value.detach().float().clone() for name, value in importance.items()}
    for name, earlier in previous.importance.items() if previous is not None else ():
        _first_rows(total[name], earlier).add_(earlier)
    return Anchor(total, {name: parameters[name].detach().float().clone() for name in total})


def merge_anchors(earlier: Anchor, newest: Anchor) -> Anchor:
    """Merge two anchors into one whose penalty is the sum of both penalties, up to a constant.

    a (x - u)^2 + b (x - v)^2 = (a + b) (x - (a u + b v) / (a + b))^2 + constant: so the penalties of all tasks, as EWC
    has them, take the memory of one. Where both importances are 0, the newest value stays. Rows that a head gained
    since are the newest anchor's alone.
    """
    importance, values = {}, {}
    for name, newest_importance in newest.importance.items():
        total, mean = newest_importance.clone(), newest.values[name].clone()
        if name in earlier.importance:
            both, part = (_first_rows(tensor, earlier.values[name]) for tensor in (total, mean))
            both += earlier.importance[name]
            shift = earlier.importance[name] * (earlier.values[name] - part)
            part += torch.where(both > 0, shift / both.clamp_min(torch.finfo(both.dtype).tiny), 0.0)
        importance[name], values[name] = total, mean
    return Anchor(importance, values)


def quadratic_penalty(model: nn.Module, anchor: Anchor, factor: float) -> Tensor:
    """Compute factor * sum of importance * (parameter - anchor)^2 over parameters, a float32 scalar.

    With the published lambda, the factor is lambda / 2 for EWC (equation 3) and lambda for MAS (section 4); the
    benchmark's code uses lambda for both. Of a parameter that has grown, as the head
    does, only the anchored rows count.
    """
    parameters = dict(model.named_parameters())
    penalty = torch.zeros((), device=next(iter(parameters.values())).device)
    for name, value in anchor.values.items():
        moved = _first_rows(parameters[name], value).float() - value
        penalty = penalty + (anchor.importance[name] * moved.square()).sum()
    return factor * penalty


def _first_rows(grown: Tensor, earlier: Tensor) -> Tensor:
    """Return a view of the rows that a parameter had earlier."""
    return grown[: len(earlier)] if earlier.ndim else grown
