"""`Dataset.stream`: clips of a split in a plain loop, whose workers end however the loop ends."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from dataset_cases import make_source

import vclimb
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.cpu import CpuClipStream


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> vclimb.Dataset:
    """Two classes of four videos: six for training, two for testing."""
    folder = tmp_path_factory.mktemp("split")
    source = make_source(folder / "source", classes=2, videos_per_class=4)
    rows = sorted(str(path.relative_to(source)) for path in source.glob("*/*"))
    lines = [f"{row},{Path(row).parent},{'test' if number % 4 == 3 else 'train'}" for number, row in enumerate(rows)]
    (source / "videos.csv").write_text("\n".join(["path,label,split", *lines, ""]))
    return vclimb.prepare(source, folder / "shards", layout="table", progress=False)


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert multiprocessing.active_children() == []


def test_a_loop_shows_every_clip_of_the_split_once(data: vclimb.Dataset) -> None:
    stream = data.stream("train", batch_size=4, size=32, clip_frames=3, workers=1, device="cpu")
    batches = list(stream)
    assert len(stream) == 2
    assert multiprocessing.active_children() == []
    assert [batch.frames.shape for batch in batches] == [(4, 3, 3, 32, 32), (2, 3, 3, 32, 32)]
    assert {(batch.frames.dtype, batch.labels.dtype) for batch in batches} == {(torch.uint8, torch.int64)}
    keys = [key for batch in batches for key in batch.keys]
    assert sorted(keys) == sorted(instance.key for instance in data.instances if instance.split == "train")
    next_epoch = [key for batch in stream for key in batch.keys]
    assert sorted(next_epoch) == sorted(keys)
    assert next_epoch != keys
    again = data.stream("train", batch_size=4, size=32, clip_frames=3, workers=0, epoch=1, device="cpu")
    assert [key for batch in again for key in batch.keys] == next_epoch


def test_training_and_evaluation_have_their_augmentation(data: vclimb.Dataset) -> None:
    train = [instance for instance in data.instances if instance.split == "train"]
    test = [instance for instance in data.instances if instance.split == "test"]
    for split, training, instances, view, crop, shuffle in (
        ("train", None, train, View(n_frames=2), Augmentation(32), True),
        ("train", False, train, View(n_frames=2, random=False), Augmentation.evaluation(32), False),
        ("test", None, test, View(n_frames=2, random=False), Augmentation.evaluation(32), False),
        (None, True, data.instances, View(n_frames=2), Augmentation(32), True),
    ):
        settings = StreamSettings(4, (view,), crop, seed=5, shuffle=shuffle)
        expected = list(CpuClipStream(InstanceProvider(data, instances), settings, workers=0))
        stream = data.stream(
            split, batch_size=4, size=32, clip_frames=2, seed=5, training=training, workers=0, device="cpu"
        )
        for ours, theirs in zip(stream, expected, strict=True):
            assert ours.keys == theirs.keys
            assert torch.equal(ours.frames, theirs.frames)


def _opened(data: vclimb.Dataset) -> Iterator[ClipBatch]:
    batches = iter(data.stream("train", batch_size=2, size=32, workers=2, device="cpu"))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    return batches


def test_workers_end_when_a_loop_is_left(data: vclimb.Dataset) -> None:
    stream = data.stream("train", batch_size=2, size=32, workers=2, device="cpu")
    for _ in stream:
        assert len(multiprocessing.active_children()) == 2
        break
    assert multiprocessing.active_children() == []
    with pytest.raises(ZeroDivisionError):
        _fail_in_loop(stream)
    assert multiprocessing.active_children() == []


def _fail_in_loop(stream: Iterable[ClipBatch]) -> None:
    for _ in stream:
        raise ZeroDivisionError


def test_workers_end_with_the_last_reference(data: vclimb.Dataset) -> None:
    batches = _opened(data)
    del batches
    assert multiprocessing.active_children() == []
    cycle = [_opened(data)]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    gc.collect()
    assert multiprocessing.active_children() == []


def test_an_iterator_that_was_replaced_ends_no_workers(data: vclimb.Dataset) -> None:
    stream = data.stream("train", batch_size=2, size=32, workers=1, device="cpu")
    first = iter(stream)
    next(first)
    second = iter(stream)
    next(second)
    del first
    assert len(multiprocessing.active_children()) == 1
    assert len(list(second)) == 1
    assert multiprocessing.active_children() == []


def test_what_is_not_there_is_explained(data: vclimb.Dataset) -> None:
    with pytest.raises(SettingsError, match="has no split 'val'; allowed: 'test', 'train', or None for all"):
        data.stream("val")
    with pytest.raises(SettingsError, match="batch size 0 is out of range"):
        data.stream("train", batch_size=0)
    with pytest.raises(SettingsError, match="size 4 is out of range"):
        data.stream("test", size=4)
