"""How studies and scenarios grow: CPU seconds of each command on made run folders, data sets and scenario files.

    python benchmarks/study_scale.py FOLDER [--only NAME ...]

Nothing is trained: run folders hold made figures, in the format of `vclimb train`. Each command runs in a process of
its own. What is made in FOLDER stays there and is used again. Cases:

- `waiting`: report of 50 complete runs and 3,000 that were not begun
- `complete`: report of 10,000 complete runs
- `wide`: report of 5,000 complete runs with 2,500 values of a setting, of 1,000 without a memory, and of 1,000 budgets
- `long-run`: report of 4 runs of 1,000 tasks and 1,000 classes
- `labels`: report of 4 runs with values of 9,000 characters, and of 4 with values of a megabyte
- `weights`: 1,000 cells with a weights file of 90 MB
- `dry-run`: plan of 10,000 cells
- `scenario`: figures of a scenario of 1,000 tasks of a class with 100 instances each
- `deal`: the same classes dealt out to 1,000 tasks
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import vclimb
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.metrics import AccuracyMatrix
from vclimb.scenario import ScenarioInstance, Task
from vclimb.study.cells import Cell
from vclimb.study.definition import StudyDefinition
from vclimb.study.folder import StudyFolder
from vclimb.training.run_folder import RunFolder
from vclimb.training.run_metrics import Accuracies, MemoryFacts, RunMetrics, ScenarioFacts, TaskRecord

BASE: dict[str, Any] = {"scenario": {"tasks": 2}, "model": {"backbone": "resnet18", "weights": "none"}}
SEEDS = {"seed": [0, 1]}
COMPLETE: dict[str, Any] = {
    "base": BASE,
    "axes": {
        "method": ["naive", "icarl"],
        "frames": [1, 2, 4, 8, "all"],
        "training.learning_rate": [0.001 * (1 + n) for n in range(25)],
        "training.epochs": [5, 10],
        "model.size": [64, 112],
        **SEEDS,
    },
    "constraints": {"budgets": [f"{1 + n}MB" for n in range(5)]},
}
WAITING: dict[str, Any] = {
    **COMPLETE,
    "axes": COMPLETE["axes"] | {"model.size": [64], "training.epochs": [5, 10, 20]},
}
"""3,000 cells at 2 budgets."""


def metrics_of(cell: Cell, classes: list[str], n_tasks: int, n_bytes: int) -> RunMetrics:
    """Make figures that follow from the settings, with noise."""
    draw = random.Random(cell.run_id)
    per_task = len(classes) // n_tasks
    matrix = AccuracyMatrix.empty([per_task] * n_tasks)
    for row in range(n_tasks):
        matrix = matrix.grown(
            [max(0.0, 0.9 - 0.5 * (row - task) / n_tasks - 0.1 * draw.random()) for task in range(row + 1)]
        )
    on_disk = n_bytes - draw.randrange(900)
    parts = {"exemplars": on_disk - 500, "index": 500}
    memory = MemoryFacts(100, 800, n_bytes - 1000, on_disk, n_bytes, n_bytes / 800, 3000, parts)
    seconds = {"train": 60.0, "memory": 2.0, "evaluate": 5.0}
    tasks = tuple(
        TaskRecord(
            n, tuple(classes[n * per_task : (n + 1) * per_task]), 90, 0, 1, None, 9, 0, memory, seconds, 0.1, None
        )
        for n in range(n_tasks)
    )
    summary = matrix.summary()
    summary |= {name: tuple(value) for name, value in summary.items() if isinstance(value, list)}
    summary["R"] = tuple(map(tuple, summary["R"]))
    accuracies: dict[str, Any] = {field.name: summary[field.name] for field in fields(Accuracies)}
    confusion = tuple(tuple(int(a == b) for b in range(len(classes))) for a in range(len(classes)))
    return RunMetrics(
        complete=True,
        vclimb_version="made",
        dataset="made",
        scenario=ScenarioFacts("made", "made", n_tasks, tuple(classes), "test", {}),
        method=cell.config.method["name"],
        protocol="paper",
        seed=cell.config.seed,
        device="cpu",
        classifier="linear",
        codec="copy",
        forward_transfer=None,
        accuracy_per_class=dict.fromkeys(classes, 0.5),
        confusion=confusion,
        memory=memory,
        seconds=seconds,
        classifiers={"linear": Accuracies(**accuracies)},
        tasks=tasks,
        **accuracies,
    )


def make_study(path: Path, table: dict[str, Any], n_complete: int, classes: list[str], n_tasks: int) -> None:
    """Write a study's folder with its first cells complete."""
    if path.exists():
        return
    folder, study = StudyFolder(path), StudyDefinition.parse(table)
    cells = study.expand("shards/made")
    with folder.held():
        for cell in cells[:n_complete]:
            run = RunFolder(folder.run(cell.run_id))
            run.path.mkdir(parents=True)
            run.begin(cell.config, resume=False)
            amount = MemoryBudget.parse(cell.config.memory.budget).amount
            run.write_metrics(metrics_of(cell, classes, n_tasks, amount))
        folder.write_study(study.to_toml(), {cell.run_id: cell.settings for cell in cells})


def measure(case: str, *arguments: object, show: Callable[[], str] = lambda: "") -> None:
    """Run a command, and print its CPU seconds, its duration and its largest memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    state = "" if done.returncode == 0 else f"  FAILED: {done.stderr.strip()[-300:]}"
    print(f"{case:10} {cpu:7.1f} CPU s {time.monotonic() - began:7.1f} s  {show()}{state}", flush=True)


def report(case: str, folder: Path) -> None:
    """Measure a report."""
    page = folder / "report.html"
    page.unlink(missing_ok=True)

    def show() -> str:
        n_plots = len(list((folder / "plots").glob("*.svg")))
        return f"page {page.stat().st_size / 1e6:.1f} MB, {n_plots} plots" if page.exists() else ""

    measure(case, "-m", "vclimb.cli", "study", "report", folder, show=show)


def waiting(folder: Path) -> None:
    table = {**WAITING, "constraints": {"budgets": ["1MB", "2MB"]}}
    make_study(folder / "waiting", table, 50, [f"class {n}" for n in range(20)], 10)
    report("waiting", folder / "waiting")


def complete(folder: Path) -> None:
    make_study(folder / "complete", COMPLETE, 10_000, [f"class {n}" for n in range(20)], 10)
    report("complete", folder / "complete")


def long_run(folder: Path) -> None:
    table = {**COMPLETE, "axes": {"frames": [1, 8], **SEEDS}, "constraints": {"budgets": ["1MB"]}}
    make_study(folder / "long-run", table, 4, [f"class {n}" for n in range(1000)], 1000)
    report("long-run", folder / "long-run")


def wide(folder: Path) -> None:
    budgets = {"budgets": ["1MB"]}
    rates = [1e-6 * (1 + n) for n in range(2500)]
    studies: dict[str, dict[str, Any]] = {
        "values": {"axes": {"training.learning_rate": rates, **SEEDS}, "constraints": budgets},
        "references": {"axes": {"method": ["finetune"], "training.learning_rate": rates[:1000]}},
        "budgets": {"axes": {"frames": [1, 8]}, "constraints": {"budgets": [f"{1000 + n}kB" for n in range(1000)]}},
    }
    for name, table in studies.items():
        make_study(folder / name, {"base": BASE, **table}, 5000, [f"class {n}" for n in range(4)], 2)
        report(name, folder / name)


def labels(folder: Path) -> None:
    table = {**COMPLETE, "axes": {"frames": [1, 8], **SEEDS}, "constraints": {"budgets": ["1MB", "2MB"]}}
    if not (folder / "labels").exists():
        make_study(folder / "labels", table, 8, [f"{n}" + "x" * 9_000 for n in range(4)], 2)
        for number, config in enumerate(sorted((folder / "labels/runs").glob("*/config.toml"))):
            value = f"{number % 4}" + "y" * (9_000 if number < 4 else 1_000_000)
            config.write_text(re.sub('codec = ".*"', f'codec = "{value}"', config.read_text("utf-8")), "utf-8")
    report("labels", folder / "labels")


def weights(folder: Path) -> None:
    path = folder / "weights.bin"
    if not path.exists():
        path.write_bytes(random.Random(0).randbytes(90_000_000))
    code = (
        "from vclimb.study.definition import StudyDefinition\n"
        f"base = {{**{BASE!r}, 'model': {{'weights': {str(path)!r}}}, 'memory': {{'budget': '1MB'}}}}\n"
        "axes = {'training.learning_rate': [0.001 * (1 + n) for n in range(500)], 'seed': [0, 1]}\n"
        "print(len(StudyDefinition.parse({'base': base, 'axes': axes}).expand('shards/made')))"
    )
    measure("weights", "-c", code)


def dry_run(folder: Path) -> None:
    data, study = folder / "data", folder / "dry.toml"
    if not data.exists():
        vclimb.synth(folder / "videos", classes=4, train=4, test=2, progress=False)
        vclimb.prepare(folder / "videos", data, progress=False)
    text = StudyDefinition.parse(COMPLETE).to_toml()
    study.write_text(text, "utf-8")
    measure("dry-run", "-m", "vclimb.cli", "study", "run", study, "--data", data, "--out", folder / "dry", "--dry-run")


def scenario(folder: Path) -> None:
    path = folder / "scenario.json"
    if not path.exists():
        tasks = [
            Task((name,), *(instances(name, part) for part in ((0, 70), (70, 80), (80, 100))))
            for name in (f"class {n}" for n in range(1000))
        ]
        vclimb.Scenario("made", tuple(tasks)).save(path)
    measure("scenario", "-m", "vclimb.cli", "scenario", "show", path)
    code = (
        "from vclimb.scenario import Scenario, TaskPlan\n"
        "from vclimb.scenario.from_dataset import deal_classes\n"
        f"made = Scenario.open({str(path)!r})\n"
        "splits = {split: list(made.instances(split)) for split in ('train', 'val', 'test')}\n"
        "deal_classes('dealt', splits, TaskPlan(tasks=1000))"
    )
    measure("deal", "-c", code)


def instances(name: str, part: tuple[int, int]) -> tuple[ScenarioInstance, ...]:
    return tuple(ScenarioInstance(f"{name}/v{n}", name, None, f"{name} {n // 7}") for n in range(*part))


CASES: dict[str, Callable[[Path], None]] = {
    "waiting": waiting,
    "complete": complete,
    "wide": wide,
    "weights": weights,
    "dry-run": dry_run,
    "scenario": scenario,
    "long-run": long_run,
    "labels": labels,
}


def main(names: Iterable[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        CASES[name](folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    main(options.only, options.folder)
