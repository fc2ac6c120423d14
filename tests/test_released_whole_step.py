"""One whole step under `protocol = "released"` beside a second implementation, written from the formulas alone.

Both have the same weights and the same batch. Where runs differ from the released code's, this is the place to look.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_cases import tiny_config

from vclimb.methods.method import StepBatch, TaskInfo
from vclimb.methods.old_model import DistillingMethod
from vclimb.training.learner import Learner
from vclimb.training.processes import Processes
from vclimb.training.run import make_method

N_OLD, N_CLASSES, RATE, MOMENTUM, DECAY = 2, 5, 0.01, 0.9, 1e-4


def logits_of(backbone: nn.Module, head: tuple[Tensor, Tensor], clips: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Average the scores of frames, each passed through the backbone in training mode."""
    pixels = (clips.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    scores = nn.functional.linear(backbone(pixels.flatten(0, 1)), *head)
    return scores.unflatten(0, clips.shape[:2]).mean(1)


def expected_loss(first: Tensor, second: Tensor, labels: Tensor, method: str, targets: Tensor, tc: float) -> Tensor:
    classification = (1 - tc) * nn.functional.cross_entropy(first, labels) + tc * nn.functional.cross_entropy(
        second, labels
    )
    if method == "icarl":  # the mean over samples for each old class, summed over classes
        parts = [
            nn.functional.binary_cross_entropy_with_logits(first[:, c], targets[:, c].sigmoid()) for c in range(N_OLD)
        ]
        return classification + torch.stack(parts).sum()
    if method == "bic":
        log_q = nn.functional.log_softmax(first[:, :N_OLD] / 2, 1)
        distillation = -((targets / 2).softmax(1) * log_q).sum(1).mean()
        share = N_OLD / N_CLASSES
        return share * distillation + (1 - share) * classification
    return classification


@pytest.mark.parametrize("tc", [0.0, 0.5])
@pytest.mark.parametrize("name", ["naive", "icarl", "bic"])
def test_loss_gradients_and_weights_of_a_step(name: str, tc: float, tmp_path: Path) -> None:
    settings = ("protocol=released", "model.dropout=0.0", "training.batch_size=4", f"consistency.weight={tc}")
    config = tiny_config(tmp_path, name, *settings)
    learner, method = Learner(config, Processes(0, 1, torch.device("cpu")), N_OLD), make_method(config)
    tasks = (N_OLD, N_CLASSES - N_OLD)
    method.begin_task(TaskInfo(0, tasks), learner.model)
    method.begin_task(TaskInfo(1, tasks), learner.model)
    learner.grow(N_CLASSES, 1)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(6, N_OLD, generator=generator)
    if isinstance(method, DistillingMethod):
        method._targets, method._old_model = method.to_targets(targets), None
    clips, down = (torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8, generator=generator) for _ in range(2))
    down[2:] = 128
    labels, items = torch.tensor([0, 3, 4, 2]), torch.tensor([5, 0, 3, 1])

    backbone = copy.deepcopy(learner.model.backbone).train()
    head = tuple(nn.Parameter(p.detach().clone()) for p in learner.model.head.parameters())
    cfg = backbone.pretrained_cfg
    colours = torch.tensor(cfg["mean"]), torch.tensor(cfg["std"])
    first = logits_of(backbone, (head[0], head[1]), clips, *colours)
    second = logits_of(backbone, (head[0], head[1]), down, *colours)
    loss = expected_loss(first, second, labels, name, targets[items], tc)
    parameters = [*backbone.parameters(), *head]
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))  # type: ignore[arg-type]
    scale = min(1.0, 20 / norm.item())

    learner.begin_task(method)
    terms = learner.step(method, StepBatch(clips, labels, items), down, n_global=4, progress=0.0)
    assert sum(term.item() for term in terms.values()) == pytest.approx(loss.item(), rel=1e-5)
    learned = [*learner.model.backbone.parameters(), *learner.model.head.parameters()]
    for before, after, gradient in zip(parameters, learned, gradients, strict=True):
        assert after.grad is not None
        torch.testing.assert_close(after.grad, scale * gradient, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(after, before - RATE * (scale * gradient + DECAY * before), rtol=1e-4, atol=1e-6)
    for (key, mine), theirs in zip(learner.model.backbone.named_buffers(), backbone.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=key)
