"""Measure training fed by each clip stream, as a share of training on batches that lie on the GPU.

    python benchmarks/stream.py 224:SHARDS 112:SMALL_SHARDS 224:H264_SHARDS [--ways cpu dali-engines] [--rounds 5]

Every argument is a crop size and a data set to train on at that size. Several data sets may share a size, such as
videos prepared at another --short-side, or as h264. A process for each argument measures, for one way of decoding after
the other, in turn: training on one repeated batch, training fed by the stream, and the stream alone. On a GPU, with
steps run as written (`eager`), with steps replayed as a CUDA graph (`graph`), and with vclimb's kernels besides
(`fused`), as `vclimb train` does by default. Prints clips a second (medians of the rounds), the medians of the rounds'
ratios fed / repeated and fed / repeated as written, and the share of the repeated steps' time in which the training
thread computes. Near 1, launching kernels limits training, and anything that takes that thread's time (or the
interpreter's lock) slows training down. A way that fails or hangs is reported and skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from vclimb.benchmark.throughput import BenchTrainer, endless, take, timed, train_on
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.dali import DaliClipStream
from vclimb.pipeline.stream.dali_pipeline import DaliSettings

N_SEGMENTS = 8
WAYS = {
    "cpu": "worker processes on all cores but two, and pinned memory",
    "dali-cpu": "DALI, decoding on the cores",
    "dali-engines": "DALI, decoding on the JPEG engines",
    "dali-kernels": "DALI, decoding with CUDA kernels",
    "dali-both": "DALI, half on the cores and half on the engines",
}


def open_way(way: str, provider: InstanceProvider, settings: StreamSettings, device: torch.device) -> ClipStream:
    """Open the stream of a way of decoding."""
    cores = len(os.sched_getaffinity(0))
    if way == "cpu":
        return CpuClipStream(provider, settings, device)
    dali = {
        "dali-cpu": DaliSettings(cpu_share=1.0, threads=max(1, cores - 4)),
        "dali-engines": DaliSettings(cpu_share=0.0, hw_decoder_load=1.0, threads=min(4, cores)),
        "dali-kernels": DaliSettings(cpu_share=0.0, hw_decoder_load=0.0, threads=min(4, cores)),
        "dali-both": DaliSettings(cpu_share=0.5, hw_decoder_load=1.0, threads=max(1, cores - 6)),
    }[way]
    return DaliClipStream(provider, settings, device, dali)


Figures = dict[str, dict[str, float]]
"""Figures of each kind of step: `eager`, `graph` or `fused`."""


def measure(
    way: str, provider: InstanceProvider, trainers: dict[str, BenchTrainer], args: argparse.Namespace
) -> Figures:
    """Measure the figures of one way, for each kind of step."""
    size, device, steps = int(args.runs[0].split(":")[0]), trainers["eager"].device, args.steps
    settings = StreamSettings(
        args.batch_size, (View(n_frames=N_SEGMENTS),), Augmentation(size=size), drop_last=True, across_epochs=True
    )
    alone: list[float] = []
    values: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in trainers}
    with open_way(way, provider, settings, device) as stream:
        batches = endless(stream)
        same_batch = itertools.repeat(next(batches))
        for trainer in trainers.values():
            train_on(trainer, same_batch, 10)
            train_on(trainer, batches, 5)
        for _, (kind, trainer) in itertools.product(range(args.rounds), trainers.items()):
            start_seconds, thread_start_seconds = time.perf_counter(), time.thread_time()
            repeated = timed(partial(train_on, trainer, same_batch, steps), device)
            busy = (time.thread_time() - thread_start_seconds) / (time.perf_counter() - start_seconds)
            train_on(trainer, batches, 10)  # drop the batches that were decoded ahead meanwhile
            fed = timed(partial(train_on, trainer, batches, steps), device)
            take(batches, 12)
            alone.append(timed(partial(take, batches, 2 * steps), device))
            as_written = values["eager"]["repeated"][-1] if kind != "eager" else repeated
            for name, value in (("repeated", repeated), ("fed", fed), ("ratio", fed / repeated), ("busy", busy)):
                values[kind][name].append(value)
            values[kind]["gain"].append(fed / as_written)
        batches.close()
    return {
        kind: {
            "alone": statistics.median(alone),
            **{name: statistics.median(rounds) for name, rounds in of_kind.items()},
            "ratio_low": min(of_kind["ratio"]),
            "ratio_high": max(of_kind["ratio"]),
        }
        for kind, of_kind in values.items()
    }


def measure_all(args: argparse.Namespace) -> None:
    """Print the figures of every way on one data set, a line each."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = StoredDataset.open(args.runs[0].split(":", 1)[1])
    copies = max(1, 40 * args.batch_size // len(dataset.instances))  # an epoch of a small set would end too soon
    provider = InstanceProvider(dataset, [*dataset.instances] * copies)
    config = ModelConfig(backbone=args.model, weights="none")
    trainers = {
        kind: BenchTrainer(make_network(config, len(dataset.classes)), device, kind != "eager", kind == "fused")
        for kind in (("eager", "graph", "fused") if device.type == "cuda" else ("eager",))
    }
    for way in args.ways:
        if provider.codec != "jpeg" and way != "cpu":
            continue
        try:
            print(f"RESULT {way} {json.dumps(measure(way, provider, trainers, args))}", flush=True)
        except Exception as error:
            print(f"FAILED {way} {str(error)[-300:]!r}", flush=True)


def lines_of(argv: list[str], timeout_seconds: float) -> Iterator[str]:
    """Yield the lines that a process prints; the process and its children are killed after the time-out."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        timer = threading.Timer(timeout_seconds, os.killpg, (child.pid, signal.SIGKILL))
        timer.start()
        assert child.stdout is not None
        try:
            yield from child.stdout
        finally:
            timer.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="SIZE:SHARDS")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--model", default="resnet34.tv_in1k")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--timeout", type=float, default=100, help="seconds for each way")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure_all(args)
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    cores = len(os.sched_getaffinity(0))
    print(f"{where}, {cores} cores, TSN {args.model}, {N_SEGMENTS} frames, batch {args.batch_size}")
    print(
        f"{'px':>4} {'shards':12} {'way':13} {'step':5} {'alone':>7} {'repeated':>8} {'fed':>7} {'fed/repeated':>12}"
        "  (low-high)     fed/eager  busy",
        flush=True,
    )
    for run in args.runs:
        size, shards = run.split(":", 1)
        argv = [sys.executable, __file__, run, "--one", "--ways", *args.ways, "--model", args.model]
        argv += ["--rounds", str(args.rounds), "--batch-size", str(args.batch_size), "--steps", str(args.steps)]
        seen = 0
        for line in lines_of(argv, args.timeout * len(args.ways)):
            word, way, rest = line.rstrip().split(" ", 2)
            head = f"{size:>4} {Path(shards).name:12} {way:13}"
            seen += 1
            if word == "RESULT":
                for kind, f in json.loads(rest).items():
                    print(
                        f"{head} {kind:5} {f['alone']:7.0f} {f['repeated']:8.0f} {f['fed']:7.0f} {f['ratio']:12.3f}"
                        f"  ({f['ratio_low']:.3f}-{f['ratio_high']:.3f})  {f['gain']:9.2f}  {f['busy']:.2f}",
                        flush=True,
                    )
            else:
                print(f"{head} failed: {rest}", flush=True)
        if not seen:
            print(f"{size:>4} {Path(shards).name:12} nothing was measured", flush=True)


if __name__ == "__main__":
    main()
