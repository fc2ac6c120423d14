"""How much each parameter matters for what was learned, and the penalty on moving those that do: EWC and MAS.

Sources: EWC: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3; one
accumulated penalty in place of one for each task: Huszar, "Note on the quadratic penalties in elastic weight
consolidation", PNAS 2018, and online EWC of Schwarz et al., "Progress and compress", ICML 2018. Which labels the
Fisher is taken at: van de Ven, "On the computation of the Fisher information in continual learning", 2025. MAS: Aljundi
et al., "Memory aware synapses", ECCV 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vclimb.model.memory_format import filled, needs_plans

Parameters = dict[str, Tensor]
"""Name, as in `model.named_parameters()`, -> float32 tensor. Take the bare model: DDP and `compile` add to names."""

Batches = Iterable[tuple[Tensor, Tensor]]
"""Clips (B, ...) and labels (B,) int64, both on the model's device."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, C) float32 and labels (B,) -> a number."""


@dataclass(frozen=True, eq=False)
class ImportanceSum:
    """Importances, summed over samples. Those of several processes add up: reduce `total` and `n_samples` alike.

    Attributes:
        total: of each trainable parameter, float32, not negative.
        n_samples: that were summed over.
    """

    total: Parameters
    n_samples: int

    def mean(self) -> Parameters:
        """The importance: the mean over samples.

        Raises:
            ValueError: there were none.
        """
        if self.n_samples < 1:
            raise ValueError("an importance needs samples; the batches held none")
        return {name: total / self.n_samples for name, total in self.total.items()}


def fisher_diagonal(
    model: nn.Module,
    batches: Batches,
    labels: Literal["true", "sampled"] = "true",
    chunk_size: int = 8,
    generator: torch.Generator | None = None,
) -> ImportanceSum:
    """The diagonal of the Fisher information: the square of each sample's gradient of log p(label | clip).

    The model is in evaluation mode meanwhile, so that a sample's gradient is its own, and as it was afterwards.
    Gradients are taken sample by sample, `chunk_size` at a time: that many copies of the parameters are held. They
    are float32, under autocast too (vmap and batch norm in mixed precision don't go together).

    Args:
        model: clips (B, ...) -> logits (B, C).
        batches: each sample once.
        labels: `true`: the empirical Fisher, at the sample's own label; `sampled`: at a label drawn from the model's
            prediction, an unbiased estimate of the Fisher itself.
        chunk_size: samples at a time.
        generator: for drawn labels, on the model's device.
    """
    if labels not in ("true", "sampled"):
        raise ValueError(f"labels {labels!r} are not known; allowed: true, sampled")

    def drawn(clips: Tensor, true: Tensor) -> Tensor:
        if labels == "true":
            return true
        with torch.no_grad():
            probabilities = model(clips).float().softmax(1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    def log_likelihood(logits: Tensor, label: Tensor) -> Tensor:
        return logits.log_softmax(1).gather(1, label[:, None]).sum()

    return _sum_over_samples(model, batches, drawn, log_likelihood, torch.square, chunk_size)


def output_sensitivity(model: nn.Module, batches: Batches, chunk_size: int = 8) -> ImportanceSum:
    """MAS: the magnitude of each sample's gradient of the squared L2 norm of the logits.

    Labels are not looked at. Mode, memory and arguments as in `fisher_diagonal`.
    """

    def own(clips: Tensor, true: Tensor) -> Tensor:
        return true

    def squared_norm(logits: Tensor, label: Tensor) -> Tensor:
        return logits.square().sum()

    return _sum_over_samples(model, batches, own, squared_norm, torch.abs, chunk_size)


def released_fisher(
    model: nn.Module, batches: Batches, summed: Callable[[Parameters], Parameters] = dict
) -> Parameters:
    """EWC's importance as the benchmark's code has it: the square of the gradient summed over all batches.

    Samples' gradients cancel in the sum before they are squared, and it grows with the number of batches.

    Args:
        summed: makes the gradients of one process of those of several that share each batch.
    """
    gradients = summed(released_gradient(model, batches, nn.functional.cross_entropy))
    return {name: gradient.square() for name, gradient in gradients.items()}


def released_sensitivity(
    model: nn.Module, batches: Batches, summed: Callable[[Parameters], Parameters] = dict
) -> Parameters:
    """MAS' importance as the benchmark's code has it: the magnitude of the summed gradient of the norm, not squared.

    Args:
        summed: likewise of `released_fisher`.
    """

    def mean_norm(logits: Tensor, labels: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(logits, dim=1)
        return norms.mean()

    return {name: gradient.abs() for name, gradient in summed(released_gradient(model, batches, mean_norm)).items()}


def released_gradient(model: nn.Module, batches: Batches, objective: Objective) -> Parameters:
    """The gradient of an objective, averaged over each batch's samples and summed over batches.

    The model is in the mode it is given in: the released code has it in training mode, with dropout (torch's global
    random state) and training's clips, no autocast, and its head already holds the next task's classes. Here its
    buffers stay as they are.
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    total = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}
    for clips, labels in batches:
        if not len(clips):
            continue
        with torch.enable_grad(), torch.autocast(clips.device.type, enabled=False):
            loss = objective(functional_call(model, buffers, (clips,)).float(), labels)
            gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True, materialize_grads=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient
    return total


@dataclass(frozen=True, eq=False)
class Anchor:
    """Where parameters were after a task, and how much each mattered.

    Attributes:
        importance: float32, not negative.
        values: float32, of the same names and shapes.
    """

    importance: Parameters
    values: Parameters

    def __post_init__(self) -> None:
        if self.importance.keys() != self.values.keys():
            raise ValueError(
                f"{sorted(self.importance.keys() ^ self.values.keys())[0]!r} has no importance or no value"
            )
        for name, value in self.values.items():
            if value.shape != self.importance[name].shape:
                raise ValueError(f"{name!r} {tuple(value.shape)} has importances {tuple(self.importance[name].shape)}")

    def state_dict(self) -> Parameters:
        """Both in one, as safetensors takes it: `importance.NAME` and `values.NAME`."""
        parts = (("importance", self.importance), ("values", self.values))
        return {f"{part}.{name}": tensor for part, tensors in parts for name, tensor in tensors.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Anchor:
        """What `state_dict` gave."""

        def part(prefix: str) -> Parameters:
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

        return cls(part("importance."), part("values."))


def anchored(
    model: nn.Module, importance: Mapping[str, Tensor], before: Anchor | None = None, decay: float = 1.0
) -> Anchor:
    """Where a model is now, as a copy, with the importance of the task it has just learned.

    Args:
        model: whose parameters are anchored: those that have an importance.
        importance: of this task.
        before: the anchor of earlier tasks, whose importance is added: one penalty for all tasks (online EWC; MAS).
            None: this task alone, as in EWC's one penalty for each task. Rows that a head has got since count 0.
        decay: of the earlier importance, gamma of online EWC; 1 counts all tasks alike.
    """
    parameters = dict(model.named_parameters())
    if unknown := sorted(importance.keys() - parameters.keys()):
        raise ValueError(f"the model has no parameter {unknown[0]!r}, which has an importance; is it wrapped?")
    total = {name: value.detach().float().clone() for name, value in importance.items()}
    for name, earlier in before.importance.items() if before is not None else ():
        if name not in total:
            raise ValueError(f"{name!r} had an importance after the task before, and has none now")
        _first_rows(name, total[name], earlier).add_(earlier, alpha=decay)
    return Anchor(total, {name: parameters[name].detach().float().clone() for name in total})


def joined_anchors(earlier: Anchor, newest: Anchor) -> Anchor:
    """Two penalties as one: their sum is, up to a constant, a penalty around the mean that importance weights.

    a (x - u)^2 + b (x - v)^2 = (a + b) (x - (a u + b v) / (a + b))^2 + constant: so a penalty for each task, as EWC
    has it, takes the memory of one. Where both importances are 0 the newest value stays. Rows that a head has got
    since are the newest's alone.
    """
    importance, values = {}, {}
    for name, own in newest.importance.items():
        total, mean = own.clone(), newest.values[name].clone()
        if name in earlier.importance:
            rows = len(earlier.values[name]) if own.ndim else None
            part = slice(rows) if rows is not None else ...
            _first_rows(name, total, earlier.importance[name]).add_(earlier.importance[name])
            both = total[part]
            shift = earlier.importance[name] * (earlier.values[name] - mean[part])
            mean[part] += torch.where(both > 0, shift / both.clamp_min(torch.finfo(both.dtype).tiny), 0.0)
        importance[name], values[name] = total, mean
    return Anchor(importance, values)


def quadratic_penalty(model: nn.Module, anchors: Sequence[Anchor], strength: float) -> Tensor:
    """strength * sum of importance * (parameter - anchor)^2 over parameters and anchors; a float32 number.

    With the published lambda, strength is lambda / 2 for EWC (equation 3) and lambda for MAS (section 4); the
    benchmark's code takes lambda for both, and an anchor for each task. Of a parameter that has grown, as the head
    does, the first rows are those that were anchored. 0 without anchors.
    """
    parameters = dict(model.named_parameters())
    penalty = torch.zeros((), device=next(iter(parameters.values())).device)
    for anchor in anchors:
        for name, value in anchor.values.items():
            if name not in parameters:
                raise ValueError(f"the model has no parameter {name!r}, which is anchored; is it wrapped?")
            moved = _first_rows(name, parameters[name], value).float() - value
            penalty = penalty + (anchor.importance[name] * moved.square()).sum()
    return strength * penalty


def _first_rows(name: str, grown: Tensor, earlier: Tensor) -> Tensor:
    """The part of a parameter that was there earlier; a view."""
    if grown.shape[1:] != earlier.shape[1:] or grown.ndim != earlier.ndim or grown.shape[:1] < earlier.shape[:1]:
        raise ValueError(f"{name!r} {tuple(grown.shape)} is no grown {tuple(earlier.shape)}; only rows may be added")
    return grown[: len(earlier)] if earlier.ndim else grown


def _sum_over_samples(
    model: nn.Module,
    batches: Batches,
    labels_of: Callable[[Tensor, Tensor], Tensor],
    objective: Objective,
    magnitude: Callable[[Tensor], Tensor],
    chunk_size: int,
) -> ImportanceSum:
    """The sum over samples of the magnitude of the gradient of each sample's objective."""
    if chunk_size < 1:
        raise ValueError(f"chunk size {chunk_size} is out of range; allowed: 1 or more")
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    total = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}
    n_samples = 0

    def of_one(parameters: Parameters, clip: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (clip[None],)).float()
        return objective(logits, label[None])

    gradients_of = vmap(grad(of_one), in_dims=(None, 0, 0))
    with _evaluation_mode(model):
        for clips, true in batches:
            for start in range(0, len(clips), chunk_size):
                some, some_true = clips[start : start + chunk_size], true[start : start + chunk_size]
                n_some = len(some)
                with torch.autocast(clips.device.type, enabled=False):
                    labels = labels_of(some, some_true)
                    if needs_plans(clips.device):
                        some = filled(some, chunk_size)
                        labels = nn.functional.pad(labels, (0, chunk_size - n_some))
                    gradients = gradients_of(parameters, some, labels)
                for name, gradient in gradients.items():
                    total[name] += magnitude(gradient[:n_some].float()).sum(0)
                n_samples += n_some
    return ImportanceSum(total, n_samples)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode; afterwards each is in its own mode again, as partial batch norm needs it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
