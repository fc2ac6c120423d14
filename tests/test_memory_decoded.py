"""Exemplars decoded ahead into a bounded cache, for decoders that don't support their codec."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from memory_stream_cases import Counting, Open, cpu, dali, epoch, mixed_memory
from stream_cases import settings_of
from stream_contract import assert_same_bits, assert_same_picture

from vclimb.memory.decoded import DecodedExemplars
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.store.errors import MemoryChangedError, MemoryEmptyError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.clips.provider import ConcatProvider, InstanceProvider
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError


@pytest.fixture(scope="module")
def shards(jpeg_folder: Path) -> InstanceProvider:
    """Whole videos, class by class."""
    dataset = StoredDataset.open(jpeg_folder)
    return InstanceProvider(dataset, sorted(dataset.instances, key=lambda instance: instance.label))


@pytest.fixture
def mixed(shards: InstanceProvider, tmp_path: Path) -> MemoryStore:
    """A memory of 12 exemplars: 4 JPEG, 4 WebP of another size, and 4 H.264."""
    return mixed_memory(tmp_path / "memory.zarr", shards)


@pytest.mark.parametrize("bound", ["nothing", "less than one", "some", "all but a byte", "all", "plenty"])
def test_no_more_is_decoded_ahead_than_fits(mixed: MemoryStore, tmp_path: Path, bound: str) -> None:
    """4 JPEG exemplars stay encoded; the 4 + 4 others are decoded once if they fit, else at each use."""
    facts = ExemplarProvider(mixed).items
    headers = [len(f"P6\n{width} {height}\n255\n") for width, height in zip(facts.widths, facts.heights, strict=True)]
    sizes = facts.n_frames * (facts.widths * facts.heights * 3 + headers)
    total = int(sizes[4:].sum())
    limits = {"nothing": 0, "less than one": int(sizes[4:].min()) - 1, "some": total // 2}
    limits |= {"all but a byte": total - 1, "all": total, "plenty": total + 10**9}
    cache_bytes = limits[bound]
    exemplars = Counting(mixed)
    with DecodedExemplars(exemplars, cache_bytes) as provider:
        cost, ahead = provider.cost, set(exemplars.reads)
        assert set(exemplars.reads.values()) <= {1}
        assert ahead <= set(range(4, 12))
        assert cost.cache_bytes == sizes[sorted(ahead)].sum() <= cache_bytes
        assert (cost.exemplars, cost.left_encoded) == (len(ahead), 8 - len(ahead))
        assert cost.frames == facts.n_frames[sorted(ahead)].sum()
        assert cost.seconds > 0
        left = set(range(4, 12)) - ahead
        assert all(cost.cache_bytes + sizes[item] > cache_bytes for item in left)
        assert len(ahead) in {"nothing": {0}, "less than one": {0}, "all": {8}, "plenty": {8}}.get(bound, range(1, 8))
        assert ("didn't fit" in str(cost)) == bool(left)
        exemplars.reads.clear()
        with dali(provider, settings_of()) as stream:
            batches = [*stream, *stream]
        assert set(exemplars.reads) == set(range(12)) - ahead
    assert_same_bits(batches[:3], epoch(dali, ExemplarProvider(mixed)))
    assert_same_picture(batches[:3], epoch(cpu, ExemplarProvider(mixed)))


@pytest.mark.parametrize(("open_stream", "processes"), [(cpu, 2), (dali, 1)])
def test_what_is_decoded_ahead_is_read_by_processes(
    mixed: MemoryStore, shards: InstanceProvider, open_stream: Open, processes: int
) -> None:
    expected = epoch(open_stream, ConcatProvider([shards, ExemplarProvider(mixed)]), processes)
    with (
        DecodedExemplars(ExemplarProvider(mixed), 10**9) as decoded,
        open_stream(ConcatProvider([shards, decoded]), settings_of(), processes) as stream,
    ):
        assert_same_bits(list(stream), expected)
        for label in (1, 2):
            for rank in range(4):
                (mixed.path / mixed.classes[label].frames.files[rank]).unlink()
        stream.load_state_dict({"epoch": 0, "position": 0})
        assert_same_bits(list(stream), expected)


_HELD = """
import sys, time
from pathlib import Path
from vclimb.pipeline.stream.cpu import CpuClipStream
from stream_cases import settings_of
from vclimb.memory.decoded import DecodedExemplars
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.store.reader import MemoryStore

cache = DecodedExemplars(ExemplarProvider(MemoryStore.open(sys.argv[1])), 10**9, folder=Path(sys.argv[2]))
stream = CpuClipStream(cache, settings_of(), workers=1)
list(stream)
print(cache.cost.exemplars, flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_nothing_on_disk(mixed: MemoryStore, tmp_path: Path) -> None:
    folder, script = tmp_path / "cache", tmp_path / "held.py"
    folder.mkdir()
    script.write_text(_HELD)
    process = subprocess.Popen(
        [sys.executable, script, mixed.path, folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "8\n"
        family = psutil.Process(process.pid).children(recursive=True)
        open_files = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert any(file.startswith(str(folder)) for file in open_files)
        assert list(folder.iterdir()) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)
    _, left = psutil.wait_procs(family, timeout=120)
    assert left == []
    assert list(folder.iterdir()) == []


def test_an_error_leaves_nothing_open(mixed: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    provider = ExemplarProvider(mixed)
    with MemoryWriter.open(mixed.path) as writer:
        writer.commit({2: 1})
    handles = psutil.Process().num_fds()
    with pytest.raises(MemoryChangedError) as caught:
        DecodedExemplars(provider, 10**9, folder=folder)
    assert psutil.Process().num_fds() == handles
    assert caught.value.__traceback__ is not None  # it is kept until here, with all that it refers to
    with DecodedExemplars(ExemplarProvider(MemoryStore.open(mixed.path)), 10**9, folder=folder) as decoded:
        assert psutil.Process().num_fds() == handles + 1
        assert list(folder.iterdir()) == []
    assert psutil.Process().num_fds() == handles
    with pytest.raises(ValueError, match="closed file"):
        decoded.read(4, np.arange(1))


_FULL = """
import os, subprocess, sys
from pathlib import Path
from vclimb.pipeline.errors import TargetError
from vclimb.memory.decoded import DecodedExemplars
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.store.reader import MemoryStore

disk = Path(sys.argv[2])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", disk]).returncode:
    sys.exit(77)
provider = ExemplarProvider(MemoryStore.open(sys.argv[1]))
try:
    DecodedExemplars(provider, 10**9, folder=disk)
except TargetError as error:
    print(error)
print(os.listdir(disk), os.statvfs(disk).f_bfree == os.statvfs(disk).f_blocks)
"""


def test_a_full_disk_is_an_error(mixed: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    command = ["unshare", "-m", sys.executable, "-c", _FULL, str(mixed.path), str(tmp_path / "disk")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("mounting a small disk is not permitted")
    says = f"no space left on the disk of {tmp_path / 'disk'}; free some and run the same command again"
    assert done.stdout.splitlines() == [says, "[] True"], done.stderr


def test_settings_that_make_no_sense_are_refused(mixed: MemoryStore, tmp_path: Path) -> None:
    provider = ExemplarProvider(mixed)
    for wrong, says in (
        ({"cache_bytes": -1}, "cache_bytes -1 is out of range; allowed: 0 or more"),
        ({"folder": tmp_path / "none"}, "is no folder, so it can't hold decoded exemplars; name a folder that exists"),
    ):
        with pytest.raises(SettingsError, match=says):
            DecodedExemplars(provider, **{"cache_bytes": 1000, **wrong})
    with MemoryWriter.open(tmp_path / "empty.zarr") as writer, pytest.raises(MemoryEmptyError, match="it is empty"):
        ExemplarProvider(writer.memory)
