"""Clip streams: the contract on the CPU and on DALI, and tests of single decoders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from inspect import GEN_CLOSED, getgeneratorstate
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from stream_cases import CENTRES, JpegsInMemory, all_instances, provider_of, script_environment, settings_of
from stream_contract import StreamContract, assert_same_bits, assert_same_picture, grandchildren

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import ClipProvider, ConcatProvider, InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import FrameDamagedError, SettingsError
from vclimb.pipeline.stream import cpu as cpu_stream
from vclimb.pipeline.stream.batch_decoder import batch_bytes
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.dali import DaliClipStream
from vclimb.pipeline.stream.dali_pipeline import DaliSettings
from vclimb.pipeline.stream.memory import SharedRing
from vclimb.pipeline.stream.workers import TASKS_PER_WORKER, WorkerDiedError


class TestCpuInProcess(StreamContract):
    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        return CpuClipStream(provider, settings, workers=0)


class TestCpuWorkers(StreamContract):
    """Batches are decoded in parts, as large ones are: here of 2, 2 and 1 clips."""

    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vclimb.pipeline.stream.cpu._PART_CLIPS", 1)

    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        return CpuClipStream(provider, settings, workers=2)


class _UploadWithoutGpu:
    """Replaces the copies to a GPU, and asserts that each batch is handed over by its own copy."""

    def __init__(self) -> None:
        self.under_way: deque[torch.Tensor] = deque()
        self.handed_over = 0

    def pin(self, ring: SharedRing) -> None: ...

    def begin(
        self, views: dict[str, torch.Tensor], labels: torch.Tensor, slot: int | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        self.under_way.append(labels)
        return {name: frames.clone() for name, frames in views.items()}, labels

    def wait(self, slot: int) -> None: ...

    def forget(self) -> None:
        self.under_way.clear()

    def finish(self) -> None: ...

    def hand_over(self, batch: ClipBatch) -> ClipBatch:
        assert self.under_way.popleft() is batch.labels
        self.handed_over += 1
        return batch


class TestCpuAsForGpu(StreamContract):
    """The path of batches to a GPU, one batch ahead, without a GPU."""

    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        stream = CpuClipStream(provider, settings, workers=2)
        stream._upload = _UploadWithoutGpu()  # type: ignore[assignment]
        return stream

    def test_an_abandoned_iterator_is_closed(self, stream: ClipStream, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else its answers were taken for those of the next iterator: batches were used before they were decoded."""
        assert isinstance(stream, CpuClipStream)
        in_workers, decoded = stream._in_workers, []

        def kept(plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
            decoded.append(in_workers(plans))
            return decoded[-1]

        monkeypatch.setattr(stream, "_in_workers", kept)
        next(iter(stream))
        stream.load_state_dict({"epoch": 0, "position": 1})
        assert [getgeneratorstate(one) for one in decoded] == [GEN_CLOSED]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestCpuForGpu(StreamContract):
    """Clips are decoded on the cores and copied to the GPU from pinned memory."""

    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        return CpuClipStream(provider, settings, "cuda:0", workers=2)


class TestDaliCpu(StreamContract):
    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        return DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestDaliGpu(StreamContract):
    """The GPU's decoders and the cores share every batch.

    The GPU chooses which engine or kernel decodes a frame, and these round differently: up to 2 levels were seen.
    """

    levels = 3

    def open(self, provider: ClipProvider, settings: StreamSettings) -> ClipStream:
        return DaliClipStream(provider, settings, "cuda:0", DaliSettings(cpu_share=0.5, threads=2, readers=1))


def test_any_number_of_workers_gives_the_same_bits(jpeg_folder: Path) -> None:
    provider, settings = provider_of(jpeg_folder), settings_of(batch_size=2)
    with CpuClipStream(provider, settings, workers=0) as reference:
        expected = [*reference, *reference]
    for workers in (1, 2, 4):
        with CpuClipStream(provider, settings, workers=workers) as stream:
            assert_same_bits([*stream, *stream], expected)


class EagerWorkers:
    """Workers that answer as early as possible: all tasks in flight are done when an answer is taken."""

    def __init__(self, work: Callable[[Any], Any], workers: int) -> None:
        self._work, self._most = work, TASKS_PER_WORKER * workers

    def run(self, tasks: Iterator[Any], ahead: int | None = None) -> Generator[Any, None, None]:
        most = min(self._most, ahead or self._most)
        answers: deque[Any] = deque()
        while True:
            answers.extend(map(self._work, islice(tasks, most - len(answers))))
            if not answers:
                return
            yield answers.popleft()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("memory", ["enough", "little"])
@pytest.mark.parametrize("workers", [1, 2, 14])
@pytest.mark.parametrize(("n_items", "batch_size"), [(10, 64), (66, 50), (97, 32), (42, 32), (5, 5), (33, 16)])
def test_a_batch_is_never_overwritten_by_those_decoded_ahead(
    n_items: int, batch_size: int, workers: int, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any length of an epoch's last batch, any number of workers, and with memory for the fewest batches."""
    monkeypatch.setattr(cpu_stream, "BatchWorkers", EagerWorkers)
    provider = JpegsInMemory(n_items)
    settings = settings_of(batch_size=batch_size, views=(View("clip", 1),), across_epochs=True)
    if memory == "little":
        monkeypatch.setattr("vclimb.pipeline.stream.memory._free_bytes", lambda: 3 * batch_bytes(settings))
    with (
        CpuClipStream(provider, settings, workers=workers) as stream,
        CpuClipStream(provider, settings, workers=0) as one,
    ):
        for _ in range(4):
            for batch, expected in zip(stream, one, strict=True):
                assert batch.keys == expected.keys
                assert torch.equal(batch.frames, expected.frames)


def test_dali_with_a_reader_process_gives_the_same_bits(jpeg_folder: Path) -> None:
    provider, settings = provider_of(jpeg_folder), settings_of()
    with DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=0)) as stream:
        expected = list(stream)
    with DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=1)) as stream:
        assert_same_bits(list(stream), expected)
        assert len(grandchildren()) == 1
    assert grandchildren() == []


@pytest.mark.parametrize("decoder", ["cpu", "dali"])
def test_views_share_the_bytes_of_their_common_frames(jpeg_folder: Path, decoder: str) -> None:
    dataset = StoredDataset.open(jpeg_folder)
    instances = all_instances(dataset)
    provider = InstanceProvider(dataset, instances)
    before, wanted = dataset.storage.bytes_read, 0
    stream: ClipStream
    if decoder == "cpu":
        stream = CpuClipStream(provider, settings_of(), workers=0)
    else:
        stream = DaliClipStream(provider, settings_of(), "cpu", DaliSettings(threads=1, readers=0))
    with stream:
        for batch in stream:
            for slot, item in enumerate(batch.plan.items.tolist()):
                instance = instances[item]
                sizes = dataset.frame_ranges(dataset.by_key[instance.key])[:, 1]
                frames = {int(frame) for view in batch.plan.frames.values() for frame in view[slot]}
                wanted += sum(int(sizes[instance.start_frame + frame]) for frame in frames)
    assert dataset.storage.bytes_read - before == wanted


# h264


def test_h264_shows_what_jpeg_shows(jpeg_folder: Path, h264_folder: Path) -> None:
    """Each H.264 frame is nearest to the JPEG frame of the same number, and near to it."""
    unscaled = Augmentation(64, "centre", resize_to=64, flip=False)
    settings = settings_of(views=(View("clip", 26, "dense", random=False, stride=1),), augmentation=unscaled)
    compared = 0
    with (
        CpuClipStream(provider_of(jpeg_folder), settings, workers=0) as jpeg,
        CpuClipStream(provider_of(h264_folder), settings, workers=0) as h264,
    ):
        for theirs, ours in zip(jpeg, h264, strict=True):
            assert ours.keys == theirs.keys
            for numbers, clip, other in zip(ours.plan.frames["clip"], luma(ours), luma(theirs), strict=True):
                differences = (clip[:, None] - other).abs().mean(dim=(2, 3))
                nearest = differences.argmin(dim=1).numpy()
                np.testing.assert_array_equal(numbers[nearest], numbers)
                assert differences.min(dim=1).values.max() < 3
                compared += len(set(numbers.tolist()))
    assert compared > 150


def luma(batch: ClipBatch) -> torch.Tensor:
    """(B, T, H, W). Colour is left out, because the decoders interpolate the halved chroma differently."""
    return batch.frames.float().permute(0, 1, 3, 4, 2) @ torch.tensor([0.299, 0.587, 0.114])


def test_h264_with_workers_gives_the_same_bits(h264_folder: Path) -> None:
    provider = provider_of(h264_folder)
    with (
        CpuClipStream(provider, settings_of(), workers=0) as reference,
        CpuClipStream(provider, settings_of(), workers=2) as stream,
    ):
        assert_same_bits(list(stream), list(reference))


def test_codecs_mix_in_one_cpu_stream(jpeg_folder: Path, h264_folder: Path) -> None:
    joined = ConcatProvider([provider_of(h264_folder), provider_of(jpeg_folder), JpegsInMemory()])
    with CpuClipStream(joined, settings_of(views=CENTRES), workers=0) as stream:
        assert sum(len(batch.keys) for batch in stream) == len(joined.items)


# Workers


@pytest.mark.parametrize("decoder", ["cpu", "dali"])
def test_closing_ends_iterator_and_processes(jpeg_folder: Path, decoder: str) -> None:
    provider, settings = provider_of(jpeg_folder), settings_of()
    assert grandchildren() == []
    stream: ClipStream
    if decoder == "cpu":
        stream = CpuClipStream(provider, settings, workers=2)
    else:
        stream = DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=2))
    iterator = iter(stream)
    next(iterator)
    assert len(grandchildren()) == 2
    stream.close()
    assert grandchildren() == []
    assert list(iterator) == []


@pytest.mark.parametrize("decoder", ["cpu", "dali"])
@pytest.mark.parametrize("idle", [False, True])
def test_a_killed_worker_is_an_error_and_no_hang(jpeg_folder: Path, decoder: str, idle: bool) -> None:
    """It dies with tasks in hand, or idle, so that the next task can't be sent."""
    provider, settings = provider_of(jpeg_folder), settings_of(batch_size=1)
    stream: ClipStream
    if decoder == "cpu":
        stream = CpuClipStream(provider, settings, workers=2)
    else:
        stream = DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=2))
    with stream:
        iterator = iter(stream)
        seen = [next(iterator).plan.position]
        if idle:
            iterator.close()
            iterator = iter(stream)
        workers = grandchildren()
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        psutil.wait_procs(workers, timeout=120)
        with pytest.raises(WorkerDiedError, match="a worker process that reads clips died"):
            seen.extend(batch.plan.position for batch in iterator)  # takes what comes before the error
        seen.extend(batch.plan.position for batch in stream)
        assert seen == list(range(len(stream)))


def test_dali_with_a_reader_process_works_again_after_a_damaged_frame() -> None:
    """The reader is ahead of the error: the batches that it has read must not come up later."""
    provider = JpegsInMemory(n_items=12, damaged=0)
    settings = settings_of(batch_size=1, shuffle=False)
    with DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=1)) as stream:
        with pytest.raises(FrameDamagedError, match="memory/0") as caught:
            list(stream)
        stream.load_state_dict({"epoch": 0, "position": 1})
        batches = list(stream)
        assert caught.value.__traceback__ is not None  # it is kept until here, with all that it refers to
    with CpuClipStream(provider, settings, workers=0) as reference:
        reference.load_state_dict({"epoch": 0, "position": 1})
        assert_same_picture(batches, list(reference))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_abandoned_iterator_leaves_no_copy_to_the_next(jpeg_folder: Path, workers: int) -> None:
    with CpuClipStream(provider_of(jpeg_folder), settings_of(), workers=workers) as stream:
        upload = _UploadWithoutGpu()
        stream._upload = upload  # type: ignore[assignment]
        next(iter(stream))  # the copy of the second batch has begun by then, and nobody takes it
        assert len(upload.under_way) == 1
        assert upload.handed_over + len(list(stream)) == len(stream)
        assert not upload.under_way


_PROVIDER_OF_MAIN = """
import sys
from stream_cases import JpegsInMemory, settings_of
from vclimb.pipeline.stream.cpu import CpuClipStream

class MainProvider(JpegsInMemory):
    pass

if __name__ == "__main__":
    with CpuClipStream(MainProvider(12), settings_of(), workers=2) as stream:
        print(len(list(stream)) == len(stream))
"""


def test_workers_run_the_main_module_for_what_is_defined_there(jpeg_folder: Path, tmp_path: Path) -> None:
    """In other cases they don't run it, as test_scripts.py shows."""
    (tmp_path / "main.py").write_text(_PROVIDER_OF_MAIN)
    done = subprocess.run(
        [sys.executable, tmp_path / "main.py", jpeg_folder],
        env=script_environment(),
        capture_output=True,
        text=True,
        timeout=150,  # each of three processes imports torch
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_host_bytes_is_the_size_of_the_shared_memory(jpeg_folder: Path) -> None:
    """All batches that are decoded ahead lie in one mapping, whose size the settings fix."""
    provider, settings = provider_of(jpeg_folder), settings_of(batch_size=2)
    clip_bytes = sum(view.n_frames for view in settings.views) * settings.augmentation.size**2 * 3
    with CpuClipStream(provider, settings, workers=2) as stream:
        next(iter(stream))
        mappings = [m for m in psutil.Process().memory_maps(grouped=False) if "vclimb-clips" in m.path]
        assert (
            stream.host_bytes == (2 * 2 + 2) * 2 * clip_bytes
        )  # two parts for each worker, one a batch, and two batches
        assert [m.size for m in mappings] == [-(-stream.host_bytes // 4096) * 4096]
    assert not [m for m in psutil.Process().memory_maps(grouped=False) if "vclimb-clips" in m.path]
    few = settings_of(batch_size=-(-len(provider.items) // 2))
    with CpuClipStream(provider, few, workers=4) as stream:  # a short pass needs no more than its batches
        assert stream.host_bytes == 2 * few.batch_size * clip_bytes
        with CpuClipStream(provider, few, workers=0) as reference:
            assert_same_bits([*stream, *stream], [*reference, *reference])


def test_memory_does_not_grow_where_plans_of_batches_are_kept(jpeg_folder: Path) -> None:
    """Small objects that outlive a batch must not fragment the memory for the next batch."""
    dataset = StoredDataset.open(jpeg_folder)
    provider = InstanceProvider(dataset, all_instances(dataset) * 180)
    settings = settings_of(batch_size=64, views=(View("clip", 8),), augmentation=Augmentation(size=112))
    batch_bytes = 64 * 8 * 112 * 112 * 3
    kept = []
    with CpuClipStream(provider, settings, workers=2) as stream:
        for batch in stream:
            kept.append(batch.plan)
            if len(kept) == 15:
                before = psutil.Process().memory_info().rss
    assert len(kept) >= 40
    assert psutil.Process().memory_info().rss - before < 10 * batch_bytes


def test_a_batch_in_use_is_not_overwritten(jpeg_folder: Path) -> None:
    provider, settings = provider_of(jpeg_folder), settings_of(batch_size=2)
    with CpuClipStream(provider, settings, workers=2) as stream, CpuClipStream(provider, settings, workers=0) as other:
        views = [batch.frames[0, 0].numpy() for batch in stream]
        for batch, view in zip(other, views, strict=True):
            np.testing.assert_array_equal(batch.frames[0, 0].numpy(), view)
            del batch


# Settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch size 0 is out of range; allowed: 1 or more"),
        ({"rank": 2, "world_size": 2}, "rank 2 is out of range; allowed: 0 to 1"),
        ({"on_bad_frame": "ignore"}, "on_bad_frame 'ignore' is not known; allowed: raise, skip"),
        ({"views": ()}, "a stream needs at least one view, and their names must differ"),
        ({"views": (View(), View())}, "a stream needs at least one view, and their names must differ"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(**wrong)
    assert str(caught.value) == message


def test_wrong_arguments_are_refused(jpeg_folder: Path) -> None:
    provider, dataset = provider_of(jpeg_folder), StoredDataset.open(jpeg_folder)
    with pytest.raises(SettingsError, match=r"don't fill one batch of 99 on each of 1 processes; take a smaller"):
        CpuClipStream(provider, settings_of(batch_size=99, drop_last=True), workers=0)
    with pytest.raises(SettingsError, match="workers -1 is out of range; allowed: 0 or more"):
        CpuClipStream(provider, settings_of(), workers=-1)
    with pytest.raises(SettingsError, match=r"cpu_share 1\.5 is out of range; allowed: 0 to 1"):
        DaliSettings(cpu_share=1.5)
    with pytest.raises(SettingsError, match="no instances were chosen from"):
        InstanceProvider(dataset, [])
    for ids in ({}, {"class0": 0, "class1": 1}):
        with pytest.raises(SettingsError, match=f"has no label id; {len(ids)} classes have"):
            InstanceProvider(dataset, dataset.instances, ids)
    with pytest.raises(SettingsError, match="no providers of clips were given"):
        ConcatProvider([])


def test_an_unscaled_centre_clip_equals_the_stored_frames(jpeg_folder: Path) -> None:
    """Compared with frames that are decoded and cropped by hand; the crop has the size of the output."""
    dataset = StoredDataset.open(jpeg_folder)
    provider = InstanceProvider(dataset, dataset.instances)
    settings = settings_of(
        views=CENTRES, augmentation=Augmentation(64, "centre", resize_to=64, flip=False), shuffle=False
    )
    with CpuClipStream(provider, settings, workers=0) as stream:
        clips = {key: clip for batch in stream for key, clip in zip(batch.keys, batch.frames, strict=True)}
    for instance in dataset.instances:
        video = dataset.by_key[instance.key]
        left, top = (video.width - 64) // 2, (video.height - 64) // 2
        for k, frame in enumerate(clips[video.key]):
            number = int(video.n_frames / 4 / 2 + video.n_frames / 4 * k)
            expected = dataset.decode_frame(video, number)[top : top + 64, left : left + 64]
            np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), expected)
