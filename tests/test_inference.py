"""Passes over items: the order, any batch size, workers and ranks, and the restored mode of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stream_cases import JpegsInMemory, provider_of, settings_of

from vclimb.model import inference
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import InferenceSettings, Share, infer
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.errors import FrameDamagedError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import Choice
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.workers import kept_workers

CPU = torch.device("cpu")
SETTINGS = InferenceSettings(n_frames=3, size=48, batch_size=5, workers=0)


@pytest.fixture(scope="module")
def model() -> ClipModel:
    torch.manual_seed(0)
    return make_network(ModelConfig(backbone="resnet10t.c3_in1k", weights="none"), 4)


@pytest.fixture(scope="module")
def provider(jpeg_folder: Path) -> InstanceProvider:
    return provider_of(jpeg_folder)


def test_every_item_in_order_as_in_batches_of_one(model: ClipModel, provider: InstanceProvider) -> None:
    model.train()
    outputs = infer(model, provider, SETTINGS, Share(CPU))
    assert model.training
    assert outputs.items.tolist() == list(range(len(provider.items)))
    assert outputs.labels.tolist() == provider.items.labels.tolist()
    assert outputs.features.shape == (len(provider.items), model.n_features)
    assert outputs.logits.shape == (len(provider.items), 4)
    view = View(n_frames=3, random=False)
    single_clips = StreamSettings(1, (view,), Augmentation.evaluation(48), shuffle=False)
    model.eval()
    with CpuClipStream(provider, single_clips, workers=0) as stream, torch.inference_mode():
        logits = torch.cat([model(batch.frames) for batch in stream])
    torch.testing.assert_close(outputs.logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (64, 0), (4, 2)])
def test_batch_size_and_workers_do_not_matter(
    model: ClipModel, provider: InstanceProvider, batch_size: int, workers: int
) -> None:
    settings = InferenceSettings(3, 48, batch_size, workers=workers)
    seen: list[int] = []
    outputs = infer(model, provider, settings, Share(CPU), on_clips=seen.append)
    expected = infer(model, provider, SETTINGS, Share(CPU))
    torch.testing.assert_close(outputs.features, expected.features, rtol=1e-4, atol=1e-4)
    assert sum(seen) == len(provider.items)


def test_a_padded_last_batch_gives_the_same_outputs(
    model: ClipModel, provider: InstanceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are padded on a GPU."""
    expected = infer(model, provider, SETTINGS, Share(CPU))
    sizes: list[int] = []
    features = model.features
    monkeypatch.setattr(inference, "plans_each_size", lambda device: True)
    monkeypatch.setattr(model, "features", lambda clips: sizes.append(len(clips)) or features(clips))
    outputs = infer(model, provider, SETTINGS, Share(CPU))
    assert len(provider.items) % SETTINGS.batch_size
    assert set(sizes) == {SETTINGS.batch_size}
    assert outputs.items.tolist() == expected.items.tolist()
    torch.testing.assert_close(outputs.features, expected.features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_a_short_pass_starts_one_process_or_reuses_waiting_processes(
    model: ClipModel, provider: InstanceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_counts: list[int | None] = []

    def open_stream(*arguments: Any) -> tuple[ClipStream, Choice]:
        worker_counts.append(arguments[5])
        return inference_open_stream(*arguments)

    inference_open_stream = inference.open_stream
    monkeypatch.setattr(inference, "open_stream", open_stream)
    settings = replace(SETTINGS, workers=3)
    expected = infer(model, provider, settings, Share(CPU))
    with kept_workers():
        with CpuClipStream(provider, settings_of(), workers=2) as training:
            list(training)
        outputs = infer(model, provider, settings, Share(CPU))
    assert worker_counts == [1, 2]
    assert torch.equal(outputs.logits, expected.logits)


def test_two_ranks_together_see_each_item_once(model: ClipModel, provider: InstanceProvider) -> None:
    ranks = [infer(model, provider, SETTINGS, Share(CPU, rank, 2)) for rank in (0, 1)]
    whole = infer(model, provider, SETTINGS, Share(CPU))
    items = np.concatenate([outputs.items for outputs in ranks])
    assert sorted(items) == whole.items.tolist()
    together = torch.cat([outputs.logits for outputs in ranks])[np.argsort(items)]
    torch.testing.assert_close(together, whole.logits, rtol=1e-4, atol=1e-4)


def test_a_rank_without_items_has_empty_outputs(model: ClipModel) -> None:
    outputs = infer(model, JpegsInMemory(1), SETTINGS, Share(CPU, 1, 2))
    assert (len(outputs.items), outputs.features.shape, outputs.logits.shape) == (0, (0, model.n_features), (0, 4))


def test_a_damaged_clip_is_an_error(model: ClipModel) -> None:
    model.eval()
    with pytest.raises(FrameDamagedError, match="memory/1"):
        infer(model, JpegsInMemory(damaged=1), SETTINGS, Share(CPU))
    assert not model.training
