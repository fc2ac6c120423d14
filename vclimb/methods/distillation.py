"""Distillation losses of LwF, iCaRL and BiC: a model is kept near its outputs before the task.

Losses are float32 scalars, means over the batch's samples (0 for an empty batch), whatever the dtype of the logits.
The model's logits are (B, C), those of the model before the task (B, n_old), from which the targets (B, n_old) are
made. The old classes are the first columns of the model's logits. Targets have no gradient. Labels are (B,) int64.

Sources: LwF: Li and Hoiem, "Learning without forgetting", ECCV 2016, section 3. iCaRL: Rebuffi et al., CVPR 2017,
algorithm 3. BiC: Wu et al., "Large scale incremental learning", CVPR 2019, equations 1 to 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TEMPERATURE = 2.0
"""Temperature of LwF (section 3) and of BiC."""


def lwf_targets(old_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Compute the old model's probabilities, softened by a temperature."""
    return (old_logits.detach().float() / temperature).softmax(1)


def icarl_targets(old_logits: Tensor) -> Tensor:
    """Compute the old model's sigmoids."""
    return old_logits.detach().float().sigmoid()


def lwf_distillation(logits: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Compute the cross-entropy between the old model's and the model's probabilities of the old classes.

    Both are softened by a temperature. There is no factor temperature^2, as in Hinton et al. 2015: neither LwF nor BiC
    nor the benchmark's code has it. Where the models agree, the value is the entropy of the old probabilities, not 0,
    and its gradient is 0. The benchmark's LwF detaches this loss, so that it only changes the logged number; that is
    `lwf_distillation(...).detach()`.
    """
    log_probabilities = (logits[:, : targets.shape[1]].float() / temperature).log_softmax(1)
    return -(targets * log_probabilities).sum() / max(len(logits), 1)


def icarl_classification(logits: Tensor, labels: Tensor, n_old: int = 0) -> Tensor:
    """Compute the classification part of algorithm 3: binary cross-entropy of the new classes' sigmoids, summed.

    A sample of one of the `n_old` old classes is a negative of all new classes. The benchmark's code has a softmax
    cross-entropy over all classes in place of this loss.
    """
    targets = torch.zeros(logits.shape, device=logits.device).scatter_(1, labels[:, None], 1)
    return _binary_cross_entropy(logits[:, n_old:], targets[:, n_old:])


def icarl_distillation(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the distillation part of algorithm 3: binary cross-entropy with the old model's sigmoids, summed.

    Every sample takes part, exemplars too: their true labels are not used. The benchmark's code computes the same.
    Where the models agree, the gradient is 0.
    """
    return _binary_cross_entropy(logits[:, : targets.shape[1]], targets)


def bic_loss(
    classification: Tensor, logits: Tensor, targets: Tensor | None, temperature: float = TEMPERATURE
) -> Tensor:
    """Compute the loss of BiC's first stage: lambda * distillation + (1 - lambda) * classification (equation 3).

    Lambda is the share of the old classes among all classes.

    Args:
        classification: Softmax cross-entropy over all classes (equation 2), a scalar, with or without temporal
            consistency.
        logits: (B, C) logits.
        targets: (B, n_old) targets of LwF, from old logits with corrected bias; None in the first task.
        temperature: Temperature of the distillation (equation 1).
    """
    if targets is None:
        return classification.float()
    weight = targets.shape[1] / logits.shape[1]
    return weight * lwf_distillation(logits, targets, temperature) + (1 - weight) * classification.float()


def _binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute -sum over classes of t * log s + (1 - t) * log(1 - s), s = sigmoid(logits), the mean over samples."""
    total = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
    return total / max(len(logits), 1)
