"""Little memory for decoded batches: fewer of them and a warning, or one error that says how much is needed."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stream_cases import all_instances, provider_of, settings_of
from stream_contract import assert_same_bits

from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batch_decoder import batch_bytes
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.memory import BatchMemory, RingMemoryError, SharedRing
from vclimb.pipeline.system.free_memory import free_memory

MIB = 2**20


def put(root: Path, **files: str) -> Path:
    """Write files of the system; `__` in a name stands for `/`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


MEMINFO = "MemTotal:       24000 kB\nMemFree:        1000 kB\nMemAvailable:   8000 kB"


def test_free_memory_of_this_machine_is_some() -> None:
    assert (free_memory() or 0) > MIB


def test_free_memory_without_limits_is_that_of_the_machine(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    assert free_memory(put(tmp_path, proc__meminfo=MEMINFO)) == 8000 * 1024
    put(tmp_path, proc__self__cgroup="0::/job", sys__fs__cgroup__job__memory__max="max")
    assert free_memory(tmp_path) == 8000 * 1024


@pytest.mark.parametrize("path", ["/", "/job/step", "/../elsewhere"])
def test_free_memory_of_a_control_group_is_the_least_up_to_the_root(tmp_path: Path, path: str) -> None:
    put(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup=f"0::{path}")
    group = tmp_path / "sys/fs/cgroup"
    (group / "job/step").mkdir(parents=True)
    for folder, limit in ((group, "5000000"), (group / "job", "max"), (group / "job/step", "4000000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("1000000\n")
        (folder / "memory.stat").write_text("anon 7\ninactive_file 300000\nactive_file 200000\n")
    assert free_memory(tmp_path) == (3_500_000 if path == "/job/step" else 4_500_000)


def test_free_memory_of_an_older_control_group(tmp_path: Path) -> None:
    put(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="5:cpu:/a\n4:memory:/a\n0::/")
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("3000000\n")
    (group / "memory.usage_in_bytes").write_text("2900000\n")
    assert free_memory(tmp_path) == 100_000


@pytest.mark.parametrize(("free_mib", "n_slots"), [(100, 8), (16, 8), (10, 5), (4, 3), (3, 3)])
def test_a_ring_takes_half_of_the_free_memory_and_at_least_what_it_must(
    free_mib: int, n_slots: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vclimb.pipeline.stream.memory._free_bytes", lambda: free_mib * MIB)
    with caplog.at_level(logging.WARNING):
        ring = SharedRing.that_fits(8, 3, MIB)
    assert ring.n_slots == n_slots
    ring.close()
    warnings = [f"{free_mib} MiB of memory are free: {n_slots} batches are decoded ahead in place of 8"]
    assert [text.partition(", which")[0] for text in caplog.messages] == (warnings if n_slots < 8 else [])


def test_less_memory_than_a_ring_must_have_is_an_error_that_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclimb.pipeline.stream.memory._free_bytes", lambda: 3 * MIB - 1)
    with pytest.raises(RingMemoryError, match=r"need at least 3 MiB of memory, and 3 MiB are free; take"):
        SharedRing.that_fits(8, 3, MIB)


@contextmanager
def files_up_to(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_of_the_system_gives_the_least_ring_or_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with files_up_to(4 * MIB):
        ring = SharedRing.that_fits(8, 3, MIB)
        assert ring.n_slots == 3
        ring.close()
        with pytest.raises(RingMemoryError, match="need at least 6 MiB of memory, and the system refuses them"):
            SharedRing.that_fits(8, 3, 2 * MIB)
    assert len(caplog.messages) == 1


def test_a_stream_with_little_memory_yields_the_same(
    jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provider, settings = provider_of(jpeg_folder), settings_of(batch_size=2, across_epochs=True)
    with CpuClipStream(provider, settings, workers=0) as stream:
        expected = [*stream, *stream]
    monkeypatch.setattr("vclimb.pipeline.stream.memory._free_bytes", lambda: 4 * batch_bytes(settings))
    with CpuClipStream(provider, settings, workers=3) as stream:
        assert_same_bits([*stream, *stream], expected)
        assert stream.host_bytes == 3 * batch_bytes(settings)
        stream.load_state_dict({"epoch": 1, "position": 2})
        assert_same_bits([*stream], expected[len(stream) + 2 :])
    assert "3 batches are decoded ahead in place of 8" in caplog.text


def test_a_stream_without_memory_says_what_to_change(jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclimb.pipeline.stream.memory._free_bytes", lambda: 1000)
    provider = provider_of(jpeg_folder)
    with (
        CpuClipStream(provider, settings_of(batch_size=2), workers=2) as stream,
        pytest.raises(RingMemoryError, match="take a smaller batch, fewer frames in a clip, or 0 workers"),
    ):
        next(iter(stream))


@pytest.mark.parametrize("batch_size", [2, 64])  # a batch of 64 is made in four parts
def test_batches_are_handed_out_without_a_copy_while_few_are_in_use(
    jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    dataset = StoredDataset.open(jpeg_folder)
    provider = InstanceProvider(dataset, all_instances(dataset) * (20 if batch_size == 64 else 1))
    settings = settings_of(batch_size=batch_size, views=(View("clip", 2),), across_epochs=True)
    copies: list[str] = []
    taken = BatchMemory.take
    monkeypatch.setattr(BatchMemory, "take", lambda memory: (copies.append("copy"), taken(memory))[1])
    with CpuClipStream(provider, settings, workers=0) as stream:
        expected = [*stream, *stream]
    copies.clear()
    with CpuClipStream(provider, settings, workers=2) as stream:
        for batch, reference in zip((batch for _ in range(2) for batch in stream), expected, strict=True):
            assert_same_bits([batch], [reference])
        assert copies == []
        stream.load_state_dict({"epoch": 0, "position": 0})
        kept = [*stream, *stream]  # more than there are slots
        assert copies
        assert_same_bits(kept, expected)
    assert_same_bits(kept, expected)  # the memory lasts longer than the stream
