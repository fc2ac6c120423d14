"""Training fed by each clip stream, as a share of training on batches that already lie on the GPU.

    python benchmarks/stream.py 224:SHARDS 112:SHARDS 112:SMALL_SHARDS [--model resnet34.tv_in1k] [--rounds 5]

Every argument is a crop size and a data set to train at that size on (several data sets may share a size: videos
prepared at another --short-side, or as h264). Each way to decode runs in a process of its own, which measures, in
turn: the stream alone, training on one repeated batch, training fed by the stream. Prints clips a second (medians of
the rounds) and the median of the rounds' ratios fed / repeated. A way that fails or hangs is said and passed over.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from pipeline.augment import Augmentation
from pipeline.clips import InstanceProvider
from pipeline.cpu_stream import CpuClipStream
from pipeline.dali_stream import DaliClipStream, DaliSettings
from pipeline.dataset import Dataset
from pipeline.sampling import View
from pipeline.stream import ClipStream, StreamSettings
from vclimb.throughput import Trainer, endless, repeated, take, timed, train_on
from vclimb.tsn import TSN

N_SEGMENTS = 8
WAYS = {
    "cpu": "all cores but two",
    "dali-cpu": "DALI, decoding on the cores",
    "dali-engines": "DALI, decoding on the JPEG engines",
    "dali-kernels": "DALI, decoding with CUDA kernels",
    "dali-both": "DALI, half on the cores and half on the engines",
}


def open_way(way: str, provider: InstanceProvider, settings: StreamSettings, device: torch.device) -> ClipStream:
    """The stream that a name stands for."""
    cores = len(os.sched_getaffinity(0))
    if way == "cpu":
        return CpuClipStream(provider, settings, device, max(1, cores - 2))
    dali = {
        "dali-cpu": DaliSettings(cpu_share=1.0, threads=max(1, cores - 4)),
        "dali-engines": DaliSettings(cpu_share=0.0, hw_decoder_load=1.0, threads=4),
        "dali-kernels": DaliSettings(cpu_share=0.0, hw_decoder_load=0.0, threads=4),
        "dali-both": DaliSettings(cpu_share=0.5, hw_decoder_load=1.0, threads=max(1, cores - 6)),
    }[way]
    return DaliClipStream(provider, settings, device, dali)


def measure(way: str, size: int, shards: str, model: str, rounds: int, batch_size: int, steps: int) -> dict[str, float]:
    """One way's figures."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = Dataset.open(shards)
    copies = max(1, 20 * batch_size // len(dataset.instances))  # an epoch of a small set would end too soon
    provider = InstanceProvider(dataset, dataset.instances * copies)
    settings = StreamSettings(batch_size, (View(n_frames=N_SEGMENTS),), Augmentation(size=size), drop_last=True)
    trainer = Trainer(TSN(len(dataset.classes), model), device)
    with open_way(way, provider, settings, device) as stream:
        batches = endless(stream)
        one = repeated(next(batches))
        train_on(trainer, one, 10)
        train_on(trainer, batches, 5)
        alone, synthetic, fed = [], [], []
        for _ in range(rounds):
            synthetic.append(timed(lambda: train_on(trainer, one, steps), device))
            fed.append(timed(lambda: train_on(trainer, batches, steps), device))
            take(batches, 4)
            alone.append(timed(lambda: take(batches, steps), device))
        batches.close()
    ratios = [a / b for a, b in zip(fed, synthetic, strict=True)]
    return {
        "alone": statistics.median(alone),
        "synthetic": statistics.median(synthetic),
        "fed": statistics.median(fed),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def figures_of(argv: list[str], timeout_seconds: float) -> dict[str, float]:
    """The figures that a process of this program prints; it and all its children are ended after the time-out."""
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(err[-300:])
    figures: dict[str, float] = json.loads(lines[0].removeprefix("RESULT "))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="SIZE:SHARDS")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--model", default="resnet34.tv_in1k")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--timeout", type=float, default=75)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        size, shards = args.runs[0].split(":", 1)
        figures = measure(args.ways[0], int(size), shards, args.model, args.rounds, args.batch_size, args.steps)
        print("RESULT", json.dumps(figures))
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    cores = len(os.sched_getaffinity(0))
    print(f"{where}, {cores} cores, TSN {args.model}, {N_SEGMENTS} frames, batch {args.batch_size}")
    print(f"{'px':>4} {'shards':12} {'way':13} {'alone':>7} {'repeated':>8} {'fed':>7} {'ratio':>6}  (low-high)")
    for run, way in itertools.product(args.runs, args.ways):
        size, shards = run.split(":", 1)
        dataset = Dataset.open(shards)
        if dataset.settings.codec != "jpeg" and way != "cpu":
            continue
        argv = [sys.executable, __file__, run, "--one", "--ways", way, "--model", args.model]
        argv += ["--rounds", str(args.rounds), "--batch-size", str(args.batch_size), "--steps", str(args.steps)]
        try:
            f = figures_of(argv, args.timeout)
            print(
                f"{size:>4} {Path(shards).name:12} {way:13} {f['alone']:7.0f} {f['synthetic']:8.0f} {f['fed']:7.0f} "
                f"{f['ratio']:6.3f}  ({f['ratio_low']:.3f}-{f['ratio_high']:.3f})",
                flush=True,
            )
        except (subprocess.TimeoutExpired, RuntimeError) as error:
            print(f"{size:>4} {Path(shards).name:12} {way:13} failed: {error}", flush=True)


if __name__ == "__main__":
    main()
