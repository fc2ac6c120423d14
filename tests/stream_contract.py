"""What every clip stream must hold, whatever decodes it."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from stream_cases import (
    CENTRES,
    SIZE,
    TRAINING,
    JpegsInMemory,
    all_instances,
    damage,
    longest_video,
    provider_of,
    settings_of,
)

from vclimb.pipeline.clips.provider import ClipProvider, ConcatProvider, InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import FrameDamagedError, SettingsError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.workers import kept_workers

MAX_MEAN_DIFFERENCE = 1.0
"""Largest mean difference of a decoder's pixels from the reference, of 255: rounding, and other taps of a filter."""
MAX_DIFFERENCE = 32
"""Largest difference of a single pixel, at the sharp edges of a test pattern."""

# Comparisons


def assert_same_plan(batch: ClipBatch, other: ClipBatch) -> None:
    """Assert the same clips in the same order: keys, labels, frame numbers, boxes and flips."""
    assert batch.keys == other.keys
    assert batch.labels.tolist() == other.labels.tolist()
    plan, other_plan = batch.plan, other.plan
    assert (plan.epoch, plan.position) == (other_plan.epoch, other_plan.position)
    assert plan.frames.keys() == other_plan.frames.keys() == batch.views.keys()
    for name in plan.frames:
        np.testing.assert_array_equal(plan.frames[name], other_plan.frames[name])
    for field in ("items", "boxes", "flips"):
        np.testing.assert_array_equal(getattr(plan, field), getattr(other_plan, field))


def assert_same_bits(batches: list[ClipBatch], others: list[ClipBatch]) -> None:
    assert_same_within(0, batches, others)


def assert_same_within(levels: int, batches: list[ClipBatch], others: list[ClipBatch]) -> None:
    """Assert the same clips, and pixels that differ by at most so many levels of 255."""
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert_same_plan(batch, other)
        for name, frames in batch.views.items():
            expected = other.views[name]
            assert (frames.shape, frames.dtype) == (expected.shape, expected.dtype), (batch.plan.position, name)
            difference = (frames.int() - expected.int()).abs()
            assert difference.numel() == 0 or difference.max() <= levels, (batch.plan.position, name, difference.max())


def assert_same_picture(batches: list[ClipBatch], reference: list[ClipBatch]) -> None:
    assert len(batches) == len(reference)
    for batch, other in zip(batches, reference, strict=True):
        assert_same_plan(batch, other)
        for name, frames in batch.views.items():
            difference = (frames.cpu().int() - other.views[name].int()).abs()
            assert difference.numel() == 0 or difference.float().mean() <= MAX_MEAN_DIFFERENCE, name
            assert difference.numel() == 0 or difference.max() <= MAX_DIFFERENCE, name


def grandchildren() -> list[psutil.Process]:
    """List the worker processes. The fork server and the resource tracker, which live on, are children."""
    return [worker for child in psutil.Process().children() for worker in child.children(recursive=True)]


class StreamContract(abc.ABC):
    """Contract of every clip stream. The reference is the CPU stream without workers.

    Attributes:
        levels: Largest difference of a pixel, of 255, where a stream repeats a batch.
    """

    levels: int = 0

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _workers_are_reused(cls) -> Iterator[None]:
        with kept_workers():
            yield

    @abc.abstractmethod
    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        """Open the stream under test."""

    @pytest.fixture
    def stream(self, jpeg_folder: Path) -> Iterator[ClipStream]:
        with self.open(provider_of(jpeg_folder), settings_of()) as stream:
            yield stream

    def again(self, stream: ClipStream) -> ClipStream:
        """Open another stream of the same provider and settings."""
        return self.open(stream.provider, stream.settings)

    def epoch(self, provider: ClipProvider, settings: StreamSettings) -> list[ClipBatch]:
        with self.open(provider, settings) as stream:
            return list(stream)

    # Which clips, and how they look

    def test_clips_and_pixels_match_the_reference(self, stream: ClipStream) -> None:
        with CpuClipStream(stream.provider, stream.settings, workers=0) as reference:
            for _ in range(2):
                assert_same_picture(list(stream), list(reference))

    def test_batches_have_the_documented_shapes_types_and_strides(self, stream: ClipStream) -> None:
        batches = list(stream)
        labels = stream.provider.items.labels
        n_items = len(labels)
        assert len(batches) == len(stream) == -(-n_items // 5)
        assert [len(batch.keys) for batch in batches] == [5] * (n_items // 5) + [n_items % 5] * (n_items % 5 > 0)
        for batch in batches:
            assert {name: tuple(frames.shape) for name, frames in batch.views.items()} == {
                view.name: (len(batch.keys), view.n_frames, 3, SIZE, SIZE) for view in TRAINING
            }
            for frames in batch.views.values():
                assert frames.dtype == torch.uint8
                assert frames.device == stream.device == batch.labels.device
                assert frames.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
            assert batch.frames is batch.views["clip"]
            assert batch.labels.dtype == torch.int64
            assert batch.labels.tolist() == labels[batch.plan.items].tolist()
            assert batch.keys == stream.provider.items.keys[batch.plan.items].tolist()

    def test_each_epoch_shows_every_item_once_in_another_way(self, stream: ClipStream) -> None:
        first, second = list(stream), list(stream)
        for epoch in (first, second):
            items = np.concatenate([batch.plan.items for batch in epoch])
            assert sorted(items) == list(range(len(stream.provider.items)))
        assert {batch.plan.epoch for batch in first} == {0}
        assert {batch.plan.epoch for batch in second} == {1}
        assert [batch.keys for batch in first] != [batch.keys for batch in second]
        by_item = [dict(self.drawn(epoch)) for epoch in (first, second)]
        differ = [by_item[0][item] != by_item[1][item] for item in by_item[0]]
        assert sum(differ) > len(differ) / 2

    @staticmethod
    def drawn(epoch: list[ClipBatch]) -> Iterator[tuple[int, tuple[list[int], list[int]]]]:
        """Yield (item, (frames, box)) of each clip."""
        for batch in epoch:
            for slot, item in enumerate(batch.plan.items.tolist()):
                yield item, (batch.plan.frames["clip"][slot].tolist(), batch.plan.boxes[slot, 0].tolist())

    def test_another_provider_mixes_with_a_data_set(self, jpeg_folder: Path) -> None:
        stored, memory = provider_of(jpeg_folder), JpegsInMemory()
        both = ConcatProvider([stored, memory])
        assert len(both.items) == len(stored.items) + 3
        batches = self.epoch(both, settings_of())
        with CpuClipStream(both, settings_of(), workers=0) as reference:
            assert_same_picture(batches, list(reference))
        seen = {key: label for batch in batches for key, label in zip(batch.keys, batch.labels.tolist(), strict=True)}
        assert {key: seen[key] for key in memory.items.keys.tolist()} == {f"memory/{n}": 100 + n for n in range(3)}

    @pytest.mark.parametrize("drop_last", [False, True])
    def test_two_ranks_together_show_each_item_once(self, jpeg_folder: Path, drop_last: bool) -> None:
        """Of 17 items in batches of 4 on 2 ranks, the second rank's last batch is empty, if it is not dropped."""
        whole = provider_of(jpeg_folder)
        dataset = StoredDataset.open(jpeg_folder)
        provider = InstanceProvider(dataset, all_instances(dataset)[:17])
        assert len(whole.items) >= 17
        ranks = [
            self.epoch(provider, settings_of(batch_size=4, world_size=2, rank=rank, drop_last=drop_last))
            for rank in (0, 1)
        ]
        sizes = [[len(batch.keys) for batch in batches] for batches in ranks]
        assert sizes == ([[4, 4], [4, 4]] if drop_last else [[4, 4, 1], [4, 4, 0]])
        items = np.concatenate([batch.plan.items for batches in ranks for batch in batches])
        assert len(set(items.tolist())) == len(items) == (16 if drop_last else 17)

    # State

    @pytest.mark.parametrize(("epoch", "yielded"), [(0, 0), (0, 2), (1, 1), (1, 3)])
    def test_a_stream_resumes_bit_for_bit(self, stream: ClipStream, epoch: int, yielded: int) -> None:
        for _ in range(epoch):
            assert len(list(stream)) == len(stream)
        iterator = iter(stream)
        assert len(list(islice(iterator, yielded))) == yielded
        state = stream.state_dict()
        assert state == {"epoch": epoch, "position": yielded}
        rest = [*iterator, *stream]
        with self.again(stream) as resumed:
            resumed.load_state_dict(state)
            assert_same_within(self.levels, [*resumed, *resumed], rest)
        assert len(rest) == 2 * len(stream) - yielded

    def test_the_state_after_the_last_batch_is_the_next_epoch(self, stream: ClipStream) -> None:
        list(stream)
        assert stream.state_dict() == {"epoch": 1, "position": 0}
        stream.load_state_dict({"epoch": 4, "position": len(stream)})
        assert stream.state_dict() == {"epoch": 5, "position": 0}
        for state in ({"epoch": 0, "position": len(stream) + 1}, {"epoch": -1, "position": 0}):
            with pytest.raises(SettingsError, match=f"out of range; an epoch has {len(stream)} batches"):
                stream.load_state_dict(state)  # type: ignore[arg-type]

    def test_an_abandoned_epoch_continues_where_it_stopped(self, stream: ClipStream) -> None:
        with self.again(stream) as other:
            expected = [*other, *other]
        seen = []
        while len(seen) < len(expected):
            for batch in stream:
                seen.append(batch)
                break
        assert_same_within(self.levels, seen, expected)

    def test_a_new_iterator_ends_the_one_before(self, stream: ClipStream) -> None:
        with self.again(stream) as other:
            expected = list(other)
        old = iter(stream)
        first = next(old)
        assert_same_within(self.levels, [first, *stream], expected)
        assert list(old) == []
        assert stream.state_dict() == {"epoch": 1, "position": 0}

    def test_another_state_ends_the_current_iterator(self, stream: ClipStream) -> None:
        with self.again(stream) as other:
            expected = list(other)
        for batch in stream:
            stream.load_state_dict({"epoch": 0, "position": 0})
            assert batch.plan.position == 0
        assert_same_within(self.levels, list(stream), expected)

    @pytest.mark.parametrize("left_after", [None, 1, 3])
    def test_decoding_across_epochs_changes_no_batch(self, stream: ClipStream, left_after: int | None) -> None:
        with self.again(stream) as other:
            expected = [*other, *other, *other]
        with self.open(stream.provider, replace(stream.settings, across_epochs=True)) as running:
            batches = []
            for turn in range(3):
                batches += list(islice(running, left_after)) if turn == 1 else list(running)
                assert running.state_dict() == {
                    "epoch": len(batches) // len(running),
                    "position": len(batches) % len(running),
                }
            batches += list(running) if left_after is not None else []
            assert_same_within(self.levels, batches, expected)
            running.load_state_dict({"epoch": 1, "position": 1})
            assert_same_within(self.levels, list(running), expected[len(running) + 1 : 2 * len(running)])

    # Damage

    def test_a_damaged_frame_is_named_by_key_shard_and_offset(self, jpeg_folder: Path, tmp_path: Path) -> None:
        video = longest_video(jpeg_folder)
        frame = CENTRES[0].frames(0, 0, np.array([0]), np.array([video.n_frames]))[0, 1]
        place = damage(jpeg_folder, tmp_path / "copy", video.key, int(frame))
        with pytest.raises(FrameDamagedError) as caught:
            self.epoch(provider_of(tmp_path / "copy"), settings_of(views=CENTRES))
        assert str(caught.value) == f"{place}: its bytes are not the ones that were stored"

    def test_a_frame_that_does_not_decode_is_named(self) -> None:
        with pytest.raises(FrameDamagedError, match=r"frame [0-3] of .*memory/1.* \(in memory\): "):
            self.epoch(JpegsInMemory(damaged=1), settings_of())

    def test_a_stream_works_again_after_a_damaged_frame(self, jpeg_folder: Path, tmp_path: Path) -> None:
        video = longest_video(jpeg_folder)
        damage(jpeg_folder, tmp_path / "copy", video.key, 0)
        settings = settings_of(views=(View("clip", 26, random=False),), shuffle=False, batch_size=2)
        provider = provider_of(tmp_path / "copy")
        with self.open(provider, settings) as stream:
            for _ in range(2):
                with pytest.raises(FrameDamagedError):
                    list(stream)
            start = next(n for n, item in enumerate(provider.items.keys) if item == video.key) // 2 + 1
            stream.load_state_dict({"epoch": 0, "position": start})
            batches = list(stream)
        assert [batch.plan.position for batch in batches[: len(stream) - start]] == list(range(start, len(stream)))

    def test_a_damaged_clip_can_be_skipped(
        self, jpeg_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        video = longest_video(jpeg_folder)
        frame = CENTRES[0].frames(0, 0, np.array([0]), np.array([video.n_frames]))[0, 1]
        place = damage(jpeg_folder, tmp_path / "copy", video.key, int(frame))
        provider = provider_of(tmp_path / "copy")
        settings = settings_of(views=CENTRES, on_bad_frame="skip")
        with self.open(provider, settings) as stream:
            batches = list(stream)
            assert stream.skipped == 1
        assert [record.getMessage() for record in caplog.records] == [
            f"clip skipped (1 so far): {place}: its bytes are not the ones that were stored"
        ]
        with CpuClipStream(provider, settings, workers=0) as reference:
            assert_same_picture(batches, list(reference))
        sound = self.epoch(provider_of(jpeg_folder), settings)
        changed = [
            (new, old)
            for batch, whole in zip(batches, sound, strict=True)
            for new, old in zip(batch.plan.items.tolist(), whole.plan.items.tolist(), strict=True)
            if new != old
        ]
        assert len(changed) == 1
        assert provider.items.keys[changed[0][1]] == video.key
