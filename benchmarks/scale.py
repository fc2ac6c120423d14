"""What the steps that grow with the data set take: CPU seconds and memory at several sizes, and their slopes.

    python benchmarks/scale.py FOLDER [--videos 10000 100000 1000000] [--steps open match ...] [--times 1]

FOLDER receives the catalogs and scenarios of made-up data sets, which later runs use again; no video exists. Each step
runs in a process of its own, after what it needs. Its seconds are those of the step alone; those of the process count
the imports and what the step needs too. Its memory is the greatest resident size of that process while it runs. A
slope is the exponent by which the step's seconds grow from one size to the next: 1 is linear. The last row is what
ten times the largest size would take by the last slope.

A further step is one function in `STEPS`: given the folder of a data set, it prepares, and returns what is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from scale_metadata import JSON, PICKLE, VIDEOS_PER_SHARD, make_metadata
from scale_prepare import list_source, plan_run, resume_plan, verify_shards, write_catalog

from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.columns import StoredInstances
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.scenario import MatchedScenario, Scenario, ScenarioReport, match

SIZES = (10_000, 100_000, 1_000_000)
Measured = Callable[[], object]
"""What is measured. It may return a number of bytes, which are printed in MB."""


def open_dataset(folder: Path) -> Measured:
    return lambda: void(StoredDataset.open(folder))


def scenario_from_dataset(folder: Path) -> Measured:
    dataset = StoredDataset.open(folder)
    return lambda: void(Scenario.from_dataset(dataset, tasks=10))


def scenario_from_json(folder: Path) -> Measured:
    return lambda: void(Scenario.open(folder / JSON))


def scenario_from_pickle(folder: Path) -> Measured:
    return lambda: void(Scenario.open(folder / PICKLE))


def save_scenario(folder: Path) -> Measured:
    scenario = Scenario.open(folder / JSON)
    return lambda: scenario.save(folder / "saved.json")


def match_scenario(folder: Path) -> Measured:
    dataset, scenario = StoredDataset.open(folder), Scenario.open(folder / JSON)
    return lambda: void(match(scenario, dataset))


def digest_of_match(folder: Path) -> Measured:
    dataset, matched = _matched(folder)
    return lambda: void(matched.digest(dataset))


def report_scenario(folder: Path) -> Measured:
    dataset, scenario = StoredDataset.open(folder), Scenario.open(folder / JSON)
    return lambda: void(ScenarioReport.of(scenario, dataset).to_json())


def make_provider(folder: Path) -> Measured:
    dataset, matched = _matched(folder)
    return lambda: void(_provider(dataset, matched))


def send_to_worker(folder: Path) -> Measured:
    reader = ClipReader(_provider(*_matched(folder)), StreamSettings())

    def measured() -> int:
        sent = bytes(ForkingPickler.dumps(reader))
        pickle.loads(sent)
        return len(sent)

    return measured


STEPS: dict[str, Callable[[Path], Measured]] = {
    "open": open_dataset,
    "scenario from data set": scenario_from_dataset,
    "scenario from JSON": scenario_from_json,
    "scenario from task file": scenario_from_pickle,
    "save scenario": save_scenario,
    "match": match_scenario,
    "digest of match": digest_of_match,
    "report": report_scenario,
    "provider of all instances": make_provider,
    "send provider to a worker": send_to_worker,
    "list a source": list_source,
    "plan": plan_run,
    "go on with a plan": resume_plan,
    "write catalog": write_catalog,
    "verify": verify_shards,
}


def void(_: object) -> None:
    """Drop a result, as part of what is measured."""


def _matched(folder: Path) -> tuple[StoredDataset, MatchedScenario]:
    dataset = StoredDataset.open(folder)
    return dataset, match(Scenario.open(folder / JSON), dataset)


def _provider(dataset: StoredDataset, matched: MatchedScenario) -> InstanceProvider:
    """The training instances of all tasks, as a run takes them that trains on all data so far."""
    instances = StoredInstances.joined([task.train for task in matched.tasks])
    return InstanceProvider(dataset, instances, matched.label_ids)


def peak_bytes() -> int:
    """The greatest resident size of this process since it was last reset. (Another process' may be inherited.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_step(name: str, folder: Path) -> None:
    """Run a step, in a process of its own, and print its figures as JSON."""
    measured = STEPS[name](folder)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the greatest size so far
    start, wall = cpu_seconds(), time.perf_counter()
    result = measured()
    seconds, wall = cpu_seconds() - start, time.perf_counter() - wall
    figures = {"seconds": seconds, "process": cpu_seconds(), "wall": wall, "mb": peak_bytes() / 1e6}
    print(json.dumps(figures | ({"result_mb": result / 1e6} if isinstance(result, int) else {})))


def measure(name: str, folder: Path, times: int) -> dict[str, float]:
    """Run a step in new processes, and return the medians of its figures."""
    command = [sys.executable, __file__, str(folder), "--run", name]
    runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(times)]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def print_step(name: str, figures: dict[int, dict[str, float]]) -> None:
    """Print a step's figures at each size, its slopes, and what they give for ten times the largest size."""
    slope, before = math.nan, None
    for n_videos, at_size in figures.items():
        if before is not None:
            growth = at_size["seconds"] / figures[before]["seconds"]
            slope = math.log(growth) / math.log(n_videos / before)
        shown = "" if math.isnan(slope) else f"{slope:.2f}"
        result = f"{at_size['result_mb']:,.1f} MB" if "result_mb" in at_size else ""
        spent = f"{at_size['seconds']:>10.2f}{at_size['process']:>10.2f}"
        print(f"{name:<28}{n_videos:>12,}{spent}{at_size['mb']:>9,.0f}{shown:>8}  {result}", flush=True)
        before = n_videos
    if before is not None and not math.isnan(slope):
        seconds, mb = figures[before]["seconds"] * 10**slope, figures[before]["mb"] * 10
        print(f"{name:<28}{10 * before:>12,}{seconds:>10.1f}{'':>10}{mb:>9,.0f}{'':>8}  on paper", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, nargs="+", default=SIZES, help="numbers of videos")
    parser.add_argument("--steps", nargs="+", default=STEPS, help="beginnings of the steps' names")
    parser.add_argument("--times", type=int, default=1, help="runs of each step, of which the median is printed")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run_step(args.run, args.folder)
        return
    for n_videos in args.videos:
        if not (args.folder / str(n_videos)).is_dir():
            make_metadata(args.folder / str(n_videos), n_videos)
    print(f"{VIDEOS_PER_SHARD} videos a shard; CPU seconds, greatest resident size in MB")
    print(f"{'step':<28}{'videos':>12}{'seconds':>10}{'process':>10}{'MB':>9}{'slope':>8}")
    for name in STEPS:
        if any(name.startswith(wanted) for wanted in args.steps):
            sizes = sorted(args.videos)
            print_step(name, {n_videos: measure(name, args.folder / str(n_videos), args.times) for n_videos in sizes})


if __name__ == "__main__":
    main()
