"""Kill each long command at random moments, by hand: `python tests/kill_long.py [-n 25] [prepare pack train study]`.

A command is started, killed by SIGKILL, alone or with all processes that it started, and started again, until so
many kills were made. Whenever it comes to its end, its results must be those of a run that nobody killed. Prints a
table; the exit status is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from dataset_cases import RunningCommand, digests
from fuzz_cases import digest_of
from fuzz_kinds_runs import plain_tree
from memory_store_cases import contents, has_no_strays
from training_cases import TINY_BACKBONE, comparable, final_network, make_synth_shards, read_metrics, tiny_config

import vclimb
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.transcode.verify import verify

EARLY_SHARE = 0.15  # of the kills, while the command starts
LONGEST_SECONDS = 600
STUDY = f"""
name = "four"

[base]
scenario.tasks = 2
model = {{ backbone = "{TINY_BACKBONE}", weights = "none", clip_frames = 2, size = 32 }}
training = {{ epochs = 2, batch_size = 8 }}
compute = {{ device = "cpu", decoder = "cpu", workers = 0, checkpoint_seconds = 0 }}

[[cells]]
method = "naive"
frames = 1
budget = "30kB"

[[cells]]
method = "finetune"

[axes]
seed = [0, 1]
"""


@dataclass(frozen=True)
class Target:
    """A command that is killed.

    Attributes:
        arguments: Arguments of the command that makes, or goes on with, a result.
        result: Reads the whole result; equal values mean equal results.
        check: Fails where what a killed command left can't be read.
        is_whole: Whether the result is there, although the command was killed, and the command takes no other call.
    """

    name: str
    arguments: Callable[[Path], list[str | Path]]
    result: Callable[[Path], object]
    check: Callable[[Path], None]
    is_whole: Callable[[Path], bool] = lambda _: False


@dataclass
class Figures:
    """What came of the kills of a command. `faults` says what was lost, one line each."""

    name: str
    kills: int = 0
    early: int = 0
    alone: int = 0
    ends: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def state_of(out: Path) -> object:
    """Describe the files below a folder, so that any change of them shows."""
    found = []
    for path in out.rglob("*"):
        with suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(found), out.exists()


def started(target: Target, out: Path) -> tuple[RunningCommand, float]:
    """Start a command, and wait until it has changed a file or ended. Returns it and the seconds that this took."""
    before, start = state_of(out), time.monotonic()
    run = RunningCommand(*target.arguments(out))
    run.wait_until(lambda: state_of(out) != before, LONGEST_SECONDS)
    return run, time.monotonic() - start


def ended(run: RunningCommand) -> str:
    """Wait for the end of a command. Returns its error, or an empty text."""
    _, stderr = run.process.communicate(timeout=LONGEST_SECONDS)
    return "" if run.process.returncode == 0 else f"exit status {run.process.returncode}: {stderr[-2000:]}"


def killed_again_and_again(target: Target, place: Path, n_kills: int, dice: random.Random) -> Figures:
    figures, begin = Figures(target.name), time.monotonic()
    reference, out = place / "undisturbed" / "out", place / "killed" / "out"
    for path in (reference, out):
        path.parent.mkdir(parents=True)
    run, starting = started(target, reference)
    work_begins = time.monotonic()
    if error := ended(run):
        raise RuntimeError(f"{target.name} fails without a kill: {error}")
    working = time.monotonic() - work_begins
    expected = target.result(reference)

    def finish(run: RunningCommand | None) -> None:
        error = "" if run is None else ended(run)
        figures.ends += 1
        if error or target.result(out) != expected:
            figures.faults.append(error or f"another result after {figures.kills} kills")
            shutil.move(out, place / f"lost-{len(figures.faults)}")
        shutil.rmtree(out, ignore_errors=True)

    while figures.kills < n_kills:
        is_early = dice.random() < EARLY_SHARE
        if is_early:
            run = RunningCommand(*target.arguments(out))
            time.sleep(dice.uniform(0, starting))
        else:
            run, _ = started(target, out)
            time.sleep(dice.uniform(0, working))
        if run.process.poll() is not None:
            finish(run)
            continue
        is_alone = dice.random() < 0.5
        for process in [run.process] if is_alone else run.family():
            with suppress(psutil.Error):
                process.kill()
        run.process.communicate(timeout=LONGEST_SECONDS)
        if run.process.returncode != -signal.SIGKILL:
            continue
        figures.kills += 1
        figures.early += is_early
        figures.alone += is_alone
        if left := run.wait_until_alone(LONGEST_SECONDS):
            figures.faults.append(f"still running after the kill: {left}")
        try:
            target.check(out)
        except Exception as error:  # whatever it is, it is a fault of the command that was killed
            figures.faults.append(f"after kill {figures.kills}: {type(error).__name__}: {error}")
        if target.is_whole(out):
            finish(None)
    finish(RunningCommand(*target.arguments(out)))
    figures.seconds = time.monotonic() - begin
    return figures


def check_prepared(out: Path) -> None:
    """A data set that is there opens, and what is listed there is sound."""
    if (out / "dataset.json").exists():
        vclimb.open(out)
        problems = verify(out, workers=1, progress=False).problems
        assert problems == [], problems[:3]


def check_memory(out: Path) -> None:
    """A memory that is there reads wholly."""
    if (out / "zarr.json").exists():
        memory = MemoryStore.open(out)
        contents(memory)
        assert list(memory.verify()) == []


def is_packed(out: Path) -> bool:
    return (out / "zarr.json").exists() and len(MemoryStore.open(out)) > 0


def memory_result(out: Path) -> object:
    assert has_no_strays(out)
    return contents(MemoryStore.open(out))


def run_result(run: Path) -> object:
    return json.dumps(comparable(read_metrics(run)), sort_keys=True), digest_of(*plain_tree(final_network(run)))


def check_run(run: Path) -> None:
    """A run that is there loads."""
    if (run / "config.toml").exists():
        loaded = vclimb.Run.load(run)
        _ = loaded.config, loaded.metrics, loaded.events
        if (run / "memory.zarr").exists():
            check_memory(run / "memory.zarr")


def check_study(out: Path) -> None:
    for run in sorted(out.glob("runs/*")):
        check_run(run)


def study_result(out: Path) -> object:
    return {run.name: run_result(run) for run in sorted(out.glob("runs/*"))}


def targets_of(place: Path) -> list[Target]:
    """Make the inputs of all commands."""
    shards = make_synth_shards(place)
    settings, study = place / "settings.toml", place / "four.toml"
    config = tiny_config(shards, "bic", "training.epochs=2", "consistency.weight=0.5", "compute.checkpoint_seconds=0")
    settings.write_text(config.to_toml(), "utf-8")
    study.write_text(STUDY, "utf-8")
    pack = ("--budget", "1MB", "--frames", "8", "--codec", "h264:24", "--quality")

    def train(out: Path) -> list[str | Path]:
        resume = ["--resume"] if (out / "config.toml").exists() else []
        return ["train", "--config", settings, "--out", out, *resume]

    prepare = ("prepare", place / "videos", "--short-side", "48", "--shard-size", "100kB", "--workers", "2", "--out")
    return [
        Target("prepare", lambda out: [*prepare, out], digests, check_prepared),
        Target(
            "pack", lambda out: ["memory", "pack", shards, "--out", out, *pack], memory_result, check_memory, is_packed
        ),
        Target("train", train, run_result, check_run),
        Target(
            "study",
            lambda out: ["study", "run", study, "--data", shards, "--out", out, "--jobs", "2"],
            study_result,
            check_study,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="commands to kill; none: all")
    parser.add_argument("-n", type=int, default=25, help="number of kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place, rows = Path(folder), []
        for target in targets_of(place):
            if not arguments.names or target.name in arguments.names:
                dice = random.Random(f"{target.name} {arguments.seed}")
                rows.append(killed_again_and_again(target, place / target.name, arguments.n, dice))
                print(rows[-1], file=sys.stderr, flush=True)
    print(f"{'command':<8} kills while-starting main-process-alone ends-compared lost seconds")
    for row in rows:
        print(f"{row.name:<8} {row.kills:>5} {row.early:>14} {row.alone:>18} {row.ends:>13} ", end="")
        print(f"{len(row.faults):>4} {row.seconds:>7.0f}", *row.faults, sep="\n    ")
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
