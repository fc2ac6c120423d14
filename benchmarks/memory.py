"""The replay memory: the cost of writing, reading and dropping exemplars, and clips per second of replay.

    python benchmarks/memory.py JPEG_SHARDS [--exemplars 2000] [--frames 8] [--features 1280] [--size 224] [--workers 2]
                                [--rounds 3]

JPEG_SHARDS is a prepared data set (codec jpeg). Exemplars are windows of its videos, in a memory on the disk that
--folder names. First the store alone, by the clock, in one process: staging and committing (which syncs to the disk)
all exemplars, reading them in random order with and without decoding, dropping half. Then a clip from kept features
beside the same clip from frames, read and decoded, in turn, and the median of the rounds' ratios. Then, for every
codec, the CPU stream of clips from the memory beside the same stream of the same clips from the shards, in turn: clips
a second and the median of the rounds' ratios. `benchmarks/exemplar_codecs.py` has bytes, quality and speed of the
codecs. Where --codecs names none, the streams are left out, and where --rounds is 0, the features too.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from vclimb.benchmark.throughput import endless, take
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.feature_codec import FeatureCodec
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.replay import ClassInstances, MemorySettings, ReplayMemory
from vclimb.memory.store.exemplar import NO_FRAMES
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import ClipProvider, InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream

CODECS = ("copy", "jpeg:75", "jpeg:75@128", "webp:75", "avif:60", "jxl:1", "h264:20", "h265:24", "av1:35", "raw")


def windows(dataset: StoredDataset, count: int, n_frames: int) -> InstanceProvider:
    """Cut `count` windows of 2 * n_frames frames, or somewhat more, from the videos, evenly over all of them."""
    videos = [video for video in dataset.videos if video.n_frames >= 2 * n_frames]
    per_video, runs = -(-count // len(videos)), list[StoredInstance]()
    while len(runs) < count and per_video <= count:  # short videos have few windows
        runs = [
            StoredInstance(video.key, video.labels[0], None, start, end)
            for video in videos
            for start, end in spans(video.n_frames, 2 * n_frames, per_video)
        ]
        per_video *= 2
    chosen = [runs[place] for place in np.linspace(0, len(runs) - 1, min(count, len(runs))).astype(int).tolist()]
    return InstanceProvider(dataset, sorted(chosen, key=lambda run: run.label))


def spans(n_frames: int, length: int, count: int) -> list[tuple[int, int]]:
    """Up to `count` different windows of a video: of a length, and of more frames where it has too few of these."""
    n_starts = n_frames - length + 1
    if count <= n_starts:
        starts = range(0, n_starts, n_starts // count)
        return [(start, start + length) for start in starts[:count]]
    longer = ((start, start + n) for n in range(length, n_frames + 1) for start in range(n_frames - n + 1))
    return [*islice(longer, count)]


def fill(path: Path, provider: InstanceProvider, codec: str, n_frames: int) -> MemoryStore:
    """Make a memory of all items of a provider."""
    memory = ReplayMemory(path, MemorySettings(budget=MemoryBudget("all"), frames=n_frames, codec=codec))
    labels = provider.items.labels
    new = [ClassInstances(n, f"class {n}", np.flatnonzero(labels == n)) for n in np.unique(labels).tolist()]
    memory.update(provider, new, [one.label for one in new])
    return memory.open()


@dataclass
class Clock:
    """Seconds of a step that may be interrupted: by the clock, and of the cores."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def each(self, count: int) -> str:
        """Milliseconds of each of some exemplars, in words."""
        return f"{1e3 * self.wall / count:6.3f} ms an exemplar ({1e3 * self.cpu / count:.3f} of the cores)"


def store_rates(folder: Path, memory: MemoryStore) -> None:
    """Copy a memory, read it, drop half of its exemplars, and print the time of each step."""
    count, clocks = len(memory), {name: Clock() for name in ("write", "commit", "read", "decode", "drop")}
    with MemoryWriter.open(folder / "copy.zarr") as writer:
        for n, stored in memory.classes.items():
            exemplars = [memory.exemplar(n, rank) for rank in range(stored.n_exemplars)]
            with clocks["write"].running():
                writer.stage(NewClass(n, stored.name, stored.encoding, exemplars))
        with clocks["commit"].running():
            copy = writer.commit()
        order = [(n, rank) for n, stored in copy.classes.items() for rank in range(stored.n_exemplars)]
        random.Random(0).shuffle(order)
        with clocks["read"].running():
            for n, rank in order:
                copy.exemplar(n, rank)
        frames = 0
        with clocks["decode"].running():
            for n, rank in order:
                exemplar = copy.exemplar(n, rank)
                frames += len(decode_clip(exemplar.clip, exemplar.width, exemplar.height, str))
        with clocks["drop"].running():
            writer.commit({n: stored.n_exemplars // 2 for n, stored in copy.classes.items()})
    print(f"write   {clocks['write'].each(count)}")
    print(f"commit  {clocks['commit'].each(count)}, synced")
    print(f"read    {clocks['read'].each(count)}, checked")
    print(f"read and decode {frames / clocks['decode'].wall:6,.0f} frames/s on one core")
    print(f"drop    {clocks['drop'].each(count // 2)}, half of them", flush=True)


def feature_ratios(folder: Path, memory: MemoryStore, n_features: int, rounds: int) -> None:
    """Read and decode a clip from features beside one from frames, in random order on one core, and print the times."""
    draw = np.random.default_rng(0)
    order = [(n, rank) for n, stored in memory.classes.items() for rank in range(stored.n_exemplars)]
    random.Random(0).shuffle(order)
    order = order[:256]
    print(f"\nms a clip, read and decoded on one core: a feature of {n_features} numbers beside frames")
    for dtype in ("fp32", "fp16", "int8"):
        codec = FeatureCodec(dtype)
        with MemoryWriter.open(folder / f"{dtype}.zarr") as writer:
            for n, stored in memory.classes.items():
                exemplars = [
                    replace(
                        memory.encoded(n, rank),
                        frames=np.empty(0, np.int64),
                        clip=NO_FRAMES,
                        arrays=codec.encode(draw.normal(size=n_features)),
                    )
                    for rank in range(stored.n_exemplars)
                ]
                writer.stage(NewClass(n, stored.name, str(codec), exemplars))
            kept = writer.commit()
        ratios, times = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            for n, rank in order:
                codec.decode(kept.exemplar(n, rank).arrays)
            middle = time.perf_counter()
            for n, rank in order:
                exemplar = memory.encoded(n, rank)
                decode_clip(exemplar.clip, exemplar.width, exemplar.height, str)
            end = time.perf_counter()
            times.append([1e3 * seconds / len(order) for seconds in (middle - start, end - middle)])
            ratios.append((middle - start) / (end - middle))
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{dtype:6} {ours:7.3f}  frames {theirs:7.3f}  ratio {statistics.median(ratios):.4f}  "
            f"({min(ratios):.4f}-{max(ratios):.4f})",
            flush=True,
        )


def clips_per_second(provider: ClipProvider, settings: StreamSettings, workers: int, steps: int) -> float:
    """Measure the CPU stream after its workers have started."""
    with CpuClipStream(provider, settings, workers=workers) as stream:
        batches = endless(stream)
        take(batches, 4)
        start = time.perf_counter()
        clips = sum(len(batch.keys) for batch in islice(batches, steps))
        return clips / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--exemplars", type=int, default=2000)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--codecs", nargs="*", default=CODECS)
    parser.add_argument("--features", type=int, default=1280, help="numbers of a feature")
    parser.add_argument("--folder", type=Path, help="where memories are put, and removed again")
    args = parser.parse_args()

    provider = windows(StoredDataset.open(args.shards), args.exemplars, args.frames)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        memory = fill(folder / "m.zarr", provider, "copy", args.frames)
        print(f"{len(memory)} exemplars of {args.frames} frames, the shards' own JPEG files")
        store_rates(folder, memory)
        if args.rounds:
            feature_ratios(folder, memory, args.features, args.rounds)

        if not args.codecs:
            return
        few = windows(StoredDataset.open(args.shards), 192, args.frames)
        settings = StreamSettings(
            16,
            (View(n_frames=args.frames, random=False),),
            Augmentation(size=args.size),
            drop_last=True,
            across_epochs=True,
        )
        print(f"\nclips/s of the CPU stream with {args.workers} workers, {args.frames} frames of {args.size} px")
        print(f"{'codec':12} {'memory':>8} {'shards':>8} {'ratio':>6}  (low-high)")
        for codec in args.codecs:
            shutil.rmtree(folder / "m.zarr")
            kept = ExemplarProvider(fill(folder / "m.zarr", few, codec, args.frames))
            pairs = [
                [clips_per_second(one, settings, args.workers, args.steps) for one in (kept, few)]
                for _ in range(args.rounds)
            ]
            ratios = [ours / theirs for ours, theirs in pairs]
            ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(
                f"{codec:12} {ours:8.1f} {theirs:8.1f} {statistics.median(ratios):6.2f}  "
                f"({min(ratios):.2f}-{max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
