"""Compare the GPU's video decoders with the CPU stream on the same H.264 shards, in clips a second.

    python benchmarks/nvdec.py H264_SHARDS [--size 224] [--rounds 3] [--streams 7 14]

    whole    DALI `decoders.video` on each clip's stored video, which picks the frames by number
    spliced  the groups of pictures of a batch, concatenated to a few streams without decoding (such as one for each
             NVDEC engine), then `decoders.video` on these: one session for each stream, not for each clip
    cpu      our CPU stream

The first two only resize; the last also crops and mirrors.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch
import torch.utils.dlpack
from nvidia.dali import fn, pipeline_def, types

from vclimb.benchmark.throughput import endless
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.cpu import CpuClipStream

Sample = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]
"""An encoded video and the numbers of the frames to decode."""


def splice(groups: list[bytes]) -> bytes:
    """Concatenate groups of pictures (Annex B, each with its parameter sets) to one mp4."""
    out = io.BytesIO()
    with av.open(io.BytesIO(b"".join(groups)), format="h264") as source, av.open(out, "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.time_base = Fraction(1, 25)
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream = stream
            packet.time_base = Fraction(1, 25)
            packet.pts = packet.dts = number
            target.mux(packet)
    return out.getvalue()


def splice_batch(reader: ClipReader, plan: BatchPlan, n_streams: int) -> list[Sample]:
    """Convert a batch to `n_streams` concatenated videos."""
    samples = []
    bounds = np.linspace(0, len(plan.items), n_streams + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(bounds):
        groups, picked, n_before = [], [], 0
        for slot in range(start, stop):
            clip = reader.read(plan, slot).encoded
            lengths = [int(clip.position[clip.unit == unit].max()) + 1 for unit in range(len(clip.units))]
            starts = n_before + np.cumsum([0, *lengths[:-1]])
            picked.append(starts[clip.unit] + clip.position)
            groups += clip.units
            n_before += sum(lengths)
        samples.append((np.frombuffer(splice(groups), np.uint8), np.concatenate(picked).astype(np.int32)))
    return samples


def whole_batch(dataset: StoredDataset, provider: InstanceProvider, plan: BatchPlan) -> list[Sample]:
    """Convert a batch to the stored videos of its clips."""
    samples = []
    for slot, item in enumerate(plan.items.tolist()):
        instance = dataset.instances[item % len(dataset.instances)]
        with dataset.open_video(dataset.by_key[instance.key]) as file:
            video = file.read()
        frames = (plan.frames["clip"][slot] + instance.start_frame).astype(np.int32)
        samples.append((np.frombuffer(video, np.uint8), frames))
    return samples


def dali_rate(next_batch: Callable[[], list[Sample]], n_samples: int, clips: int, size: int, steps: int) -> list[float]:
    """Measure clips a second of each of `steps` batches, after three batches of warm-up."""

    @pipeline_def(batch_size=n_samples, num_threads=n_samples, device_id=0, prefetch_queue_depth=2)
    def frames() -> Any:
        video, picked = fn.external_source(
            lambda: tuple(map(list, zip(*next_batch(), strict=True))), num_outputs=2, batch=True
        )
        pictures = fn.decoders.video(video, device="mixed", frames=picked, build_index=False)
        return fn.resize(pictures, size=(size, size), interp_type=types.INTERP_LINEAR)

    pipeline = frames()
    pipeline.build()
    rates = []
    for step in range(steps + 3):
        start = time.perf_counter()
        (out,) = pipeline.run()
        _ = torch.utils.dlpack.from_dlpack(out[0]).sum().item()
        if step >= 3:
            rates.append(clips / (time.perf_counter() - start))
    return rates


def stream_rates(stream: CpuClipStream, steps: int) -> list[float]:
    """Measure clips a second of each of `steps` batches of the CPU stream, after ten batches of warm-up."""
    rates = []
    batches = endless(stream)
    for step in range(steps + 10):
        start = time.perf_counter()
        batch = next(batches)
        torch.cuda.synchronize()
        if step >= 10:
            rates.append(len(batch.keys) / (time.perf_counter() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--streams", type=int, nargs="+", default=[7, 14])
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()

    dataset = StoredDataset.open(args.shards)
    if dataset.settings.b_frames:
        parser.error("streams with B-frames can't be spliced; prepare the videos with --codec h264 --b-frames 0")
    provider = InstanceProvider(dataset, [*dataset.instances] * 4)
    settings = StreamSettings(
        args.batch_size, (View(),), Augmentation(size=args.size), drop_last=True, across_epochs=True
    )
    planner = CpuClipStream(provider, settings, "cpu", workers=0)
    reader = ClipReader(provider, settings)

    def report(name: str, rates: list[float]) -> None:
        low, high = min(rates), max(rates)
        print(f"{name:12} {statistics.median(rates):7.1f} clips/s ({low:.1f}-{high:.1f})", flush=True)

    plans = planner.plans(0, 0)
    start = time.perf_counter()
    batches = [splice_batch(reader, plan, 7) for plan in islice(plans, 4)]
    n_clips, n_bytes = 4 * args.batch_size, sum(len(video) for batch in batches for video, _ in batch)
    rate = n_clips / (time.perf_counter() - start)
    print(f"splicing: {rate:.0f} clips/s on one core, {n_bytes / n_clips / 1e3:.1f} kB a clip", flush=True)
    for n_streams in args.streams:
        # Spliced before, so that only decoding is measured.
        ready = itertools.cycle([splice_batch(reader, plan, n_streams) for plan in islice(plans, 4)])
        try:
            rates = dali_rate(partial(next, ready), n_streams, args.batch_size, args.size, args.steps)
            report(f"spliced {n_streams}", rates)
        except RuntimeError as error:
            print(f"spliced {n_streams} failed: {str(error)[:300]}", flush=True)
    try:
        ready = itertools.cycle([whole_batch(dataset, provider, plan) for plan in islice(plans, 4)])
        report("whole", dali_rate(partial(next, ready), args.batch_size, args.batch_size, args.size, 4))
    except RuntimeError as error:
        print(f"whole failed: {str(error)[:300]}", flush=True)
    with CpuClipStream(provider, settings, "cuda", args.workers) as stream:
        report("cpu", stream_rates(stream, 6 * args.steps))


if __name__ == "__main__":
    main()
