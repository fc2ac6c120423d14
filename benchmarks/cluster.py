"""Prepare on Ray against the local executor, and what binds on a large cluster.

    python benchmarks/cluster.py [--classes 16] [--train 12] [--rounds 3] [--workers 2]
    python benchmarks/cluster.py --simulate

The first command draws videos and prepares them in alternating rounds by the local executor and by Ray, with the same
number of processes on this machine. Both are warm: a round before isn't counted. Prints seconds and their ratio.

`--simulate` also measures how long the shards of these videos take in one process, what Ray costs the driver for each
task, and what the driver spends on 10,000 and 100,000 made-up videos (`benchmarks/cluster_driver.py`). From these it
simulates 1,000 nodes of 16 cores, of which 1 % fail in an hour, with 1 and 10 million videos in shards of 100.
The driver's figures are CPU seconds; the slope from 10,000 to 100,000 videos is extended to more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from cluster_driver import FRAMES, made_up_record
from cluster_simulation import Cluster, simulate

import vclimb
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.sources.table import Instance, SourceVideo
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.ray_cluster import RayTasks
from vclimb.pipeline.transcode.executors.executor import MapExecutor
from vclimb.pipeline.transcode.executors.ray import RayExecutor
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.plan import PlannedShard, PlannedVideo
from vclimb.pipeline.transcode.probe import Probe

VIDEOS_PER_TASK = 100
SIZES = (10_000, 100_000)
# A small parallel file system: what it reads and writes together, and the files that it creates and removes.
STORAGE_BYTES_PER_SECOND, STORAGE_FILES_PER_SECOND = 10e9, 50_000
# A video is read by ffmpeg and for its hash. Its result is written as a part and into the tar, and read to verify it,
# for two hashes and to copy it. The part's three files are created and removed, and a draft is renamed twice.
SOURCE_READS, RESULT_READS_AND_WRITES, FILES_PER_VIDEO = 2, 6, 8


class Timed(MapExecutor):
    """One process, which notes the seconds for each video of a shard."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seconds: list[float] = []

    def map(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterator[Any]:
        for argument in arguments:
            start = time.perf_counter()
            result = function(argument)
            if isinstance(argument, ShardJob):
                self.seconds.append((time.perf_counter() - start) / len(argument.shard.videos))
            yield result


def seconds_of(source: Path, out: Path, shard_bytes: int, **options: Any) -> tuple[float, vclimb.Dataset]:
    start = time.perf_counter()
    made = vclimb.prepare(source, out, shard_size=shard_bytes, progress=False, **options)
    return time.perf_counter() - start, made


def compare(source: Path, scratch: Path, shard_bytes: int, rounds: int, workers: int) -> None:
    """Prepare in turn by both executors, and print the ratio of their times."""
    times: dict[str, list[float]] = {"local": [], "ray": []}
    for number in range(rounds + 1):
        for name, seconds in times.items():
            out = scratch / "data"
            taken, made = seconds_of(source, out, shard_bytes, executor=name, workers=workers)
            assert made.summary is not None
            shutil.rmtree(out)
            if number:
                seconds.append(taken)
        if number:
            local, on_ray = times["local"][-1], times["ray"][-1]
            print(f"round {number}: local {local:.2f} s, ray {on_ray:.2f} s, ratio {on_ray / local:.3f}", flush=True)
    ratio = statistics.median(b / a for a, b in zip(times["local"], times["ray"], strict=True))
    videos, shards = made.summary.prepared, len(made.catalog.shards)
    print(
        f"{videos} videos in {shards} shards, {workers} processes: ray / local {ratio:.3f} (median of {rounds}), "
        f"{videos / statistics.median(times['local']):.1f} and {videos / statistics.median(times['ray']):.1f} videos/s"
    )


def made_up_job(number: int) -> ShardJob:
    probe = Probe(0, "h264", 340, 256, FRAMES, 10.0, 10.0, Fraction(25), True, False, False, 900_000, 1_700_000_000_000)
    names = [f"class{number % 400:03d}/video_{number:06d}_{i:06d}" for i in range(VIDEOS_PER_TASK)]
    videos = [SourceVideo(f"{name}.mp4", name, (Instance(name.partition("/")[0]),)) for name in names]
    shard = PlannedShard(number, tuple(PlannedVideo(video, probe) for video in videos))
    here = Path("/nowhere")
    return ShardJob(shard, f"data-{number:06d}", here, here, here, here, EncodeSettings(quality=5), "ffmpeg", None)


def probe_results(number: int) -> list[tuple[int, Probe]]:
    return [(i, made_up_job(number).shard.videos[0].probe) for i in range(64)]


def ray_seconds(ray: Any, function: Callable[..., Any], arguments: list[Any]) -> float:
    """Driver's CPU seconds for a task that does no work but to make up its result."""
    remote = ray.remote(num_cpus=1)(function)
    list(RayTasks(ray, remote, [(0, (arguments[0],))], 4).results())
    start = time.process_time()
    for _ in RayTasks(ray, remote, list(enumerate((argument,) for argument in arguments)), 64).results():
        pass
    return (time.process_time() - start) / len(arguments)


def driver_costs(scratch: Path) -> dict[str, tuple[float, float]]:
    """Microseconds of the driver for a video, and kilobytes of memory after it, by step, from the slope.

    The last step, `peak`, is the most memory that the process had.
    """
    results = []
    for n_videos in SIZES:
        argv = [sys.executable, str(Path(__file__).with_name("cluster_driver.py")), str(scratch / str(n_videos))]
        results.append(json.loads(subprocess.check_output([*argv, str(n_videos)])))
    few, many = results
    between = SIZES[1] - SIZES[0]
    costs = {
        step: (
            1e6 * (many["seconds"][step] - few["seconds"][step]) / between,
            1e3 * (many["mb"][step] - few["mb"][step]) / between,
        )
        for step in many["seconds"]
    }
    return {**costs, "peak": (0.0, 1e3 * (many["peak_mb"] - few["peak_mb"]) / between)}


def simulated(ray: Any, source: Path, scratch: Path, shard_bytes: int) -> None:
    """Measure what a run costs the driver and the workers, and simulate a large cluster."""
    timed = Timed()
    _, made = seconds_of(source, scratch / "timed", shard_bytes, executor=timed)
    totals = made.catalog.totals()
    video_seconds = statistics.mean(timed.seconds)
    print(
        f"\nworkers: {1e3 * video_seconds:.0f} ms a video in one process "
        f"({1e3 * min(timed.seconds):.0f} to {1e3 * max(timed.seconds):.0f} ms by shard of {len(timed.seconds)})"
    )
    costs = driver_costs(scratch)
    tasks = [made_up_job(number) for number in range(200)]
    on_task = 1e6 * ray_seconds(ray, made_up_record, tasks) / VIDEOS_PER_TASK
    on_probes = 1e6 * ray_seconds(ray, probe_results, list(range(200))) / 64
    print(
        f"\n{'driver: step':38} {'us a video':>10} {'videos/s':>10} {'1 M':>8} {'10 M':>8}   memory after, kB a video"
    )
    written = costs.pop("write records (workers)")[0]
    steps = {
        "table of the source": costs["table of the source"],
        "probes by Ray": (on_probes, costs["plan"][1]),
        "probes to disk, plan": costs["plan"],
        "tasks and records by Ray": (on_task, costs["progress and results"][1]),
        "jobs from the plan, progress": costs["progress and results"],
        "catalog": costs["collect and write the catalog"],
        "open the data set": costs["open the data set"],
    }
    for name, (spent, memory) in steps.items():
        print(f"{name:38} {spent:10.1f} {1e6 / spent:10,.0f} {spent:6.0f} s {10 * spent:6.0f} s {memory:10.2f}")
    print(f"memory at most {costs['peak'][1]:.2f} kB a video; the workers write a record in {written:.1f} us a video")
    making = steps["tasks and records by Ray"][0] + steps["jobs from the plan, progress"][0]
    phases = {
        "planning": sum(steps[n][0] for n in ("table of the source", "probes by Ray", "probes to disk, plan")),
        "catalog": steps["catalog"][0] + steps["open the data set"][0],
    }
    n_videos = totals["videos"]
    moved = SOURCE_READS * totals["source_bytes"] / n_videos + RESULT_READS_AND_WRITES * totals["bytes"] / n_videos
    cluster = Cluster()
    print(f"\n{cluster}")
    lengths = [VIDEOS_PER_TASK * seconds for seconds in timed.seconds]
    for name, factor in (("these videos", 1.0), ("videos that take 20 times as long", 20.0)):
        bounds = {
            "driver": 1e6 / making,
            "cores": cluster.nodes * cluster.cores / (factor * video_seconds),
            "bytes of the storage": STORAGE_BYTES_PER_SECOND / (factor * moved),
            "files of the storage": STORAGE_FILES_PER_SECOND / FILES_PER_VIDEO,
        }
        print(f"{name}: " + ", ".join(f"{what} {rate:,.0f}" for what, rate in bounds.items()) + " videos/s")
        for n in (10**6, 10**7):
            tasks_of = n // VIDEOS_PER_TASK
            result = simulate(
                tasks_of, [factor * length for length in lengths], making * VIDEOS_PER_TASK / 1e6, cluster
            )
            spent = {what: n * cost / 1e6 for what, cost in phases.items()}
            print(
                f"  {n:>10,} videos: planning {spent['planning']:.0f} s, shards {result.seconds:.0f} s "
                f"({n / result.seconds:,.0f} videos/s, driver busy {result.driver_share:.2f}, cores "
                f"{result.worker_share:.2f}, {result.lost_tasks} tasks lost), catalog {spent['catalog']:.0f} s"
            )
        print(f"  what binds the shards first: {min(bounds, key=lambda what: bounds[what])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--train", type=int, default=12, help="Videos of a class.")
    parser.add_argument("--shard-bytes", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--simulate", action="store_true")
    args = parser.parse_args()
    # The nodes import the vclimb of this process, and its workers have the priority of the local ones.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(vclimb.__file__).parents[1]), str(Path(__file__).parent)])
    os.environ.update(RAY_worker_niceness="0")
    scratch = Path(tempfile.mkdtemp(prefix="vclimb-bench-"))
    try:
        source = scratch / "videos"
        vclimb.synth(source, classes=args.classes, train=args.train, test=1, progress=False)
        import ray

        ray.init(address="local", num_cpus=args.workers, include_dashboard=False, log_to_driver=False)
        assert RayExecutor.has_nodes
        compare(source, scratch, args.shard_bytes, args.rounds, args.workers)
        if args.simulate:
            simulated(ray, source, scratch, args.shard_bytes)
        ray.shutdown()
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
