"""Experiments on why a model trains more slowly while clips are decoded beside it.

    python benchmarks/contention.py SHARDS [--size 112] [--ways dali-cpu cpu] [--batch-size 64] [--rounds 3]

The model trains on one batch that lies on the GPU, so that it never waits for data. Printed is its speed beside each
activity, as a share of its speed beside nothing:

    copies          with every step, a batch is copied from pinned memory to the GPU
    lock            a thread of this process computes in Python for a tenth of the time, 0.5 ms in every 5
    WAY here        with every step, a batch is taken from a stream of this process, and dropped
    WAY elsewhere   the same stream in another process, on the same cores and GPU, at the same rate: the same decoding,
                    but no effect on the interpreter's lock and the training thread
    WAY, 0.1 ms     as `here`, with an interpreter lock that switches threads after 0.1 ms rather than 5
    graphed         the step is one CUDA graph, so that the training thread launches no kernels
    graphed, WAY    the same, and with every step a batch is taken from the stream and trained on

Before that: the time in which the thread launches a step, beside the GPU's time for the step as a graph. Where the
first is longer, launching limits training, and whatever delays the thread delays training.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from stream import WAYS, open_way

from vclimb.benchmark.throughput import BenchTrainer, endless, synchronise, timed
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_stream import ClipStream

Step = Callable[[], None]


class GraphedTrainer(BenchTrainer):
    """A trainer that replays its steps as one CUDA graph; all batches have the shape of the first."""

    def capture(self, frames: torch.Tensor, labels: torch.Tensor) -> None:
        """Record a step."""
        self._frames, self._labels = frames.clone(), labels.clone()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self.step(self._frames, self._labels)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.step(self._frames, self._labels)

    def replay(self, frames: torch.Tensor, labels: torch.Tensor) -> None:
        """Train one step on a batch."""
        self._frames.copy_(frames)
        self._labels.copy_(labels)
        self._graph.replay()


def open_stream_of(way: str, shards: str, size: int, batch_size: int, device: torch.device) -> ClipStream:
    """Open the stream of a way of decoding, over a data set repeated to a sufficient length."""
    dataset = StoredDataset.open(shards)
    copies = max(1, 40 * batch_size // len(dataset.instances))
    settings = StreamSettings(batch_size, (View(),), Augmentation(size=size), drop_last=True, across_epochs=True)
    return open_way(way, InstanceProvider(dataset, [*dataset.instances] * copies), settings, device)


def decode_elsewhere(opened: tuple[Any, ...], running: Any, pace: Any, ready: Any) -> None:
    """Take batches at `pace` clips a second while `running` is set, and drop them. Runs in another process."""
    with open_stream_of(*opened) as stream:
        batches = endless(stream)
        next(batches)
        ready.set()
        while True:
            running.wait()
            next_seconds = time.perf_counter()
            while running.is_set():
                next(batches)
                next_seconds = max(next_seconds + opened[3] / pace.value, time.perf_counter() - 0.1)
                time.sleep(max(0.0, next_seconds - time.perf_counter()))


class Elsewhere:
    """A stream in another process."""

    def __init__(self, *opened: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._running, self._pace, self._ready = context.Event(), context.Value("d", 1.0), context.Event()
        arguments = (opened, self._running, self._pace, self._ready)
        self._process = context.Process(target=decode_elsewhere, args=arguments)
        self._process.start()

    def wait(self) -> None:
        if not self._ready.wait(60):
            raise TimeoutError("the other process has no batch after 60 s")

    @contextlib.contextmanager
    def at(self, clips_per_second: float) -> Iterator[None]:
        """Decode at a rate within the block."""
        self._pace.value = clips_per_second
        self._running.set()
        time.sleep(0.1)
        yield
        self._running.clear()
        time.sleep(0.1)

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


@contextlib.contextmanager
def lock_taken(share: float = 0.1, period_seconds: float = 0.005) -> Iterator[None]:
    """Run a thread that computes in Python for a share of the time, within the block."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            end = time.thread_time() + share * period_seconds
            while time.thread_time() < end:
                pass
            time.sleep((1 - share) * period_seconds)

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextlib.contextmanager
def switching_every(seconds: float) -> Iterator[None]:
    """Set the interval after which the interpreter's lock switches threads, within the block."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    yield
    sys.setswitchinterval(before)


def seconds_thread_mss() -> dict[str, float]:
    """Processor time in seconds of each Python thread of this process so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = {}
    for thread in threading.enumerate():
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread.native_id}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
            seconds[thread.name] = (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def launch_and_gpu_ms(trainer: GraphedTrainer, frames: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Measure milliseconds to launch a step, by a thread ahead of the GPU, and to run its graph."""
    launching, replaying = [], []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        trainer.step(frames, labels)
        launching.append(time.perf_counter() - start)
        torch.cuda.synchronize()
        start = time.perf_counter()
        trainer.replay(frames, labels)
        torch.cuda.synchronize()
        replaying.append(time.perf_counter() - start)
    return 1e3 * statistics.median(launching), 1e3 * statistics.median(replaying)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["dali-cpu", "cpu"])
    parser.add_argument("--model", default="resnet34.tv_in1k")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    has_gpu = device.type == "cuda"
    where = torch.cuda.get_device_name() if has_gpu else "CPU"
    print(f"{where}, {len(os.sched_getaffinity(0))} cores, {args.model}, {args.size} px, batch {args.batch_size}")

    opened = {way: (way, args.shards, args.size, args.batch_size, device) for way in args.ways}
    elsewhere = {way: Elsewhere(*opened[way]) for way in args.ways}
    with contextlib.ExitStack() as stack:
        for process in elsewhere.values():
            stack.callback(process.close)
        trainer = GraphedTrainer(make_network(ModelConfig(backbone=args.model, weights="none"), 21), device)
        shape = (args.batch_size, 8, args.size, args.size, 3)
        frames = torch.zeros(shape, dtype=torch.uint8, device=device).permute(0, 1, 4, 2, 3)
        labels = torch.zeros(args.batch_size, dtype=torch.long, device=device)
        pinned = frames.cpu().pin_memory() if has_gpu else frames
        copying = torch.cuda.Stream() if has_gpu else None
        for _ in range(5):
            trainer.step(frames, labels)
        is_graphed = False
        if has_gpu:
            try:
                trainer.capture(frames, labels)
                launched, on_gpu = launch_and_gpu_ms(trainer, frames, labels)
                print(f"launching a step takes {launched:.1f} ms; the GPU runs its graph in {on_gpu:.1f} ms")
                is_graphed = True
            except RuntimeError as error:
                print(f"no graph: {str(error)[:300]}", flush=True)
        streams = {way: endless(stack.enter_context(open_stream_of(*opened[way]))) for way in args.ways}
        for way in args.ways:
            next(streams[way])
            elsewhere[way].wait()

        def rate(step: Step) -> float:
            step(), step()

            def work() -> int:
                for _ in range(args.steps):
                    step()
                return args.steps * args.batch_size

            return timed(work, device)

        def train() -> None:
            trainer.step(frames, labels)

        def train_and_copy() -> None:
            with torch.cuda.stream(copying):
                pinned.to(device, non_blocking=True)
            train()

        def train_and_take(way: str) -> Step:
            def step() -> None:
                next(streams[way])
                train()

            return step

        def replay() -> None:
            trainer.replay(frames, labels)

        def replay_fed(way: str) -> Step:
            def step() -> None:
                taken = next(streams[way])
                trainer.replay(taken.frames, taken.labels)

            return step

        rates: dict[str, list[float]] = {}
        thread_ms: list[float] = []

        def note(name: str, clips_per_second: float) -> float:
            rates.setdefault(name, []).append(clips_per_second)
            return clips_per_second

        for _ in range(args.rounds):
            note("nothing", rate(train))
            if has_gpu:
                note("copies", rate(train_and_copy))
            with lock_taken():
                note("lock", rate(train))
            for way in args.ways:
                for _ in range(10):  # drop the batches that were decoded ahead meanwhile
                    next(streams[way])
                before = seconds_thread_mss().get("dali", 0.0)
                pace = note(f"{way} here", rate(train_and_take(way)))
                if way.startswith("dali"):
                    thread_ms.append(1e3 * (seconds_thread_mss()["dali"] - before) / (args.steps + 2))
                with elsewhere[way].at(pace):
                    note(f"{way} elsewhere", rate(train))
                with switching_every(1e-4):
                    note(f"{way}, 0.1 ms", rate(train_and_take(way)))
            if is_graphed:
                note("graphed", rate(replay))
                for way in args.ways:
                    note(f"graphed, {way}", rate(replay_fed(way)))
        for name, values in rates.items():
            reference = rates["graphed" if name.startswith("graphed,") else "nothing"]
            shares = [a / b for a, b in zip(values, reference, strict=True)]
            print(
                f"{name:20} {statistics.median(values):7.0f} clips/s  {statistics.median(shares):.3f}"
                f" ({min(shares):.3f}-{max(shares):.3f})",
                flush=True,
            )
        if thread_ms:
            print(f"the thread that feeds DALI computes {statistics.median(thread_ms):.1f} ms a batch")
        synchronise(device)


if __name__ == "__main__":
    main()
