"""Make the table of results: every method, with and without temporal consistency, over seeds, several runs at a time.

    python benchmarks/results.py shards/jhmdb21 --weights tf_efficientnet_lite0_in1k.safetensors --out runs/results
    python benchmarks/results.py --out runs/results --table        # tabulate the existing runs

Each run is a `vclimb train` command with its own folder; a complete run is not repeated. The seed of a run also fixes
its order of classes, so that the spread includes both.
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
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FROZEN = {"ncm": "nearest-mean", "slda": "discriminant", "ridge": "ridge"}
"""Row -> head of method `analytic` on the frozen network."""
REPLAY = ("naive", "icarl", "bic", "er-ace", "wa", "der++", "gdumb", "features")
METHODS = (*FROZEN, "finetune", "ewc", "mas", "lwf", *REPLAY, "joint")
REGULARISED = ("ewc", "mas")
NME = "nearest_mean"  # the classifier that every method with a memory has beside its own
CONSISTENCY = (0.0, 0.5)
COMMON = (
    "model.backbone=tf_efficientnet_lite0.in1k",
    "model.clip_frames=8",
    "model.size=112",
    "training.batch_size=32",
    "compute.decoder=cpu",
    "compute.forward_transfer=false",
)
SLOWEST_FIRST = (
    "joint",
    "icarl",
    "bic",
    "wa",
    "er-ace",
    "der++",
    "naive",
    "mas",
    "ewc",
    "lwf",
    "finetune",
    "gdumb",
    "features",
    *FROZEN,
)


@dataclass(frozen=True)
class Cell:
    """A run: the name of its folder, and its settings besides the common ones."""

    name: str
    settings: tuple[str, ...]


def cell(options: argparse.Namespace, method: str, consistency: float, seed: int, *more: str, tag: str = "") -> Cell:
    settings = [
        f"method.name={'analytic' if method in FROZEN else method}",
        f"consistency.weight={consistency}",
        f"seed={seed}",
        f"scenario.seed={seed}",
        f"scenario.tasks={options.tasks}",
        f"training.epochs={options.epochs}",
        f"training.learning_rate={options.learning_rate}",
    ]
    if method in FROZEN:
        settings += [f"method.head={FROZEN[method]}"]
    if method in REPLAY:
        settings += [f"memory.budget={options.budget}", "memory.frames=8"]
    if method == "joint":  # as many steps in all as the other methods; restarted networks end with a loss of 0.7
        settings += ["method.restart=false"]
    if method in REGULARISED:
        strength = options.ewc if method == "ewc" else options.mas
        settings += [f"method.strength={strength:g}"]
        if options.adagrad:
            settings += ["training.optimizer=adagrad", f"training.learning_rate={options.adagrad}"]
    return Cell(_name(f"{method}{tag}", consistency, seed), (*settings, *more))


def _name(method: str, consistency: float, seed: int) -> str:
    return f"{method}{'+tc' if consistency else ''}-s{seed}"


def table_cells(options: argparse.Namespace) -> list[Cell]:
    """List the cells without temporal consistency first, then by seed, then slow methods first."""
    return [
        cell(options, method, consistency, seed)
        for consistency, seed, method in itertools.product(CONSISTENCY, options.seeds, SLOWEST_FIRST)
        if method in options.methods
        and not (consistency and method in (*FROZEN, "features"))  # a frozen network has no loss
        if not options.only or _name(method, consistency, seed) in options.only
    ]


def tuning_cells(options: argparse.Namespace) -> list[Cell]:
    """List cells for tuning learning rates and the strengths of EWC and MAS, on another order of classes."""
    seed, cells = 100, []
    for rate in (0.003, 0.01, 0.03):
        for method in ("joint", "icarl", "naive"):
            cells.append(cell(options, method, 0.0, seed, f"training.learning_rate={rate}", tag=f"-lr{rate:g}"))
    for method, strengths in (("ewc", (3e2, 3e3, 3e4, 3e5)), ("mas", (3e0, 3e2, 3e3, 3e5))):
        for strength in strengths:
            cells.append(cell(options, method, 0.0, seed, f"method.strength={strength:g}", tag=f"-l{strength:g}"))
    return cells


class Runs:
    """Runs side by side, each in a process; GPUs are assigned in turn.

    Args:
        options: Options of this program.
        until: Time of `time.monotonic` at which runs are killed.
    """

    def __init__(self, options: argparse.Namespace, until: float) -> None:
        self._options, self._until = options, until
        self._running: dict[int, tuple[subprocess.Popen[bytes], Cell, float]] = {}
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def all(self, cells: Sequence[Cell]) -> None:
        waiting = [cell for cell in cells if not _complete(self._options.out / cell.name)]
        while (waiting or self._running) and time.monotonic() < self._until:
            for slot in range(self._options.jobs):
                if slot not in self._running and waiting:
                    cell = waiting.pop(0)
                    self._running[slot] = (self._start(cell, slot), cell, time.monotonic())
            time.sleep(0.2)
            self._reap()
        for process, _, _ in self._running.values():
            process.send_signal(signal.SIGKILL)
        for process, cell, _ in self._running.values():
            process.wait()
            self.failed.append(f"{cell.name} (out of time)")
        self.failed += [f"{cell.name} (not started)" for cell in waiting]
        self._running.clear()

    def _start(self, cell: Cell, slot: int) -> subprocess.Popen[bytes]:
        options, folder = self._options, self._options.out / cell.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        settings = (*COMMON, f"model.weights={options.weights}", f"compute.workers={options.workers}", *cell.settings)
        command = [
            sys.executable,
            "-m",
            "vclimb.cli",
            "train",
            str(options.data),
            "--out",
            str(folder),
            "--resume",
            "--json",
        ]
        command += itertools.chain.from_iterable(("--set", setting) for setting in (*settings, *options.set))
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        if options.cards > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % options.cards)
        with open(folder.parent / f"{cell.name}.log", "wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def _reap(self) -> None:
        for slot, (process, cell, start) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            del self._running[slot]
            self.seconds[cell.name] = time.monotonic() - start
            text = f"{cell.name}: {self.seconds[cell.name]:.0f} s"
            if status:
                self.failed.append(f"{cell.name} (exit status {status})")
                text = (self._options.out / f"{cell.name}.log").read_text()[-1500:] + f"\n{cell.name}: FAILED"
            else:
                metrics = _metrics(self._options.out / cell.name)
                text += f", Acc {100 * metrics['acc']:.1f}, BWF {100 * metrics['bwf']:.1f}"
            print(text, flush=True)


def _complete(folder: Path) -> bool:
    return (folder / "metrics.json").exists() and bool(_metrics(folder)["complete"])


def _metrics(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


def complete_runs(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name without its seed, and the metrics, of each complete run in a folder."""
    for path in sorted(out.glob("*/metrics.json")):
        metrics = _metrics(path.parent)
        if metrics["complete"]:
            yield path.parent.name.rpartition("-s")[0], metrics


def print_table(out: Path) -> None:
    """Print the table as Markdown: means over seeds and sample standard deviations, in percent."""
    runs_by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, metrics in complete_runs(out):
        runs_by_name[name].append(metrics)
    columns = ("Acc", "BWF", "average incremental", "NME Acc")
    print("| " + " | ".join(("method", *columns, *(f"{column} + TC" for column in columns), "seeds")) + " |")
    print("|---" * (2 * len(columns) + 2) + "|")
    rows = [*METHODS, *sorted(set(runs_by_name) - {f"{m}{t}" for m in METHODS for t in ("", "+tc")})]
    for name in rows:
        parts = [name]
        for runs in (runs_by_name[name], runs_by_name[f"{name}+tc"]):
            parts += [_spread(runs, key) for key in ("acc", "bwf", "average_incremental_accuracy")]
            parts.append(_spread([r["classifiers"][NME] for r in runs if NME in r["classifiers"]], "acc"))
        if any(runs_by_name[key] for key in (name, f"{name}+tc")):
            print("| " + " | ".join(parts) + f" | {len(runs_by_name[name])}, {len(runs_by_name[name + '+tc'])} |")


def _spread(runs: Sequence[dict[str, Any]], key: str) -> str:
    values = [100 * float(run[key]) for run in runs]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def print_gaps(out: Path) -> None:
    """Print each run's time between tasks, from a task's last epoch to the next task's first step, and its share."""
    for path in sorted(out.glob("*/events.jsonl")):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        epochs = [event for event in events if event["event"] == "epoch"]
        if not epochs or events[-1]["event"] != "complete":
            continue
        firsts = {event["task"]: event["time"] for event in events if event["event"] == "first_step"}
        gaps = [
            firsts[after["task"]] - before["time"]
            for before, after in itertools.pairwise(epochs)
            if after["task"] != before["task"] and after["task"] in firsts
        ]
        total = events[-1]["time"] - events[0]["time"]
        print(f"{path.parent.name}: {total:.1f} s, {sum(gaps):.1f} s ({100 * sum(gaps) / total:.1f} %) between tasks")


def add_run_options(parser: argparse.ArgumentParser, jobs: int = 4) -> None:
    """Add the options by which `Runs` shares a machine, and any other setting; `jobs` is the default of the first."""
    parser.add_argument("--jobs", type=int, default=jobs, help="number of runs side by side")
    parser.add_argument("--cards", type=int, default=1, help="number of GPUs")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of a run")
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="time limit in seconds")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")


def make_runs(options: argparse.Namespace, cells: Sequence[Cell]) -> list[str]:
    """Make runs within the time limit, and return the names of those that are missing, with the reasons."""
    runs = Runs(options, time.monotonic() + options.limit_seconds)
    runs.all(cells)
    return runs.failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="prepared data set")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="folder of the runs")
    parser.add_argument(
        "--weights", default="pretrained", help="weights of the backbone: a file, or pretrained for timm's"
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="names of runs to do, such as icarl+tc-s0")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tasks", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--budget", default="105v")
    parser.add_argument("--ewc", type=float, default=3e5, help="strength of EWC")
    parser.add_argument("--mas", type=float, default=3.0, help="strength of MAS")
    parser.add_argument("--adagrad", type=float, default=1e-3, help="learning rate of EWC's and MAS' Adagrad; 0: SGD")
    add_run_options(parser)
    parser.add_argument(
        "--tune", action="store_true", help="tune learning rates and strengths, on another order of classes"
    )
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.table:
        if options.data is None:
            parser.error("name a prepared data set, such as shards/jhmdb21")
        for text in make_runs(options, tuning_cells(options) if options.tune else table_cells(options)):
            print(f"missing: {text}")
    print_table(options.out)
    print_gaps(options.out)


if __name__ == "__main__":
    main()
