"""The loss of each method on tiny tensors, against values computed with NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from vclimb.methods.bias import BiasCorrection
from vclimb.methods.bic import BiC
from vclimb.methods.method import Method, StepBatch, StepOutputs, TaskInfo
from vclimb.methods.registry import METHODS, parse_method
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import Outputs
from vclimb.pipeline.errors import SettingsError
from vclimb.protocol import PAPER, RELEASED

Doubles = npt.NDArray[np.float64]
TASKS = (2, 1, 2)
SECOND = TaskInfo(1, TASKS)
LABELS = np.array([2, 0, 2, 1])


class TinyNetwork(ClipModel):
    """A head on features that are the clips themselves."""

    def __init__(self, n_classes: int) -> None:
        torch.manual_seed(n_classes)
        super().__init__(nn.Identity(), 3, n_classes, dropout=0.0)

    def features(self, clips: Tensor) -> Tensor:
        return clips


class TinyData:
    """Items of a task whose clips are features."""

    def __init__(self, model: TinyNetwork, labels: npt.NDArray[np.int64]) -> None:
        self._model = model
        self.labels = labels
        self.names = [f"{label}/{number}" for number, label in enumerate(labels.tolist())]
        self.seed = 0
        self.clips = clips_of(len(labels))

    def batches(self, training_clips: bool = False) -> Any:
        yield self.clips[:3], torch.from_numpy(self.labels[:3])
        yield self.clips[3:], torch.from_numpy(self.labels[3:])

    def outputs(self, items: npt.NDArray[np.int64]) -> Outputs:
        clips = self.clips[torch.from_numpy(items)]
        return Outputs(items, self.labels[items], clips, self._model(clips).detach())

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        return tensor


def clips_of(n: int) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(n))


def make(name: str, released: bool = False, consistency: float = 0.0, **settings: Any) -> Method:
    kind, config = parse_method({"name": name, **settings})
    return kind(config, RELEASED if released else PAPER, consistency)


def in_second_task(method: Method, learn_first: bool = False) -> tuple[TinyNetwork, TinyNetwork, StepBatch, Tensor]:
    """Begin a second task; return the old network, the new network, a batch, and the new network's logits."""
    old, new = TinyNetwork(2), TinyNetwork(3)
    method.begin_task(TaskInfo(0, TASKS), old)
    if learn_first:
        method.end_task(TaskInfo(0, TASKS), old, TinyData(old, np.array([0, 1, 0, 1])))
    method.begin_task(SECOND, old)
    batch = StepBatch(clips_of(4), torch.from_numpy(LABELS), np.arange(4))
    return old, new, batch, new(batch.clips)


def numbers(tensor: Tensor) -> Doubles:
    return np.asarray(tensor.detach().double().numpy())


def log_softmax(logits: Doubles) -> Doubles:
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))


def cross_entropy(logits: Doubles, labels: npt.NDArray[np.int64]) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def bce(logits: Doubles, targets: Doubles) -> float:
    s = 1 / (1 + np.exp(-logits))
    return float(-(targets * np.log(s) + (1 - targets) * np.log(1 - s)).sum(1).mean())


def total(method: Method, batch: StepBatch, outputs: StepOutputs) -> float:
    return sum(float(value.detach()) for value in method.loss(batch, outputs).values())


@pytest.mark.parametrize("name", ["finetune", "naive", "joint"])
def test_cross_entropy_over_all_classes_and_temporal_consistency(name: str) -> None:
    method = make(name, consistency=0.25)
    _, new, batch, logits = in_second_task(method)
    down = new(clips_of(5)[:4])
    whole, seen = cross_entropy(numbers(logits), LABELS), cross_entropy(numbers(down), LABELS)
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(whole, rel=1e-5)
    assert total(method, batch, StepOutputs(logits, down)) == pytest.approx(0.75 * whole + 0.25 * seen, rel=1e-5)


def test_lwf_classifies_new_classes_and_distils_old_ones() -> None:
    method = make("lwf", weight=0.7)
    old, _, _, _ = in_second_task(method)
    batch = StepBatch(clips_of(4), torch.full((4,), 2), np.arange(4))
    logits = TinyNetwork(4)(batch.clips)
    old_logits = numbers(old(batch.clips))
    soft = np.exp(log_softmax(old_logits / 2))
    distillation = -(soft * log_softmax(numbers(logits)[:, :2] / 2)).sum(1).mean()
    classification = cross_entropy(numbers(logits)[:, 2:], np.zeros(4, np.int64))
    expected = classification + 0.7 * distillation
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


def test_released_lwf_distils_nothing() -> None:
    method = make("lwf", released=True)
    _, new, batch, logits = in_second_task(method)
    sum(method.loss(batch, StepOutputs(logits)).values()).backward()  # type: ignore[union-attr]
    gradient = new.head.weight.grad
    assert gradient is not None
    new.zero_grad()
    torch.nn.functional.cross_entropy(new(batch.clips), batch.labels).backward()  # type: ignore[no-untyped-call]
    assert new.head.weight.grad is not None
    torch.testing.assert_close(gradient, new.head.weight.grad)


@pytest.mark.parametrize(("released", "over_classes"), [(False, "sum"), (False, "mean"), (True, "sum")])
def test_icarl(released: bool, over_classes: str) -> None:
    method = make("icarl", released=released, over_classes=over_classes)
    old, _, batch, logits = in_second_task(method)
    values, targets = numbers(logits), np.eye(3)[LABELS]
    distillation = bce(values[:, :2], 1 / (1 + np.exp(-numbers(old(batch.clips)))))
    classification = cross_entropy(values, LABELS) if released else bce(values[:, 2:], targets[:, 2:])
    expected = (classification + distillation) / (3 if over_classes == "mean" else 1)
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)
    assert method.video_choice == ("released-herding" if released else "herding")


def test_bic_distils_from_the_corrected_old_model() -> None:
    method = make("bic")
    assert isinstance(method, BiC)
    old, _, batch, logits = in_second_task(method)
    method._old_correction = BiasCorrection((2,), (1.5,), (0.25,))
    soft = np.exp(log_softmax((1.5 * numbers(old(batch.clips)) + 0.25) / 2))
    distillation = -(soft * log_softmax(numbers(logits)[:, :2] / 2)).sum(1).mean()
    expected = 2 / 3 * distillation + 1 / 3 * cross_entropy(numbers(logits), LABELS)
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


def test_bic_fits_its_correction_on_the_hold_out() -> None:
    method = make("bic", hold_out=0.5)
    _, new, _, logits = in_second_task(method)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    data = TinyData(new, labels)
    trained = method.training_items(SECOND, data)
    assert trained is not None
    held_out = np.setdiff1d(np.arange(14), trained)
    assert np.bincount(labels[held_out]).tolist() == [2, 2, 2]
    method.end_task(SECOND, new, data)
    scores = numbers(method.scores(logits))
    assert np.allclose(scores[:, :2], numbers(logits)[:, :2])
    slope = (scores[:, 2] - scores[0, 2]) / (numbers(logits)[:, 2] - numbers(logits)[0, 2] + 1e-12)
    assert np.allclose(slope[1:], slope[1], rtol=1e-3)
    assert cross_entropy(numbers(method.scores(data.outputs(held_out).logits)), labels[held_out]) < cross_entropy(
        numbers(data.outputs(held_out).logits), labels[held_out]
    )


@pytest.mark.parametrize(("name", "factor"), [("ewc", 0.5), ("mas", 1.0)])
def test_penalties_hold_parameters_where_they_were(name: str, factor: float) -> None:
    method = make(name, strength=4.0)
    old, new, _, _ = in_second_task(method, learn_first=True)
    anchor = method.state_dict()["anchor"]
    expected = 0.0
    for key in ("head.weight", "head.bias"):
        rows = dict(new.named_parameters())[key][:2]
        moved = numbers(rows) - numbers(dict(old.named_parameters())[key])
        expected += float((numbers(anchor["importance"][key]) * moved**2).sum())
    (penalty,) = method.penalty(new).values()
    assert float(penalty.detach()) == pytest.approx(4.0 * factor * expected, rel=1e-5)
    assert all(float(value.detach()) == 0 for value in method.penalty(old).values())


def test_the_fisher_is_the_mean_of_squared_gradients() -> None:
    method = make("ewc")
    old, _, _, _ = in_second_task(method, learn_first=True)
    data = TinyData(old, np.array([0, 1, 0, 1]))
    squares = torch.zeros(2, 3)
    for clip, label in zip(data.clips, data.labels, strict=True):
        old.zero_grad()
        old(clip[None]).log_softmax(1)[0, label].backward()  # type: ignore[no-untyped-call]
        assert old.head.weight.grad is not None
        squares += old.head.weight.grad.square()
    torch.testing.assert_close(method.state_dict()["anchor"]["importance"]["head.weight"], squares / 4)


@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_released_labels_begin_at_0_in_every_task(name: str) -> None:
    method = make(name, released=True)
    _, _, _, logits = in_second_task(method)
    batch = StepBatch(clips_of(4), torch.full((4,), 2), np.arange(4))
    expected = cross_entropy(numbers(logits), np.zeros(4, np.int64))
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", METHODS.listings())
def test_a_restored_method_computes_the_same(name: str) -> None:
    """A method with another's state has the same loss, penalty and scores."""
    method, other = make(name), make(name)
    _, new, batch, logits = in_second_task(method, learn_first=name in ("ewc", "mas"))
    if name == "lwf":  # without replay, every clip is of a new class
        batch = StepBatch(batch.clips, torch.full((4,), 2), np.arange(4))
    other.load_state_dict(method.state_dict(), new)
    assert total(other, batch, StepOutputs(logits)) == total(method, batch, StepOutputs(logits))
    penalties = [method.penalty(new), other.penalty(new)]
    assert penalties[0] == penalties[1]
    assert torch.equal(other.scores(logits), method.scores(logits))


def test_an_unknown_method_or_setting_suggests_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'icarl'"):
        parse_method({"name": "iCarl"})
    with pytest.raises(SettingsError, match=r"'method\.strenght' is not known; did you mean 'strength'"):
        parse_method({"name": "ewc", "strenght": 1})
