"""Compare the CPU clip stream with the usual ways to feed clips, in turn, on the same videos and transforms.

    python benchmarks/cpu_stream.py JPEG_SHARDS H264_VIDEOS [--size 112] [--workers 2] [--rounds 3] [--clips 384]

JPEG_SHARDS is a prepared data set (codec jpeg). H264_VIDEOS is a folder in which this program makes, at its first run,
an H.264 file (x264's defaults, GOP 250) and a folder of extracted JPEG frames (quality as in the shards) for each
video. Prints clips a second, each with the same number of worker processes:

    stream   our CPU stream
    frames   extracted JPEG files, PIL, torchvision transforms, torch DataLoader
    pyav     the H.264 files, PyAV from the first frame on, the same transforms, torch DataLoader
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.utils.data
from PIL import Image
from torchvision.transforms import functional

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg


def extract(dataset: StoredDataset, folder: Path) -> None:
    """Write each video as JPEG files of its frames (the stored bytes), and as an H.264 file."""
    for number, video in enumerate(dataset.videos):
        frames, h264 = folder / f"{number:05d}", folder / f"{number:05d}.mp4"
        if h264.exists():
            continue
        frames.mkdir(parents=True, exist_ok=True)
        for frame in range(video.n_frames):
            (frames / f"{frame:05d}.jpg").write_bytes(dataset.frame_bytes(video, frame))
        draft = h264.with_suffix(".new.mp4")
        argv = [find_ffmpeg().path, "-nostdin", "-v", "error", "-y", "-framerate", str(video.fps_fraction)]
        argv += ["-i", str(frames / "%05d.jpg"), "-c:v", "libx264", "-pix_fmt", "yuv420p", str(draft)]
        subprocess.run(argv, check=True)
        draft.replace(h264)


class UsualClips(torch.utils.data.Dataset[Any]):
    """The usual data set: decode, then transform, frame by frame. An item is a clip of a plan."""

    def __init__(self, folder: Path, size: int, load: Callable[[Path, int, list[int]], list[Image.Image]]) -> None:
        self.folder, self.size, self.load = folder, size, load

    def __getitem__(self, clip: tuple[int, list[int], list[int], bool]) -> torch.Tensor:  # type: ignore[override]
        item, frames, (left, top, width, height), flip = clip
        pictures = []
        for picture in self.load(self.folder, item, frames):
            cut = functional.resized_crop(picture, top, left, height, width, [self.size, self.size])
            pictures.append(functional.pil_to_tensor(functional.hflip(cut) if flip else cut))
        return torch.stack(pictures)


def load_frames(folder: Path, item: int, frames: list[int]) -> list[Image.Image]:
    """Load frames from extracted JPEG files."""
    return [Image.open(folder / f"{item:05d}" / f"{frame:05d}.jpg").convert("RGB") for frame in frames]


def load_h264(folder: Path, item: int, frames: list[int]) -> list[Image.Image]:
    """Load frames from an H.264 file, decoded from its start to the last frame."""
    with av.open(str(folder / f"{item:05d}.mp4")) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        numbers, pictures = set(frames), {}
        for number, picture in enumerate(islice(container.decode(stream), max(frames) + 1)):
            if number in numbers:
                pictures[number] = Image.fromarray(picture.to_ndarray(format="rgb24"))
    return [pictures[frame] for frame in frames]


def clips_of(plans: Iterator[BatchPlan]) -> list[list[tuple[int, list[int], list[int], bool]]]:
    """Convert plans to lists of clips, for a DataLoader's batch sampler."""
    return [
        [
            (int(item), frames.tolist(), box.tolist(), bool(flip))
            for item, frames, box, flip in zip(
                plan.items, plan.frames["clip"], plan.boxes[:, 0], plan.flips[:, 0], strict=True
            )
        ]
        for plan in plans
    ]


def rate(batches: Iterator[Any], batch_size: int, count: int) -> float:
    """Measure clips a second over `count` batches, after a first batch that starts the workers."""
    next(batches)
    start = time.perf_counter()
    for _ in islice(batches, count):
        pass
    return batch_size * count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()

    dataset = StoredDataset.open(args.shards)
    extract(dataset, args.videos)
    # Every whole video once, in the order of the extracted files.
    whole = {instance.key: instance for instance in dataset.instances}
    provider = InstanceProvider(dataset, [whole[video.key] for video in dataset.videos])
    settings = StreamSettings(
        args.batch_size, (View(),), Augmentation(size=args.size), drop_last=True, across_epochs=True
    )
    count = args.clips // args.batch_size

    def stream() -> float:
        with CpuClipStream(provider, settings, workers=args.workers) as ours:
            endless = (batch for _ in iter(int, 1) for batch in ours)
            return rate(endless, args.batch_size, count)

    def usual(load: Callable[[Path, int, list[int]], list[Image.Image]], share: int) -> float:
        planner = CpuClipStream(provider, settings, workers=0)
        plans = islice(planner.plans(0, 0), count // share + 1)
        loader = torch.utils.data.DataLoader(
            UsualClips(args.videos, args.size, load), batch_sampler=clips_of(plans), num_workers=args.workers
        )
        return rate(iter(loader), args.batch_size, count // share)

    figures: dict[str, list[float]] = {"stream": [], "frames": [], "pyav": []}
    for _ in range(args.rounds):
        figures["stream"].append(stream())
        figures["frames"].append(usual(load_frames, 2))
        figures["pyav"].append(usual(load_h264, 4))
    for name, rounds in figures.items():
        ratio = statistics.median(np.array(figures["stream"]) / np.array(rounds))
        print(
            f"{name:7} {statistics.median(rounds):7.1f} clips/s ({min(rounds):.1f}-{max(rounds):.1f}); "
            f"stream is {ratio:.2f}x"
        )


if __name__ == "__main__":
    main()
