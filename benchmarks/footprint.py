"""Measure bytes read and memory used by the CPU stream on a data set that may be larger than the machine's memory.

    python benchmarks/footprint.py SHARDS [--copies 80] [--folder DIR] [--size 112] [--workers 2]

SHARDS is a prepared data set (codec jpeg). Copies of its shards in DIR, removed at the end, make it larger. The program
runs one epoch. It prints the bytes that the workers read beside those of the frames used, the unshared memory of the
processes (USS, without the file system's cache) at the start, at the maximum and at the end, and the ring's memory.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream


def multiply(dataset: StoredDataset, copies: int, folder: Path) -> StoredDataset:
    """Make a data set of copies of another data set's shards."""
    catalog, n_shards = dataset.catalog, max(dataset.catalog.shards) + 1
    shards, videos, instances = {}, [], []
    for copy in range(copies):
        for number, files in catalog.shards.items():
            stem = f"{files.tar.removesuffix('.tar')}-{copy:03d}"
            shards[number + copy * n_shards] = replace(files, tar=f"{stem}.tar")
            tar, _, frames = dataset.shard_paths(number)
            shutil.copy(tar, folder / f"{stem}.tar")
            shutil.copy(frames, folder / f"{stem}.frames.npy")
        videos += [replace(v, key=f"{v.key}-{copy}", shard=v.shard + copy * n_shards) for v in catalog.videos]
        instances += [replace(instance, key=f"{instance.key}-{copy}") for instance in catalog.instances]
    storage = type(dataset.storage)(folder)  # type: ignore[call-arg]
    made = Catalog(catalog.name, catalog.settings, catalog.ffmpeg, shards, videos, instances)
    return StoredDataset(storage, made.stored())


def used_bytes(dataset: StoredDataset, provider: InstanceProvider, plan: BatchPlan) -> int:
    """Sum the bytes of the distinct frames of a batch."""
    total = 0
    for slot, item in enumerate(plan.items.tolist()):
        sizes = dataset.frame_ranges(dataset.by_key[str(provider.items.keys[item])])[:, 1]
        total += int(sizes[plan.distinct_frames(slot) + provider.start_frames[item]].sum())
    return total


def unshared_bytes() -> int:
    """Sum the unshared memory of this process and all its children."""
    parent = psutil.Process()
    return sum(process.memory_full_info().uss for process in [parent, *parent.children(recursive=True)])


def bytes_read() -> int:
    """Sum the bytes that the children have read so far."""
    return sum(child.io_counters().read_chars for child in psutil.Process().children(recursive=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--copies", type=int, default=80)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        dataset = multiply(StoredDataset.open(args.shards), args.copies, Path(name))
        n_bytes = sum(path.stat().st_size for path in Path(name).iterdir())
        print(f"{n_bytes / 2**30:.1f} GiB of shards, {psutil.virtual_memory().total / 2**30:.1f} GiB of memory")
        provider = InstanceProvider(dataset, dataset.instances)
        settings = StreamSettings(args.batch_size, augmentation=Augmentation(size=args.size), drop_last=True)
        with CpuClipStream(provider, settings, workers=args.workers) as stream:
            batches = iter(stream)
            plans = [next(batches).plan for _ in range(10)]
            first = most = last = unshared_bytes()
            n_read, start = bytes_read(), time.perf_counter()
            for number, batch in enumerate(batches):
                plans.append(batch.plan)
                if number % 20 == 0:
                    last = unshared_bytes()
                    most = max(most, last)
            seconds = time.perf_counter() - start
            n_read = bytes_read() - n_read
            print(f"{len(plans) * args.batch_size} clips, {(len(plans) - 10) * args.batch_size / seconds:.0f} clips/s")
            print(
                f"unshared memory of {1 + args.workers} processes and a fork server: {first / 2**20:.0f} MiB after 10 ",
                end="",
            )
            print(f"batches, {most / 2**20:.0f} MiB at the maximum, {last / 2**20:.0f} MiB at the end")
            print(f"of which a ring of {stream.host_bytes / 2**20:.0f} MiB is for decoded batches")
        used = sum(used_bytes(dataset, provider, plan) for plan in plans[10:])
        # The batches decoded ahead of the tenth one were read before.
        per_clip = np.array([n_read, used]) / ((len(plans) - 10) * args.batch_size)
        print(f"read {per_clip[0]:,.0f} bytes a clip, of frames used {per_clip[1]:,.0f}: {n_read / used:.3f}")


if __name__ == "__main__":
    main()
