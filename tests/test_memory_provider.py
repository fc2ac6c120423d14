"""Exemplars in clip streams: the same clips as from shards, with every codec and decoder; and damaged ones."""

from __future__ import annotations

import logging
import re
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_store_cases import make_exemplar, new_class, update
from memory_stream_cases import CODECS, Open, cpu, dali, epoch, flip_a_byte, keep, mixed_memory
from stream_cases import CENTRES, TRAINING, prepare_tiny, provider_of, settings_of
from stream_contract import assert_same_bits, assert_same_picture, grandchildren

from vclimb.memory.decoded import DecodedExemplars
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.store.errors import ExemplarDamagedError, MemoryChangedError, MemoryEmptyError
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.clips.provider import ConcatProvider, InstanceProvider
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import FrameDamagedError
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.packing import PackedFrames, pack_batch


@pytest.fixture(scope="module")
def shards(jpeg_folder: Path) -> InstanceProvider:
    """Whole videos, class by class."""
    dataset = StoredDataset.open(jpeg_folder)
    return InstanceProvider(dataset, sorted(dataset.instances, key=lambda instance: instance.label))


@pytest.fixture(scope="module")
def memories(shards: InstanceProvider, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MemoryStore]:
    """Codec -> a memory of 12 exemplars of 3 classes."""
    folder = tmp_path_factory.mktemp("memories")
    return {spec: keep(folder / spec, shards, dict.fromkeys(range(3), spec)) for spec in CODECS}


@pytest.fixture
def mixed(shards: InstanceProvider, tmp_path: Path) -> MemoryStore:
    """A memory of 12 exemplars: 4 JPEG, 4 WebP of another size, and 4 H.264."""
    return mixed_memory(tmp_path / "memory.zarr", shards)


# What is provided


def test_items_are_exemplars_by_label_and_rank(shards: InstanceProvider, mixed: MemoryStore) -> None:
    provider = ExemplarProvider(mixed)
    facts, ours = shards.items, provider.items
    assert ours.keys.tolist() == facts.keys.tolist()
    assert ours.labels.tolist() == facts.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert ours.n_frames.tolist() == np.minimum(facts.n_frames, 8).tolist()
    assert provider.codecs.tolist() == ["jpeg"] * 4 + ["webp"] * 4 + ["h264"] * 4
    scaled = ours.labels == 1
    assert set(zip(ours.widths[~scaled].tolist(), ours.heights[~scaled].tolist(), strict=True)) <= {(96, 64), (64, 96)}
    assert set(zip(ours.widths[scaled].tolist(), ours.heights[scaled].tolist(), strict=True)) <= {(60, 40), (40, 60)}
    assert {array.dtype for array in (ours.labels, ours.n_frames, ours.widths, ours.heights)} == {np.dtype(np.int64)}
    chunk = mixed.path / mixed.classes[2].frames.files[1]
    assert provider.where(9, 3) == f"frame 3 of exemplar 1 of '{facts.keys[9]}' of class 'class2' ({chunk})"


@pytest.mark.parametrize("spec", CODECS)
def test_any_frames_are_read_with_no_more_units_than_they_need(memories: dict[str, MemoryStore], spec: str) -> None:
    provider = ExemplarProvider(memories[spec])
    item = int(provider.items.n_frames.argmax())
    width, height = int(provider.items.widths[item]), int(provider.items.heights[item])

    def decoded(frames: list[int]) -> npt.NDArray[np.uint8]:
        clip = provider.read(item, np.array(frames, np.int64))
        is_video = clip.codec in ("h264", "hevc", "av1")
        assert len(clip.units) == (1 if is_video else len(set(frames)))
        return decode_clip(clip, width, height, lambda place: provider.where(item, frames[place]))

    whole = decoded([*range(8)])
    for frames in ([0], [7], [5, 2], [3, 3, 1, 3], [7, 6, 5, 4, 3, 2, 1, 0]):
        np.testing.assert_array_equal(decoded(frames), whole[frames])


def test_reading_holds_on_to_nothing(tmp_path: Path) -> None:
    with MemoryWriter.open(tmp_path / "memory.zarr") as writer:
        provider = ExemplarProvider(update(writer, [new_class(0, 50, unit_bytes=40_000)]))
    handles = psutil.Process().num_fds()
    provider.read(0, np.arange(3))
    tracemalloc.start()
    try:
        for item in range(50):
            provider.read(item, np.arange(3))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 40_000
    assert peak < 10 * 3 * 40_000
    assert psutil.Process().num_fds() == handles


# Streams


@pytest.mark.parametrize(("open_stream", "processes"), [(cpu, 0), (cpu, 2), (dali, 0), (dali, 1)])
def test_copied_frames_are_those_of_the_shards_bit_for_bit(
    shards: InstanceProvider, tmp_path: Path, open_stream: Open, processes: int
) -> None:
    memory = keep(tmp_path / "memory.zarr", shards, dict.fromkeys(range(3), "copy"), n_frames=None)
    assert TRAINING[1].seen_frames is not None  # the down-sampled clip of temporal consistency
    replayed = epoch(open_stream, ExemplarProvider(memory), processes)
    assert_same_bits(replayed, epoch(open_stream, shards, processes))
    assert sum(len(batch.keys) for batch in replayed) == 12


@pytest.mark.parametrize("spec", CODECS)
def test_dali_shows_what_the_cpu_shows(memories: dict[str, MemoryStore], spec: str) -> None:
    provider = ExemplarProvider(memories[spec])
    assert_same_picture(epoch(dali, provider), epoch(cpu, provider))


@pytest.fixture
def joined(shards: InstanceProvider, memories: dict[str, MemoryStore]) -> ConcatProvider:
    """New data and exemplars of every codec: 120 items."""
    return ConcatProvider([shards, *(ExemplarProvider(memory) for memory in memories.values())])


def test_every_codec_and_shards_mix_in_one_batch(joined: ConcatProvider) -> None:
    reference = epoch(cpu, joined, batch_size=30)
    n_providers = {len(set((batch.plan.items // 12).tolist())) for batch in reference}
    assert min(n_providers) >= 8
    assert_same_bits(epoch(cpu, joined, 2, batch_size=30), reference)
    on_dali = epoch(dali, joined, batch_size=30)
    assert_same_picture(on_dali, reference)
    assert_same_bits(epoch(dali, joined, 1, batch_size=30), on_dali)


def test_small_and_large_frames_mix_on_dali(shards: InstanceProvider, tmp_path: Path) -> None:
    """Batches that are packed as rows, and ones whose rows would be mostly zeros, take turns."""
    small, large = (ExemplarProvider(keep(tmp_path / spec, shards, {0: spec})) for spec in ("jpeg:30@32", "raw"))
    joined = ConcatProvider([small, small, large, small, large, large])
    settings = settings_of(batch_size=5, shuffle=False, views=CENTRES)
    with cpu(joined, settings) as stream, dali(joined, settings) as other:
        packed = [pack_batch(ClipReader(joined, settings), plan).frames for plan in stream.plans(0, 0)]
        assert [frames.ends is None for frames in packed] == [True, False, False, True, True]
        assert_same_picture(list(other), list(stream))


def test_dali_decodes_what_it_does_not_take_before(tiny_videos: Path, tmp_path: Path) -> None:
    """Also a data set, if it is asked for, though `choose_decoder` says that the cores alone are faster."""
    provider = provider_of(prepare_tiny(tiny_videos, tmp_path / "h264", "h264"))
    assert_same_picture(epoch(dali, provider), epoch(cpu, provider))


def test_workers_open_no_more_files_with_time(mixed: MemoryStore) -> None:
    with DecodedExemplars(ExemplarProvider(mixed), 10**9) as provider, cpu(provider, settings_of(), 2) as stream:
        counts = []
        for _ in range(3):
            list(stream)
            counts.append([process.num_fds() for process in (psutil.Process(), *grandchildren())])
        assert len(counts[0]) == 3
        assert counts[0] == counts[1] == counts[2]
    assert grandchildren() == []


# Damage and change


@pytest.mark.parametrize(("open_stream", "processes"), [(cpu, 0), (cpu, 2), (dali, 0), (dali, 1)])
@pytest.mark.parametrize("is_decoded", [False, True])
def test_a_damaged_exemplar_is_named_and_can_be_skipped(
    mixed: MemoryStore, caplog: pytest.LogCaptureFixture, open_stream: Open, processes: int, is_decoded: bool
) -> None:
    flip_a_byte(mixed.path / mixed.classes[1].frames.files[2])
    exemplars = ExemplarProvider(mixed)
    says = f"{mixed.where(1, 2)}: its bytes don't fit their checksum"
    caplog.set_level(logging.WARNING)
    with DecodedExemplars(exemplars, 10**9) if is_decoded else nullcontext(exemplars) as provider:
        if isinstance(provider, DecodedExemplars):
            assert provider.cost.damaged == (says,)
            assert (provider.cost.exemplars, provider.cost.left_encoded) == (7, 0)
            assert str(provider.cost).endswith("; 1 are damaged")
            assert caplog.messages == [f"exemplar can't be decoded ahead: {says}"]
            caplog.clear()
        with pytest.raises(ExemplarDamagedError) as caught:
            epoch(open_stream, provider, processes)
        assert str(caught.value) == says
        assert isinstance(caught.value, FrameDamagedError)
        with open_stream(provider, settings_of(on_bad_frame="skip"), processes) as stream:
            batches = list(stream)
            assert stream.skipped == 1
        assert caplog.messages == [f"clip skipped (1 so far): {says}"]
        assert_same_picture(batches, epoch(cpu, provider, on_bad_frame="skip"))
    items = [item for batch in batches for item in batch.plan.items.tolist()]
    assert len(items) == 12
    assert 6 not in items


@pytest.mark.parametrize("open_stream", [cpu, dali])
def test_an_exemplar_that_does_not_decode_is_named_and_can_be_skipped(
    memories: dict[str, MemoryStore], tmp_path: Path, open_stream: Open
) -> None:
    """The stored bytes are whole, but are no picture."""
    with MemoryWriter.open(tmp_path / "memory.zarr") as writer:
        memory = update(writer, [NewClass(7, "noise", "webp:75", [make_exemplar(0, 3, "webp")])])
    joined = ConcatProvider([ExemplarProvider(memory), ExemplarProvider(memories["copy"])])
    place = rf"frame [0-2] of {re.escape(memory.where(7, 0))}: "
    with pytest.raises(FrameDamagedError, match=place):
        epoch(open_stream, joined)
    with open_stream(joined, settings_of(on_bad_frame="skip"), 0) as stream:
        batches = list(stream)
        assert stream.skipped == 1
    assert sum(len(batch.keys) for batch in batches) == 13
    with DecodedExemplars(ExemplarProvider(memory), 10**9) as decoded:
        assert decoded.cost.exemplars == 0
        assert len(decoded.cost.damaged) == 1
        assert re.match(place, decoded.cost.damaged[0])


def test_a_class_without_a_table_is_left_out(mixed: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    flip_a_byte(mixed.path / mixed.classes[1].folder / "table" / "c.0.0")
    provider = ExemplarProvider(MemoryStore.open(mixed.path))
    assert len(provider.damaged) == 1
    assert caplog.messages == [f"class left out of replay: {provider.damaged[0]}"]
    assert re.match(r"the table of class 'class1' \(.*c\.0\.0\): ", provider.damaged[0])
    assert provider.items.labels.tolist() == [0] * 4 + [2] * 4
    batches = epoch(cpu, provider)
    assert {label for batch in batches for label in batch.labels.tolist()} == {0, 2}
    assert {item for batch in batches for item in batch.plan.items.tolist()} == set(range(8))
    for label in (0, 2):
        flip_a_byte(mixed.path / mixed.classes[label].folder / "table" / "c.0.0")
    with pytest.raises(MemoryEmptyError, match=r"has no exemplars to replay: none of its classes can be read"):
        ExemplarProvider(MemoryStore.open(mixed.path))


@pytest.mark.parametrize(("open_stream", "processes"), [(cpu, 0), (cpu, 2), (dali, 0), (dali, 1)])
def test_a_memory_that_shrank_is_an_error_and_never_skipped(
    mixed: MemoryStore, open_stream: Open, processes: int
) -> None:
    provider = ExemplarProvider(mixed)
    with open_stream(provider, settings_of(on_bad_frame="skip"), processes) as stream:
        assert len(list(stream)) == 3
        with MemoryWriter.open(mixed.path) as writer:
            writer.commit({0: 1})
        with pytest.raises(MemoryChangedError, match=r"was changed since it was opened .* open it again"):
            list(stream)
        assert stream.skipped == 0


def test_what_is_decoded_ahead_outlasts_a_change(mixed: MemoryStore) -> None:
    with (
        DecodedExemplars(ExemplarProvider(mixed), 10**9, taken=()) as provider,
        cpu(provider, settings_of(), 2) as stream,
    ):
        first = list(stream)
        with MemoryWriter.open(mixed.path) as writer:
            writer.commit(dict.fromkeys(range(3), 1))
        stream.load_state_dict({"epoch": 0, "position": 0})
        assert_same_bits(list(stream), first)


# Packing


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.binary(min_size=300, max_size=400)), max_size=12))
def test_packed_frames_come_out_as_they_went_in(frames: list[bytes]) -> None:
    packed = PackedFrames.pack(frames)
    assert len(packed) == len(frames)
    assert packed.data.nbytes <= 2 * sum(map(len, frames))
    for start in range(len(frames)):
        for stop in range(start + 1, len(frames) + 1):
            parts = packed.part(start, stop)
            assert len(parts) == stop - start
            for part, frame in zip(parts, frames[start:stop], strict=True):
                assert part.tobytes().startswith(frame)
                assert set(part[len(frame) :].tolist()) <= {0}
                assert packed.ends is None or len(part) == len(frame)
