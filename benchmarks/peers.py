"""Compare the CPU clip stream with what users would pick instead: the same videos, frames, crops and worker processes.

    pip install --group peers    # torchcodec needs FFmpeg's libraries besides
    python benchmarks/peers.py FOLDER --jpeg JPEG_SHARDS --h264 H264_SHARDS [--sizes 112 224] [--rounds 3]

JPEG_SHARDS and H264_SHARDS are the same videos, prepared with either codec. In FOLDER, the first run makes of them what
the peers read: a folder of JPEG files, tars for webdataset, shards of MosaicML Streaming and of LitData, which hold the
same JPEG bytes, and the MP4 files of H264_SHARDS (x264, a keyframe every 12 frames), or of the same videos in other
shards, `--mp4 SHARDS`, such as without B-frames.

Each measurement is a program of its own; rounds take turns. Prints, for each peer and size, medians of the rounds:
clips a second after the first batch; CPU seconds a clip of all its processes, the figure to trust on a busy machine;
seconds from the making of the loader to the first batch; and the memory that the processes share out, in MB. A peer
that isn't installed is left out by name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream

BATCH = 16
JPEG_PEERS = ("vclimb", "folder", "mosaicml", "litdata", "webdataset")
H264_PEERS = ("vclimb-h264", "torchcodec", "pyav", "opencv", "decord")
MODULES = {"mosaicml": "streaming", "litdata": "litdata"}


def provider_of(dataset: StoredDataset) -> InstanceProvider:
    """Every whole video, in the order of the shards."""
    whole = {instance.key: instance for instance in dataset.instances}
    return InstanceProvider(dataset, [whole[video.key] for video in dataset.videos])


def settings_of(size: int) -> StreamSettings:
    return StreamSettings(BATCH, (View(),), Augmentation(size=size), drop_last=True, across_epochs=True)


def clips_of(shards: Path, size: int) -> Any:
    """The clips that peers load: those that our stream of the JPEG shards draws."""
    from vclimb.benchmark.peers.clips import PeerClips  # here: our own loader needs no torchvision

    dataset = StoredDataset.open(shards)
    return PeerClips.of(dataset, provider_of(dataset), settings_of(size))


def batches_of(name: str, options: argparse.Namespace) -> Iterator[Any]:
    """Make a peer's loader and pass over its batches."""
    size, workers, folder = options.size, options.workers, options.folder
    if name in ("vclimb", "vclimb-h264"):
        dataset = StoredDataset.open(options.jpeg if name == "vclimb" else options.h264)
        stream = CpuClipStream(provider_of(dataset), settings_of(size), workers=workers)
        return (batch for _ in iter(int, 1) for batch in stream)
    from torch.utils.data import DataLoader

    from vclimb.benchmark.peers.clips import transformed
    from vclimb.benchmark.peers.pictures import decode_jpegs
    from vclimb.benchmark.peers.registry import PEERS
    from vclimb.benchmark.peers.webdataset_tars import cut

    clips = clips_of(options.jpeg, size)
    if name in PEERS:
        return PEERS[name].batches(folder / PEERS[name].files, clips, workers)
    drawn = clips.drawn()

    def clip_of(number: int, joined: bytes, ends: Any) -> Any:
        clip = drawn[number]
        return transformed(decode_jpegs(cut(joined, ends, clip.frames)), clip, size)

    if name == "mosaicml":
        import streaming

        class Mosaic(streaming.StreamingDataset):  # type: ignore[misc]
            def __getitem__(self, place: int) -> Any:
                row = super().__getitem__(place)
                return clip_of(row["number"], row["jpegs"], row["ends"])

        rows = Mosaic(local=str(folder / "mosaicml"), shuffle=True, batch_size=BATCH)
        loader = DataLoader(rows, batch_size=BATCH, num_workers=workers, drop_last=True, persistent_workers=True)
        return (batch for _ in iter(int, 1) for batch in loader)
    import litdata

    class Lit(litdata.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, place: Any) -> Any:
            row = super().__getitem__(place)
            return clip_of(row["number"], row["jpegs"], np.frombuffer(row["ends"], np.int64))

    loader = litdata.StreamingDataLoader(
        Lit(str(folder / "litdata"), shuffle=True, drop_last=True),
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=True,
    )
    return (batch for _ in iter(int, 1) for batch in loader)


def lit_row(row: tuple[int, bytes, Any]) -> dict[str, Any]:
    return {"number": row[0], "jpegs": row[1], "ends": row[2].tobytes()}


def make(name: str, options: argparse.Namespace) -> None:
    """Write what a peer reads, where it isn't there yet."""
    if name.startswith("vclimb"):
        return
    from vclimb.benchmark.peers.registry import PEERS
    from vclimb.benchmark.peers.webdataset_tars import joined_frames

    files = PEERS[name].files if name in PEERS else name
    done = options.folder / f"{files}.done"
    if done.exists():
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    shards = (options.mp4 or options.h264) if name in H264_PEERS else options.jpeg
    dataset, clips = StoredDataset.open(shards), clips_of(shards, options.sizes[0])
    if name in PEERS:
        PEERS[name].write(dataset, clips, options.folder / files)
    elif name == "mosaicml":
        import streaming

        columns = {"number": "int", "jpegs": "bytes", "ends": "ndarray:int64"}
        with streaming.MDSWriter(out=str(options.folder / name), columns=columns, exist_ok=True) as writer:
            for number, joined, ends in joined_frames(dataset, clips):
                writer.write({"number": number, "jpegs": joined, "ends": ends})
    else:
        import litdata

        rows = list(joined_frames(dataset, clips))
        litdata.optimize(lit_row, rows, str(options.folder / name), chunk_bytes="16MB", num_workers=1)
    done.touch()


def cpu_seconds() -> float:
    """CPU time of this process, of its living descendants, and of its children that have ended."""
    program = psutil.Process()
    times = [child.cpu_times()[:2] for child in program.children(recursive=True)]
    return sum(map(sum, times)) + sum(program.cpu_times()[:4])


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one peer in this process, which ends with it."""
    n_batches = options.clips // BATCH
    if not name.startswith("vclimb"):
        importlib.import_module("torchvision.transforms.v2")  # vclimb needs none, and the start is measured
    begin = time.perf_counter()
    batches = batches_of(name, options)
    next(batches)
    first = time.perf_counter() - begin
    for _ in islice(batches, 4):  # buffers fill
        pass
    start, spent = time.perf_counter(), cpu_seconds()
    for _ in islice(batches, n_batches):
        pass
    seconds, spent = time.perf_counter() - start, cpu_seconds() - spent
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    memory = sum(process.memory_full_info().pss for process in processes) / 1e6
    clips = n_batches * BATCH
    return {"rate": clips / seconds, "cpu": spent / clips, "first": first, "memory": memory}


def run(name: str, size: int, options: argparse.Namespace) -> dict[str, float]:
    """Measure one peer in a process of its own."""
    command = [sys.executable, __file__, str(options.folder), "--jpeg", str(options.jpeg), "--one", name]
    command += ["--h264", str(options.h264), "--size", str(size), "--workers", str(options.workers)]
    command += ["--clips", str(options.clips if name in JPEG_PEERS else options.clips // 2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def installed(name: str) -> bool:
    from vclimb.benchmark.peers.registry import PEERS

    reason = PEERS[name].lacking() if name in PEERS else None
    if name in MODULES:
        try:
            importlib.import_module(MODULES[name])
        except (ImportError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:150]
    if reason is not None:
        print(f"{name} is left out: {reason}", file=sys.stderr)
    return reason is None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for what the peers read")
    parser.add_argument("--jpeg", type=Path, required=True, help="data set, prepared as jpeg")
    parser.add_argument("--h264", type=Path, help="the same videos, prepared as h264")
    parser.add_argument("--mp4", type=Path, help="the same videos, prepared as h264 for the peers (default: --h264)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[112, 224])
    parser.add_argument("--peers", nargs="+", default=[*JPEG_PEERS, *H264_PEERS], choices=JPEG_PEERS + H264_PEERS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=768, help="clips of a measurement from JPEG; half from H.264")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)), flush=True)
        os._exit(0)  # some peers' threads would keep the process
    peers = [name for name in options.peers if installed(name) and (options.h264 or name not in H264_PEERS)]
    for name in peers:
        make(name, options)
    figures: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for size in options.sizes:
            for name in peers:
                figures.setdefault((name, size), []).append(run(name, size, options))
    print("| from | loader | px | clips/s | CPU ms a clip | times vclimb's | first batch, s | memory, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, size), rounds in sorted(figures.items(), key=lambda item: (item[0][0] in H264_PEERS, item[0][1])):
        ours = "vclimb-h264" if name in H264_PEERS else "vclimb"
        rate, cpu, first, memory = (
            statistics.median(one[key] for one in rounds) for key in ("rate", "cpu", "first", "memory")
        )
        against = figures.get((ours, size))
        ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(rounds, against, strict=True)) if against else 0
        kind = "H.264" if name in H264_PEERS else "JPEG"
        cells = (kind, name.removesuffix("-h264"), size, f"{rate:.0f}", f"{1000 * cpu:.2f}", f"{ratio:.2f}")
        print("| " + " | ".join(map(str, cells)) + f" | {first:.1f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
