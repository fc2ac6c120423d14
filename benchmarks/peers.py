"""Compare the CPU clip stream with what users would pick instead: the same videos, frames, crops and worker processes.

    pip install --group peers    # torchcodec needs FFmpeg's libraries besides
    python benchmarks/peers.py FOLDER --jpeg JPEG_SHARDS --h264 H264_SHARDS [--sizes 112 224] [--rounds 3]

JPEG_SHARDS and H264_SHARDS are the same videos, prepared with either codec. In FOLDER, the first run makes of them what
the peers read: a folder of JPEG files, tars for webdataset, shards of MosaicML Streaming and of LitData, which hold the
same JPEG bytes, and the MP4 files of the shards (x264, a keyframe every 12 frames).

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
from collections.abc import Callable, Iterator
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
MODULES = {"mosaicml": "streaming", "litdata": "litdata", "webdataset": "webdataset", "folder": "simplejpeg"}
MODULES |= {"torchcodec": "torchcodec.decoders", "pyav": "av", "opencv": "cv2", "decord": "decord"}

Clip = tuple[list[int], list[int], bool]
"""Numbers of the frames, box (left, top, width, height), and whether it is flipped."""


def stream_of(shards: Path, size: int, workers: int) -> CpuClipStream:
    """Open the stream of every whole video, in the order of the shards."""
    dataset = StoredDataset.open(shards)
    whole = {instance.key: instance for instance in dataset.instances}
    provider = InstanceProvider(dataset, [whole[video.key] for video in dataset.videos])
    settings = StreamSettings(BATCH, (View(),), Augmentation(size=size), drop_last=True, across_epochs=True)
    return CpuClipStream(provider, settings, workers=workers)


def plan(shards: Path, size: int, n_batches: int) -> list[list[tuple[int, Clip]]]:
    """Draw the clips that the stream draws: batches of items and clips, over as many epochs as needed."""
    planner = stream_of(shards, size, 0)
    plans = (plan for epoch in range(10**6) for plan in planner.plans(epoch, 0))
    return [
        [
            (int(item), (frames.tolist(), box.tolist(), bool(flip)))
            for item, frames, box, flip in zip(
                plan.items, plan.frames["clip"], plan.boxes[:, 0], plan.flips[:, 0], strict=True
            )
        ]
        for plan in islice(plans, n_batches)
    ]


def transformed(pictures: list[Any], clip: Clip, size: int) -> Any:
    """Cut, resize and flip (H, W, 3) uint8 pictures as torchvision does: (T, 3, size, size) uint8."""
    import torch
    from torchvision.transforms.v2 import functional

    _, (left, top, width, height), flip = clip
    frames = torch.stack([torch.as_tensor(picture) for picture in pictures]).permute(0, 3, 1, 2)
    cut = functional.resized_crop(frames, top, left, height, width, [size, size], antialias=True)
    return functional.horizontal_flip(cut) if flip else cut


def decode_jpegs(pieces: list[bytes]) -> list[Any]:
    import simplejpeg

    return [simplejpeg.decode_jpeg(piece) for piece in pieces]


def cut(joined: bytes, ends: Any, frames: list[int]) -> list[bytes]:
    """Cut frames out of a video's joined JPEG files."""
    return [joined[(int(ends[frame - 1]) if frame else 0) : int(ends[frame])] for frame in frames]


class Videos:
    """Map-style data set of videos; an item is the number of a video with a clip."""

    def __init__(self, folder: Path, size: int, load: Callable[[Path, int, list[int]], list[Any]]) -> None:
        self.folder, self.size, self.load = folder, size, load

    def __getitem__(self, item: tuple[int, Clip]) -> Any:
        number, clip = item
        return transformed(self.load(self.folder, number, clip[0]), clip, self.size)


def load_folder(folder: Path, number: int, frames: list[int]) -> list[Any]:
    return decode_jpegs([(folder / f"{number:05d}" / f"{frame:05d}.jpg").read_bytes() for frame in frames])


def load_torchcodec(folder: Path, number: int, frames: list[int]) -> list[Any]:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(
        folder / f"{number:05d}.mp4", dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate"
    )
    return list(decoder.get_frames_at(frames).data)


def load_pyav(folder: Path, number: int, frames: list[int]) -> list[Any]:
    """Decode from the last keyframe before each run of frames, as careful users write it."""
    import av

    pictures: dict[int, Any] = {}
    with av.open(str(folder / f"{number:05d}.mp4")) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        step = 1 / (stream.average_rate * stream.time_base)
        at = -1
        for wanted in sorted(set(frames)):
            if at < 0 or wanted // 12 > at // 12:
                container.seek(int(wanted * step), stream=stream)
                decoded = container.decode(stream)
            for picture in decoded:
                at = round(picture.pts / step)
                if at == wanted:
                    pictures[at] = picture.to_ndarray(format="rgb24")
                    break
    return [pictures[frame] for frame in frames]


def load_opencv(folder: Path, number: int, frames: list[int]) -> list[Any]:
    import cv2

    cv2.setNumThreads(1)
    capture, pictures = cv2.VideoCapture(str(folder / f"{number:05d}.mp4"), cv2.CAP_FFMPEG), {}
    for wanted in sorted(set(frames)):
        capture.set(cv2.CAP_PROP_POS_FRAMES, wanted)
        pictures[wanted] = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    capture.release()
    return [pictures[frame] for frame in frames]


def load_decord(folder: Path, number: int, frames: list[int]) -> list[Any]:
    import decord

    reader = decord.VideoReader(str(folder / f"{number:05d}.mp4"), num_threads=1)
    return list(reader.get_batch(frames).asnumpy())


LOADERS = {"folder": load_folder, "torchcodec": load_torchcodec, "pyav": load_pyav}
LOADERS |= {"opencv": load_opencv, "decord": load_decord}


def draw(shards: Path, size: int) -> dict[int, Clip]:
    """Draw a clip of each video, for loaders that choose the order of videos themselves."""
    clips: dict[int, Clip] = {}
    for batch in plan(shards, size, 10 * -(-len(StoredDataset.open(shards).videos) // BATCH)):
        clips.update(dict(batch))
    return clips


def batches_of(name: str, options: argparse.Namespace, n_batches: int) -> Iterator[Any]:
    """Make a peer's loader and pass over its batches."""
    size, workers, folder = options.size, options.workers, options.folder
    if name in ("vclimb", "vclimb-h264"):
        stream = stream_of(options.jpeg if name == "vclimb" else options.h264, size, workers)
        return (batch for _ in iter(int, 1) for batch in stream)
    from torch.utils.data import DataLoader

    if name in LOADERS:
        batches = plan(options.jpeg, size, n_batches)
        return iter(DataLoader(Videos(folder, size, LOADERS[name]), batch_sampler=batches, num_workers=workers))
    clips = draw(options.jpeg, size)

    def clip_of(number: int, joined: bytes, ends: Any) -> Any:
        clip = clips[number]
        return transformed(decode_jpegs(cut(joined, ends, clip[0])), clip, size)

    if name == "webdataset":
        import webdataset

        def sample(row: dict[str, Any]) -> Any:
            return clip_of(int(row["__key__"]), row["jpegs"], np.frombuffer(row["ends"], np.int64))

        tars = sorted(map(str, (folder / "webdataset").glob("*.tar")))
        rows = webdataset.WebDataset(tars, shardshuffle=len(tars), empty_check=False, nodesplitter=None)
        rows = rows.repeat().shuffle(64).map(sample).batched(BATCH)
        return iter(webdataset.WebLoader(rows, batch_size=None, num_workers=workers))
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


def rows_of(shards: Path) -> Iterator[tuple[int, bytes, Any]]:
    """Yield each video: its number, its joined JPEG files, and where each ends."""
    dataset = StoredDataset.open(shards)
    for number, video in enumerate(dataset.videos):
        pieces = [dataset.frame_bytes(video, frame) for frame in range(video.n_frames)]
        yield number, b"".join(pieces), np.cumsum([len(piece) for piece in pieces]).astype(np.int64)


def lit_row(row: tuple[int, bytes, Any]) -> dict[str, Any]:
    return {"number": row[0], "jpegs": row[1], "ends": row[2].tobytes()}


def make(name: str, options: argparse.Namespace) -> None:
    """Write what a peer reads, where it isn't there yet."""
    done = options.folder / (f"{name}.done" if name in JPEG_PEERS else "mp4.done")
    if done.exists() or name.startswith("vclimb"):
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if name == "folder":
        for number, joined, ends in rows_of(options.jpeg):
            frames = options.folder / f"{number:05d}"
            frames.mkdir(exist_ok=True)
            for frame in range(len(ends)):
                (frames / f"{frame:05d}.jpg").write_bytes(cut(joined, ends, [frame])[0])
    elif name == "mosaicml":
        import streaming

        columns = {"number": "int", "jpegs": "bytes", "ends": "ndarray:int64"}
        with streaming.MDSWriter(out=str(options.folder / name), columns=columns, exist_ok=True) as writer:
            for number, joined, ends in rows_of(options.jpeg):
                writer.write({"number": number, "jpegs": joined, "ends": ends})
    elif name == "litdata":
        import litdata

        litdata.optimize(
            lit_row, list(rows_of(options.jpeg)), str(options.folder / name), chunk_bytes="16MB", num_workers=1
        )
    elif name == "webdataset":
        import webdataset

        (options.folder / name).mkdir(exist_ok=True)
        with webdataset.ShardWriter(str(options.folder / name / "%06d.tar"), maxcount=20, verbose=0) as writer:
            for number, joined, ends in rows_of(options.jpeg):
                writer.write({"__key__": f"{number:05d}", "jpegs": joined, "ends": ends.tobytes()})
    else:
        dataset = StoredDataset.open(options.h264)
        for number, video in enumerate(dataset.videos):
            with dataset.open_video(video) as stored:
                (options.folder / f"{number:05d}.mp4").write_bytes(stored.read())
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
    batches = batches_of(name, options, 2 * n_batches + 64)
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
    try:
        importlib.import_module(MODULES.get(name, "vclimb"))
    except (ImportError, OSError, RuntimeError) as error:
        print(f"{name} is left out: {' '.join(str(error).split())[:150]}", file=sys.stderr)
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for what the peers read")
    parser.add_argument("--jpeg", type=Path, required=True, help="data set, prepared as jpeg")
    parser.add_argument("--h264", type=Path, help="the same videos, prepared as h264")
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
