"""Keeping what the model answered before a task: the distillation losses of LwF, iCaRL and BiC.

Losses are float32 numbers, means over the batch's samples (0 for an empty batch), whatever type the logits come in.
Old classes are the first columns of the logits. What the old model gave is never differentiated.

Sources: LwF: Li and Hoiem, "Learning without forgetting", ECCV 2016, section 3. iCaRL: Rebuffi et al., CVPR 2017,
algorithm 3. BiC: Wu et al., "Large scale incremental learning", CVPR 2019, equations 1 to 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

TEMPERATURE = 2.0
"""Of LwF (section 3) and of BiC."""


def lwf_distillation(logits: Tensor, old_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Cross-entropy of the old classes' probabilities with those of the old model, both softened by a temperature.

    Not times temperature^2, as in Hinton et al. 2015: LwF and BiC don't have it, nor does the benchmark's code. As a
    cross-entropy it isn't 0 but the old probabilities' entropy where the models agree; its gradient is 0 there.
    The benchmark's LwF cuts this loss off the graph, so that it changes nothing but the number that is logged: there
    it is `lwf_distillation(...).detach()`.

    Args:
        logits: (B, C).
        old_logits: (B, n_old) of the model before this task, n_old <= C.
        temperature: above 0.
    """
    _check_old(logits, old_logits)
    return soft_cross_entropy(logits[:, : old_logits.shape[1]], lwf_targets(old_logits, temperature), temperature)


def lwf_targets(old_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """(B, n_old) float32: the old model's probabilities, softened; what the benchmark's code stores before a task."""
    _check_temperature(temperature)
    return (old_logits.detach().float() / temperature).softmax(1)


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """-sum over classes of targets * log softmax(logits / temperature), the mean over samples.

    Args:
        logits: (B, C).
        targets: (B, C) probabilities. A row of zeros adds nothing to the sum and counts in the mean: so are samples in
            the benchmark's BiC that its `drop_last` left without a target.
        temperature: above 0.
    """
    _check_temperature(temperature)
    if logits.shape != targets.shape:
        raise ValueError(f"targets {tuple(targets.shape)} don't fit logits {tuple(logits.shape)}")
    log_probabilities = (logits.float() / temperature).log_softmax(1)
    return -(targets.float() * log_probabilities).sum() / max(len(logits), 1)


def icarl_loss(
    logits: Tensor, labels: Tensor, old_logits: Tensor | None = None, over_classes: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """iCaRL's loss: a sigmoid for each class; new classes learn their labels, old ones what the old model said.

    That holds for every sample, exemplars too: the old classes' true labels are not used.

    Args:
        logits: (B, C).
        labels: (B,) int64, label ids.
        old_logits: (B, n_old) of the model before this task; None in the first task.
        over_classes: `sum` as in algorithm 3; `mean` as in its authors' code, whose learning rate of 2 goes with it.
            (They also count the outputs of classes that are still to come.)
    """
    if over_classes not in ("sum", "mean"):
        raise ValueError(f"over classes {over_classes!r} is not known; allowed: sum, mean")
    n_old = 0 if old_logits is None else old_logits.shape[1]
    loss = icarl_classification(logits, labels, n_old)
    if old_logits is not None:
        loss = loss + icarl_distillation(logits, old_logits)
    return loss / logits.shape[1] if over_classes == "mean" else loss


def icarl_classification(logits: Tensor, labels: Tensor, n_old: int = 0) -> Tensor:
    """Algorithm 3's classification part: binary cross-entropy of the new classes' sigmoids, summed over them.

    The benchmark's code has a softmax cross-entropy over all classes in its place.

    Args:
        logits: (B, C).
        labels: (B,) int64; a sample of an old class is a negative of all new ones.
        n_old: old classes.
    """
    if labels.shape != logits.shape[:1] or not 0 <= n_old <= logits.shape[1]:
        raise ValueError(f"labels {tuple(labels.shape)} and {n_old} old classes don't fit logits {tuple(logits.shape)}")
    targets = torch.zeros(logits.shape, device=logits.device).scatter_(1, labels[:, None], 1)
    return binary_cross_entropy(logits[:, n_old:], targets[:, n_old:])


def icarl_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    """Algorithm 3's distillation part: binary cross-entropy with the old model's sigmoids, summed over old classes.

    The benchmark's code has the same. Where the models agree its gradient is 0, as that of `lwf_distillation`.

    Args:
        logits: (B, C).
        old_logits: (B, n_old) of the model before this task, n_old <= C.
    """
    _check_old(logits, old_logits)
    return binary_cross_entropy(logits[:, : old_logits.shape[1]], old_logits.detach().float().sigmoid())


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum over classes of t * log s + (1 - t) * log(1 - s), s = sigmoid(logits), the mean over samples.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1]. Zeros ask for the sigmoids to be 0: so do samples in the benchmark's iCaRL that its
            `drop_last` left without a target.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"targets {tuple(targets.shape)} don't fit logits {tuple(logits.shape)}")
    total = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="sum")
    return total / max(len(logits), 1)


def bic_weight(n_old: int, n_new: int) -> float:
    """BiC's lambda = n / (n + m): the weight of the distillation; that of the classification is 1 - lambda.

    Args:
        n_old: n, classes before this task.
        n_new: m, classes of this task.
    """
    if n_old < 0 or n_new < 1:
        raise ValueError(f"{n_old} old and {n_new} new classes; needs 0 or more, and 1 or more")
    return n_old / (n_old + n_new)


def bic_loss(
    classification: Tensor, logits: Tensor, old_logits: Tensor | None, temperature: float = TEMPERATURE
) -> Tensor:
    """BiC's loss of its first stage: lambda * distillation + (1 - lambda) * classification (equation 3).

    Args:
        classification: a number: the softmax cross-entropy over all classes (equation 2), with temporal consistency
            or without.
        logits: (B, C).
        old_logits: (B, n_old) of the model before this task, with its bias corrected; None in the first task.
        temperature: of the distillation (equation 1).
    """
    if old_logits is None:
        return classification.float()
    weight = bic_weight(old_logits.shape[1], logits.shape[1] - old_logits.shape[1])
    return weight * lwf_distillation(logits, old_logits, temperature) + (1 - weight) * classification.float()


def _check_old(logits: Tensor, old_logits: Tensor) -> None:
    if logits.ndim != 2 or old_logits.ndim != 2 or len(logits) != len(old_logits):
        raise ValueError(f"old logits {tuple(old_logits.shape)} don't fit logits {tuple(logits.shape)}")
    if old_logits.shape[1] > logits.shape[1]:
        raise ValueError(f"{old_logits.shape[1]} old classes don't fit into {logits.shape[1]}")


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is out of range; allowed: above 0")
