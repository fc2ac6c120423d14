"""Replay of the features of K frames: what lies above a frozen backbone is trained on them, as on the frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_cases import comparable, final_network, tiny_config, train_with_a_stop

import vclimb
from vclimb.memory.kept_features import read_features
from vclimb.memory.store.reader import MemoryStore
from vclimb.model.frame_model import FrameModel, clip_features, kept_frames, shown_frames
from vclimb.model.registry import make_network
from vclimb.pipeline.errors import SettingsError
from vclimb.study.definition import StudyDefinition
from vclimb.study.naming import label, varied
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.plan import plan_run
from vclimb.training.processes import Processes
from vclimb.training.run import train
from vclimb.training.run_metrics import RunMetrics
from vclimb.training.trainer import Trainer


def config_of(shards: Path, *more: str) -> RunConfig:
    """Settings of a run whose memory keeps two of the three frames of a clip, as features under temporal layers."""
    return tiny_config(
        shards,
        "features",
        "memory.budget=all",
        "memory.frames=2",
        "memory.codec=frame-features:fp32",
        "model.network=tcn",
        "model.clip_frames=3",
        "model.dropout=0",
        "method.temporal_steps=40",
        "method.temporal_rate=0.003",
        *more,
    )


@pytest.fixture(scope="module")
def whole(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunMetrics, Path]:
    """A run that keeps the frame features of all videos, and its folder."""
    run = tmp_path_factory.mktemp("frame-features") / "run"
    return train(config_of(synth_shards), run), run


def test_temporal_layers_and_head_alone_are_trained_on_frame_features(
    whole: tuple[RunMetrics, Path], synth_shards: Path
) -> None:
    metrics, run = whole
    config, plan = config_of(synth_shards), plan_run(config_of(synth_shards))
    kept = read_features(MemoryStore.open(run / "memory.zarr"))
    assert kept.features.shape == (24, 2, 96)
    n_bytes = 2 * 96 * 4 + 4
    assert plan.bytes_from == f"expected bytes: {n_bytes} for the features of a video's frames, as frame-features:fp32"
    assert metrics.memory is not None
    files = [file for file in (run / "memory.zarr").rglob("*") if file.is_file()]
    on_disk = sum(file.stat().st_size for file in files)
    assert metrics.memory.bytes_on_disk == on_disk == sum(metrics.memory.parts.values())
    planned = plan.tasks[-1].memory
    assert planned is not None
    assert dict(planned.parts) == pytest.approx(metrics.memory.parts, rel=0.2)
    model = {"model.network": "tcn", "model.backbone": config.model.backbone, "model.clip_frames": 3}
    (held,) = vclimb.capacities(
        synth_shards, "24v", codecs=["frame-features:fp32"], frames=[2], settings=model, sample=1
    )
    assert (held.codec, held.frames, held.videos, held.bytes_per_frame) == ("frame-features:fp32", 2, 24, n_bytes)
    assert dict(held.parts) == pytest.approx(metrics.memory.parts, rel=0.2)
    initial = Learner(config, Processes(0, 1, torch.device("cpu")), 6).model.state_dict()
    trained = final_network(run)
    changed = {name.split(".")[0] for name, value in initial.items() if not torch.equal(trained[name], value)}
    assert changed == {"temporal", "head"}
    network = make_network(config.model, 6)
    network.restore(trained)
    assert isinstance(network, FrameModel)
    with torch.inference_mode():
        logits = network.eval().classify(clip_features(network, torch.from_numpy(kept.features), shown_frames(2, 3)))
    assert (logits.argmax(1).numpy() == kept.labels).mean() > 0.4  # fitted to these; chance is 0.17


def test_a_memory_of_all_frame_features_gives_what_training_on_all_classes_at_once_gives(
    whole: tuple[RunMetrics, Path], synth_shards: Path, tmp_path: Path
) -> None:
    metrics, run = whole
    at_once = train(config_of(synth_shards, "scenario.tasks=1"), tmp_path / "run")
    first, second = final_network(run), final_network(tmp_path / "run")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert at_once.confusion == metrics.confusion


def test_run_resumes_exactly(
    whole: tuple[RunMetrics, Path], synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = train_with_a_stop(config_of(synth_shards), tmp_path / "run", (Trainer, "_update_memory"), monkeypatch)
    metrics, run = whole
    assert comparable(resumed) == comparable(metrics)
    first, second = final_network(run), final_network(tmp_path / "run")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("network", ["tsn", "tsm", "tcn"])
@torch.inference_mode()
def test_replayed_features_give_the_output_of_the_network_for_the_same_frames(network: str) -> None:
    settings = tiny_config(Path("x"), "naive", f"model.network={network}", "model.clip_frames=4").model
    torch.manual_seed(0)
    model = make_network(settings, 3).eval()
    assert isinstance(model, FrameModel)
    clips = torch.randint(0, 256, (5, 4, 3, 32, 32), dtype=torch.uint8)
    for count in (4,) if network == "tsm" else (1, 2, 4):  # what TSM computes of a frame depends on its neighbours
        kept, shown = kept_frames(4, count), shown_frames(count, 4)
        replayed = clip_features(model, model.frame_features(clips)[:, kept], shown, batch_size=2)
        expected = model(clips[:, kept][:, shown])
        torch.testing.assert_close(model.classify(replayed), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("codec", ["frame-features:int8", "frame-features"])
def test_a_linear_head_is_fitted_where_nothing_lies_between(codec: str, synth_shards: Path, tmp_path: Path) -> None:
    more = ("model.network=tsm", "memory.budget=16kB", f"memory.codec={codec}", "scenario.tasks=2")
    metrics = train(config_of(synth_shards, *more), tmp_path / "run")
    for task in metrics.tasks:
        assert task.memory is not None
        assert task.memory.bytes_on_disk <= 16_000
    assert set(metrics.classifiers) == {"linear", "nearest_mean"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("memory.frames=4",),
            r"memory.frames 4 is no number of frames of a clip \(model.clip_frames 3\), whose feat",
        ),
        (("memory.frames=pilot",), "memory.frames is pilot, and a pilot can.t choose"),
        (("model.network=r2plus1d_18",), "keeps features of frames, and network r2plus1d_18 computes none; take netw"),
        (("memory.frame_choice=random",), "memory.frame_choice is random, and memory.codec frame-features:fp32 keeps"),
        (("memory.codec=frame-features:fp64",), "keeps no features that are known; allowed: features:fp32, "),
        (("memory.budget=90f",), "memory.budget 90f counts frames, and memory.codec frame-features:fp32 keeps none"),
        (("memory.budget=3kB",), r"one video takes about 3,\d\d\d \(features of frames as frame-features:fp32\)"),
        (("method.temporal_rate=0",), "temporal_rate"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: tuple[str, ...], message: str, synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        plan_run(config_of(synth_shards, *settings))
    assert "\n" not in str(raised.value)


def test_cells_of_frame_features_differ_by_their_number_of_frames() -> None:
    cells = StudyDefinition.parse(
        {
            "base": {"scenario": {"tasks": 2}, "memory": {"budget": "9v"}, "method": "features"},
            "cells": [{"memory": {"codec": "features"}}, {"memory": {"codec": "frame-features"}}],
            "axes": {"frames": [1, 2]},
        }
    ).expand("shards/x")
    names = varied([cell.settings for cell in cells])
    said = [label(cell.settings, names) for cell in cells]
    assert said == ["features:fp16", "K 1, frame-features:fp16", "K 2, frame-features:fp16"]
