"""Steps as the benchmark's released code takes them, against small formulas of their own.

docs/training.md describes the differences.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vclimb.methods.method import StepBatch, StepOutputs, TaskInfo
from vclimb.methods.old_model import released_targets
from vclimb.methods.registry import parse_method
from vclimb.model.clip_model import ClipModel, make_head
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.clips.sampling import View
from vclimb.protocol import PAPER, RELEASED
from vclimb.training.config import make_config
from vclimb.training.evaluation import released_selection_score
from vclimb.training.learner import autocast_type
from vclimb.training.passes import Passes


class Tiny(ClipModel):
    """One pixel's batch normalisation, and a head: small enough to compute by hand."""

    def __init__(self, n_classes: int = 3) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Identity(), 3, n_classes, dropout=0.0)
        self.norm = nn.BatchNorm1d(3)
        nn.init.normal_(self.head.weight)

    def features(self, clips: Tensor) -> Tensor:
        features: Tensor = self.norm(clips.float().mean((1, 3, 4)) / 255)
        return features


def drawn_clips(n: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (n, 2, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pixels(clips: Tensor) -> Any:
    return clips.numpy().astype(np.float64).mean((1, 3, 4)) / 255


def normalised(values: Any) -> Any:
    return (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)


class TestPasses:
    first, second = drawn_clips(4, 1), drawn_clips(4, 2) // 4

    def running(self, *batches: Any) -> tuple[Any, Any]:
        """Running mean and variance after batches, with the usual momentum of 0.1 and unbiased variances."""
        mean, variance = np.zeros(3), np.ones(3)
        for batch in batches:
            mean = 0.9 * mean + 0.1 * batch.mean(0)
            variance = 0.9 * variance + 0.1 * batch.var(0, ddof=1)
        return mean, variance

    @pytest.mark.parametrize("consistency", [0.5, 0.0])
    def test_separate(self, consistency: float) -> None:
        model = Tiny()
        logits, second = Passes(model, RELEASED, consistency)(self.first, self.second)
        x, xd = pixels(self.first), pixels(self.second)
        weight, bias = model.head.weight.detach().double().numpy(), model.head.bias.detach().double().numpy()
        np.testing.assert_allclose(logits.detach().numpy(), normalised(x) @ weight.T + bias, atol=1e-4)
        assert (second is None) == (consistency == 0)
        if second is not None:
            np.testing.assert_allclose(second.detach().numpy(), normalised(xd) @ weight.T + bias, atol=1e-4)
        mean, variance = self.running(x, xd)
        np.testing.assert_allclose(model.norm.running_mean.numpy(), mean, atol=1e-6)
        np.testing.assert_allclose(model.norm.running_var.numpy(), variance, atol=1e-6)

    def test_joined(self) -> None:
        model = Tiny()
        logits, _ = Passes(model, PAPER, 0.5)(self.first, self.second)
        both = np.concatenate([pixels(self.first), pixels(self.second)])
        weight = model.head.weight.detach().double().numpy()
        np.testing.assert_allclose(logits.detach().numpy(), (normalised(both) @ weight.T)[:4], atol=1e-4)
        np.testing.assert_allclose(model.norm.running_mean.numpy(), self.running(both)[0], atol=1e-6)

    def test_a_pass_of_weight_0_has_the_gradient_of_no_second_pass(self) -> None:
        gradients = []
        for down in (self.second, None):
            model = Tiny()
            logits, _ = Passes(model, RELEASED, 0.0)(self.first, down)
            logits.square().sum().backward()  # type: ignore[no-untyped-call]
            gradients.append([parameter.grad for parameter in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("n_frames", "shown"),
    [(31, range(24)), (8, range(8)), (15, range(8)), (40, range(40)), (3, range(3))],
)
def test_training_segments_have_whole_frames(n_frames: int, shown: range) -> None:
    """n // 8 frames a segment: 31 frames are 8 segments of 3, and the last 7 are never shown."""
    view, items = View("clip", 8, "whole-segments"), np.arange(400)
    frames = view.frames(0, 0, items, np.full(400, n_frames))
    assert set(frames.ravel().tolist()) == set(shown)
    length = n_frames // 8
    if length:
        assert (frames // length == np.arange(8)).all()
        counts = np.bincount(frames.ravel(), minlength=len(shown))
        assert counts.min() > 0.7 * 400 / length
    exact = View("clip", 8).frames(0, 0, items, np.full(400, n_frames))
    assert set(exact.ravel().tolist()) == set(range(n_frames))


class TestNetwork:
    config = ModelConfig(backbone="test_resnet.r160_in1k", weights="none", clip_frames=8, size=32)

    def noise(self, config: ModelConfig) -> float:
        """Mean variance of the logits that dropout makes, over that of one mask on the mean of the frames."""
        torch.manual_seed(0)
        model = make_network(config, 2)
        frames = torch.rand(1, 8, model.n_features, generator=torch.Generator().manual_seed(1))
        model.frame_features = lambda clips: frames  # type: ignore[method-assign, attr-defined]
        nn.init.normal_(model.head.weight)
        model.train()
        clips = torch.zeros(1, 8, 3, 32, 32, dtype=torch.uint8)
        with torch.no_grad():
            variance = torch.stack([model(clips)[0] for _ in range(1500)]).var(0)
            one_mask = (model.head.weight.square() * frames.mean(1).square()).sum(1)  # p / (1 - p) is 1 for p = 1/2
            eight = (model.head.weight.square() * frames.square().sum(1)).sum(1) / 64
        assert model.eval()(clips).allclose(model.head(model.features(clips)), atol=1e-4)
        expected = eight if config.dropout_of == "frame" else one_mask
        assert (variance / expected - 1).abs().max() < 0.25
        return float((variance / one_mask).mean())

    def test_each_frame_is_dropped_out_by_its_own_mask(self) -> None:
        assert self.noise(self.config) < 0.25
        assert self.noise(self.config.replaced(dropout_of="clip")) > 0.8

    def test_heads_start_small_and_without_bias(self) -> None:
        torch.manual_seed(0)
        head = make_head(1000, 50)
        assert head.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert not head.bias.any()
        model = Tiny(2)
        kept = model.head.weight.clone()
        model.grow(40)
        assert torch.equal(model.head.weight[:2], kept)
        assert model.head.weight[2:].std().item() == pytest.approx(0.001, rel=0.3)
        assert not model.head.bias[2:].any()


class _OldModelData:
    """Items 0 to 4 of a task, of which item 3 was in the dropped batch."""

    labels = np.zeros(5, np.int64)

    def training_logits(self, model: ClipModel, items: Any) -> tuple[Any, Tensor]:
        return np.array([4, 0, 2, 1]), torch.tensor([[4.0, -4], [0, 0], [2, -2], [1, -1]])


class TestTargets:
    def test_items_of_the_dropped_batch_keep_0(self) -> None:
        table = released_targets(4, np.array([2, 0]), torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
        assert torch.equal(table, torch.tensor([[0.6, 0.4], [0, 0], [0.2, 0.8], [0, 0]]))

    @pytest.mark.parametrize("name", ["icarl", "bic"])
    def test_losses_use_the_targets_from_before_the_task(self, name: str) -> None:
        kind, config = parse_method({"name": name})
        method = kind(config, RELEASED)
        tasks = (2, 1)
        model = Tiny(2)
        method.begin_task(TaskInfo(0, tasks), model)
        method.begin_task(TaskInfo(1, tasks), model)
        method.before_training(TaskInfo(1, tasks), _OldModelData(), None)  # type: ignore[arg-type]
        restored = kind(config, RELEASED)
        restored.load_state_dict(copy.deepcopy(method.state_dict()), model)
        logits, labels = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0]]), torch.tensor([2, 0])
        batch = StepBatch(
            drawn_clips(2, 3), labels, torch.tensor([3, 1])
        )  # the dropped item, and one with logits 1, -1
        rows = logits.tolist()
        cross_entropy = -sum(r[y] - math.log(sum(map(math.exp, r))) for r, y in zip(rows, (2, 0), strict=True)) / 2
        if name == "icarl":  # binary cross-entropy with targets 0 and 0, and s(1) and s(-1)
            q = 1 / (1 + math.exp(-1))
            targets = [[0, 0], [q, 1 - q]]
            pairs = [(x, q) for row, ts in zip(rows, targets, strict=True) for x, q in zip(row[:2], ts, strict=True)]
            expected = cross_entropy + sum(math.log(1 + math.exp(x)) - q * x for x, q in pairs) / 2
        else:  # softmax at temperature 2 of 1 and -1; the dropped item adds nothing; lambda is 2 / 3
            p = 1 / (1 + math.exp(-1))
            first, second = 1.0 / 2, 0.0 / 2
            total = math.log(math.exp(first) + math.exp(second))
            expected = cross_entropy / 3 + 2 / 3 * -(p * (first - total) + (1 - p) * (second - total)) / 2
        for learned in (method, restored):
            loss = sum(learned.loss(batch, StepOutputs(logits)).values())
            assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_selection_score_weights_tasks_by_their_classes() -> None:
    assert released_selection_score([0.5, 1.0, math.nan], (6, 2, 2, 5)) == pytest.approx((6 * 0.5 + 2 * 1.0) / 10)


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ({"protocol": "paper"}, torch.bfloat16),
        ({"protocol": "released"}, torch.float16),
        ({"protocol": "released", "compute": {"precision": "fp32"}}, None),
        ({"protocol": "released", "compute": {"precision": "bf16"}}, torch.bfloat16),
        ({"differences": {"autocast": "fp16-unscaled"}}, torch.float16),
    ],
)
def test_types_of_mixed_precision_on_a_gpu(assignments: dict[str, Any], expected: torch.dtype | None) -> None:
    assert autocast_type(make_config({"data": "x"}, assignments), torch.device("cuda")) is expected
