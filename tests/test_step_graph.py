"""Steps that are replayed as CUDA graphs: the same training as without, and what a machine without a GPU can show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from training_cases import TINY_BACKBONE

from vclimb.methods.bias import BiasCorrection
from vclimb.methods.method import Method, StepBatch, StepOutputs, TaskInfo, Terms
from vclimb.methods.naive import Naive
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.errors import SettingsError
from vclimb.training.config import RunConfig, make_config
from vclimb.training.learner import Learner
from vclimb.training.optimizer import make_optimizer, optimizer_state, restore_optimizer, set_learning_rate
from vclimb.training.processes import Processes
from vclimb.training.run import make_method
from vclimb.training.schedule import TrainingConfig
from vclimb.training.step_graph import StepGraphError, StepInputs

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
TINY = {"backbone": TINY_BACKBONE, "weights": "none", "size": 32}
Decisions = list[tuple[bool, str]]


class Reading(Naive):
    """A method whose loss reads a value from the GPU."""

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        terms = super().loss(batch, outputs)
        return terms if float(terms["classification"]) > 0 else {}


class Counting(Naive):
    """A method that says why its step can't be replayed."""

    not_replayable = "it counts its steps in Python"


def config_of(graphs: str, *tables: dict[str, Any]) -> RunConfig:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compute = {"graphs": graphs, "device": device, "precision": "fp32"}
    return make_config({"data": "none", "model": TINY, "training": {"batch_size": 4}, "compute": compute}, *tables)


def train(config: RunConfig, method: Method[Any] | None = None, steps: int = 50) -> tuple[dict[str, Tensor], Decisions]:
    """Train the second task on drawn clips, whose every fifth batch is not whole."""
    torch.manual_seed(0)
    device, decisions = torch.device("cuda", 0), Decisions()
    learner, made = Learner(config, Processes(0, 1, device), 2), method or make_method(config)
    made.begin_task(TaskInfo(0, (2, 2)), learner.model)
    made.begin_task(TaskInfo(1, (2, 2)), learner.model)
    learner.grow(4, 0)
    learner.begin_task(made, report=lambda *decision: decisions.append(decision))
    draws = torch.Generator().manual_seed(1)
    for step in range(steps):
        n_clips = 3 if step % 5 == 4 else 4
        clips = torch.randint(0, 256, (n_clips, 2, 32, 32, 3), dtype=torch.uint8, generator=draws).to(device)
        labels = torch.randint(2, 4, (n_clips,), generator=draws).to(device)
        logits = torch.randn(n_clips, 4, generator=draws).to(device) if made.keeps_logits else None
        batch = StepBatch(clips.permute(0, 1, 4, 2, 3), labels, torch.arange(n_clips, device=device), logits)
        down = batch.clips.flip(1) if config.consistency.weight else None
        learner.step(made, batch, down, n_global=n_clips, progress=step / steps)
    return learner.model.state_dict(), decisions


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cuDNN take kernels that give the same bits each time, so that rounding doesn't grow over the steps."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_inputs_of_a_recorded_step_are_filled_anew() -> None:
    first, second = (
        StepInputs(torch.full((2, 3), n), torch.full((2,), n), torch.full((2,), n), None, torch.full((2, 5), float(n)))
        for n in range(2)
    )
    own = first.copies()
    assert own.shapes() == second.shapes()
    own.take(second)
    for name in ("clips", "labels", "items", "stored_logits"):
        assert torch.equal(getattr(own, name), getattr(second, name))
        assert getattr(first, name).eq(0).all()
    assert own.shapes() != StepInputs(own.clips, own.labels, own.items).shapes()


METHODS = ["finetune", "naive", "icarl", "bic", "lwf", "ewc", "mas", "er-ace", "wa", "der++"]


@GPU
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adagrad"])
@pytest.mark.parametrize("method", METHODS)
def test_replayed_steps_train_as_steps_run_as_written(method: str, optimizer: str) -> None:
    tables = {"method": method, "training": {"optimizer": optimizer, "schedule": "cosine"}, "consistency": {}}
    if method == "icarl":
        tables["consistency"] = {"weight": 0.5}
    written = make_method(config_of("auto", tables))
    written.not_replayable = "it is compared with"  # with the optimiser of a graph
    replayed, decisions = train(config_of("on", tables))
    assert [decision[0] for decision in decisions] == [True]
    same, _ = train(config_of("auto", tables), written)
    for name, value in replayed.items():
        assert torch.equal(same[name], value), name
    if optimizer == "sgd":  # the others divide by the size of a gradient, so that rounding decides on those near 0
        plain, _ = train(config_of("off", tables))
        for name, value in replayed.items():
            torch.testing.assert_close(plain[name], value, rtol=1e-3, atol=1e-3)


@GPU
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("method", "reason"), [(Reading, "waits for the GPU"), (Counting, "counts its steps")])
def test_steps_that_cannot_be_replayed_run_as_written_and_say_why(method: type[Naive], reason: str) -> None:
    (plain, _), (same, decisions) = (train(config_of(g), method(Naive.Config()), 10) for g in ("off", "auto"))
    assert [decision[0] for decision in decisions] == [False]
    assert reason in decisions[0][1]
    for name, value in plain.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-3)
    with pytest.raises(StepGraphError, match=reason):
        train(config_of("on"), method(Naive.Config()), 10)


def test_graphs_that_are_asked_for_need_a_gpu() -> None:
    with pytest.raises(SettingsError, match=r"compute\.graphs on needs a GPU, and training is on cpu"):
        Learner(config_of("on", {"compute": {"device": "cpu"}}), Processes(0, 1, torch.device("cpu")), 2)


@pytest.mark.parametrize("name", ["sgd", "adagrad", pytest.param("adamw", marks=GPU)])
def test_optimiser_for_a_graph_takes_the_same_steps_and_its_state_serves_both(name: str) -> None:
    config = TrainingConfig(optimizer=name, learning_rate=0.1, backbone_rate=0.5)  # type: ignore[arg-type]
    networks, states, device = [], [], "cuda" if torch.cuda.is_available() else "cpu"
    for for_graph, restored_for_graph in ((False, True), (True, False)):
        torch.manual_seed(0)
        model = make_network(ModelConfig(**TINY), 2).to(device)  # type: ignore[arg-type]
        optimizer = make_optimizer(config, model, for_graph)
        for step in range(4):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, 1.0 + step)
            set_learning_rate(optimizer, 0.1 / (1 + step))
            optimizer.step()
            if step == 1:  # as a run does that is resumed elsewhere
                state = optimizer_state(optimizer)
                optimizer = make_optimizer(config, model, restored_for_graph)
                restore_optimizer(optimizer, state)
                states.append([group["lr"] for group in state["param_groups"]])
        networks.append(model.state_dict())
    assert states[0] == pytest.approx([0.025, 0.05])
    assert states[1] == pytest.approx(states[0])
    for name, value in networks[0].items():
        torch.testing.assert_close(networks[1][name], value)


def test_bias_correction_repeats_the_values_of_tasks() -> None:
    correction = BiasCorrection((2, 1), (0.5, 2.0), (1.0, -1.0))
    expected = torch.tensor([[1.5, 2.0, 5.0]])
    assert torch.equal(correction(torch.tensor([[1.0, 2.0, 3.0]])), expected)
