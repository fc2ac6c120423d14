"""Importance of each parameter for what a model has learned: the Fisher information of EWC, the sensitivity of MAS.

Sources: EWC: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3. Labels
of the Fisher information: van de Ven, "On the computation of the Fisher information in continual learning", 2025. MAS:
Aljundi et al., "Memory aware synapses", ECCV 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vclimb.methods.anchor import Parameters
from vclimb.model.memory_format import pad_batch, plans_each_size

Batches = Iterable[tuple[Tensor, Tensor]]
"""Clips (B, ...) and labels (B,) int64, both on the model's device."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, C) float32 and labels (B,) -> a scalar."""


@dataclass(frozen=True, eq=False)
class ImportanceSum:
    """Importances, float32, summed over samples. To combine processes, sum `total` and `n_samples` over them."""

    total: Parameters
    n_samples: int

    def mean(self) -> Parameters:
        """Return the importance: the mean over samples."""
        if self.n_samples < 1:
            raise ValueError("an importance needs samples; the batches held none")
        return {name: total / self.n_samples for name, total in self.total.items()}


def fisher_diagonal(
    model: nn.Module,
    batches: Batches,
    labels: Literal["true", "sampled"] = "true",
    chunk_size: int = 8,
) -> ImportanceSum:
    """Compute the diagonal of the Fisher information: the squared gradient of log p(label | clip) of each sample.

    The model is put into evaluation mode, so that a sample's gradient depends on no other sample, and then restored.
    Gradients are computed for each sample, `chunk_size` samples at a time: that many copies of the parameters are held.
    They are float32 even under autocast, since vmap supports no batch norm in mixed precision.

    Args:
        batches: Batches that hold each sample once.
        labels: `true`: the empirical Fisher information, at the samples' own labels. `sampled`: at labels drawn from
            the model's predictions (torch's global random state), an unbiased estimate of the Fisher information.
    """

    def choose_labels(clips: Tensor, true: Tensor) -> Tensor:
        if labels == "true":
            return true
        with torch.no_grad():
            probabilities = model(clips).float().softmax(1)
        return torch.multinomial(probabilities, 1)[:, 0]

    def log_likelihood(logits: Tensor, label: Tensor) -> Tensor:
        return logits.log_softmax(1).gather(1, label[:, None]).sum()

    return _sum_over_samples(model, batches, choose_labels, log_likelihood, torch.square, chunk_size)


def output_sensitivity(model: nn.Module, batches: Batches, chunk_size: int = 8) -> ImportanceSum:
    """Compute the importance of MAS: the magnitude of the gradient of the logits' squared L2 norm of each sample.

    Labels are ignored. The mode, the held memory and the arguments are those of `fisher_diagonal`.
    """

    def squared_norm(logits: Tensor, label: Tensor) -> Tensor:
        return logits.square().sum()

    return _sum_over_samples(model, batches, lambda clips, true: true, squared_norm, torch.abs, chunk_size)


def released_fisher(
    model: nn.Module, batches: Batches, combine: Callable[[Parameters], Parameters] = dict
) -> Parameters:
    """Compute EWC's importance as the benchmark's code does: the square of the gradient summed over all batches.

    Samples' gradients cancel in the sum before it is squared, and the sum grows with the number of batches.

    Args:
        combine: Combines the gradients of all processes that share each batch.
    """
    gradients = combine(released_gradient(model, batches, nn.functional.cross_entropy))
    return {name: gradient.square() for name, gradient in gradients.items()}


def released_sensitivity(
    model: nn.Module, batches: Batches, combine: Callable[[Parameters], Parameters] = dict
) -> Parameters:
    """Compute MAS' importance as the benchmark's code does: the magnitude of the summed gradient of the norm.

    The norm of the logits is not squared. `combine` is that of `released_fisher`.
    """

    def mean_norm(logits: Tensor, labels: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(logits, dim=1)
        return norms.mean()

    return {name: gradient.abs() for name, gradient in combine(released_gradient(model, batches, mean_norm)).items()}


def released_gradient(model: nn.Module, batches: Batches, objective: Objective) -> Parameters:
    """Compute the gradient of an objective, averaged over each batch's samples and summed over batches.

    The released code has the model in training mode, so that dropout draws (torch's global random state) and the
    batches change the statistics of batch norm, with training's clips and no autocast. Its head already has outputs for
    the next task's classes. The mode is the caller's choice here; no gradient is left on the parameters.
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    total = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}
    for clips, labels in batches:
        if not len(clips):
            continue
        with torch.enable_grad(), torch.autocast(clips.device.type, enabled=False):
            loss = objective(model(clips).float(), labels)
            gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True, materialize_grads=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient
    return total


def _sum_over_samples(
    model: nn.Module,
    batches: Batches,
    choose_labels: Callable[[Tensor, Tensor], Tensor],
    objective: Objective,
    magnitude: Callable[[Tensor], Tensor],
    chunk_size: int,
) -> ImportanceSum:
    """Sum the magnitude of the gradient of each sample's objective over samples."""
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    total = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}
    n_samples = 0

    def sample_objective(parameters: Parameters, clip: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (clip[None],)).float()
        return objective(logits, label[None])

    gradients_of = vmap(grad(sample_objective), in_dims=(None, 0, 0))
    with _evaluation_mode(model):
        for clips, true in batches:
            for start in range(0, len(clips), chunk_size):
                chunk, true_labels = clips[start : start + chunk_size], true[start : start + chunk_size]
                n_clips = len(chunk)
                with torch.autocast(clips.device.type, enabled=False):
                    labels = choose_labels(chunk, true_labels)
                    if plans_each_size(clips.device):
                        chunk = pad_batch(chunk, chunk_size)
                        labels = nn.functional.pad(labels, (0, chunk_size - n_clips))
                    gradients = gradients_of(parameters, chunk, labels)
                for name, gradient in gradients.items():
                    total[name] += magnitude(gradient[:n_clips].float()).sum(0)
                n_samples += n_clips
    return ImportanceSum(total, n_samples)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode, and afterwards each back into its own: batch norm may be partly frozen."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
