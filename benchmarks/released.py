"""Compare `protocol = "released"` with the benchmark's released code, and say what each of its differences is worth.

    python benchmarks/released.py shards/jhmdb21 --scenario tasks7_seed0.pkl --weights W --reference REFERENCE.json
    python benchmarks/released.py shards/jhmdb21 --scenario tasks7_seed0.pkl --weights W --differences
    python benchmarks/released.py --reference REFERENCE.json --table     # tabulate the existing runs

The settings are those with which the released code was run (docs/results.md). `--differences` trains under `released`
with one difference at a time as in the papers, and prints the change of accuracy against `released` with the same seed.
REFERENCE.json holds the accuracy matrices of the released code: `{"runs": [{"run": "icarl-s0", "R": [[...], ...]}]}`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from results import Cell, add_run_options, make_runs

from vclimb.protocol import PAPER, RELEASED

METHODS = {"naive": ("naive", 0.0), "icarl": ("icarl", 0.0), "icarl+tc": ("icarl", 0.5), "bic": ("bic", 0.0)}
SETTINGS = (
    "training.epochs=10",
    "training.batch_size=32",
    "training.learning_rate=0.003",
    "memory.budget=105v",
    "memory.frames=8",
)
# Differences that these methods and settings can't show: other methods', best epochs, and videos of under 8 frames.
_NOT_SHOWN = ("lwf_", "anchored_", "mas_", "importance", "best_epoch", "short_videos")
_ONLY_FOR = {"icarl_": "icarl", "bic_": "bic", "herding": "icarl bic", "distillation_": "icarl bic"}


def cell(options: argparse.Namespace, method: str, seed: int, protocol: str, *more: str, tag: str = "") -> Cell:
    name, consistency = METHODS[method]
    settings = (
        f"method.name={name}",
        f"consistency.weight={consistency}",
        f"scenario.file={options.scenario}",
        f"protocol={protocol}",
        f"seed={seed}",
    )
    return Cell(f"{method}-{protocol}{tag}-s{seed}", (*settings, *SETTINGS, *more))


def differences(method: str) -> list[str]:
    """List the differences that can change a method's results."""
    applies = {prefix: methods.split() for prefix, methods in _ONLY_FOR.items()}
    name = METHODS[method][0]
    return [
        difference
        for difference in dict(RELEASED)
        if not difference.startswith(_NOT_SHOWN)
        and all(name in methods for prefix, methods in applies.items() if difference.startswith(prefix))
    ]


def cells(options: argparse.Namespace) -> list[Cell]:
    plain = [
        cell(options, method, seed, protocol)
        for protocol in options.protocols
        for seed in options.seeds
        for method in options.methods
    ]
    if not options.differences:
        return plain
    return plain + [
        cell(options, method, seed, "released", f"differences.{name}={dict(PAPER)[name]}", tag=f"-{name}")
        for seed in options.seeds
        for method in options.methods
        for name in differences(method)
    ]


def accuracies(matrix: Sequence[Sequence[float | None]]) -> list[float]:
    """Compute the mean accuracy over the tasks so far, in percent, after each task."""
    return [100 * statistics.mean(value for value in row if value is not None) for row in matrix]


def print_comparison(out: Path, reference: dict[str, list[list[float]]], options: argparse.Namespace) -> None:
    """Print the accuracy after each task of the released code and of each run, and the gap of their means."""
    n_tasks = max((len(values) for runs in reference.values() for values in runs), default=7)
    print("| | " + " | ".join(f"task {task + 1}" for task in range(n_tasks)) + " | mean gap | largest gap |")
    print("|---" * (n_tasks + 3) + "|")
    for method in options.methods:
        theirs = reference.get(method, [])
        columns = list(zip(*theirs, strict=True))
        mean = [statistics.mean(column) for column in columns]
        print(_row(f"{method}, released code", [" ".join(f"{value:.1f}" for value in column) for column in columns]))
        for protocol in options.protocols:
            for seed in options.seeds:
                path = out / f"{method}-{protocol}-s{seed}" / "metrics.json"
                if not path.exists() or not (metrics := json.loads(path.read_text()))["complete"]:
                    continue
                ours = accuracies(metrics["R"])
                gaps = [a - b for a, b in zip(ours, mean, strict=False)]
                ends = [f"{statistics.mean(gaps):+.1f}", f"{max(gaps, key=abs):+.1f}"] if gaps else []
                print(_row(f"{method}, {protocol}, seed {seed}", [*(f"{value:.1f}" for value in ours), *ends]))


def print_differences(out: Path, options: argparse.Namespace) -> None:
    """Print what each difference changes: accuracy with the papers' way minus that of `released`, for each seed."""
    print("| difference | " + " | ".join(f"{method}: final, average" for method in options.methods) + " |")
    print("|---" * (len(options.methods) + 1) + "|")
    for name in dict(RELEASED):
        columns = []
        for method in options.methods:
            changes = [_change(out, method, name, seed) for seed in options.seeds]
            kept = [change for change in changes if change is not None]
            columns.append(
                "; ".join(
                    f"{statistics.mean(values):+.1f} ({', '.join(f'{value:+.1f}' for value in values)})"
                    for values in zip(*kept, strict=True)
                )
            )
        if any(columns):
            print(_row(name, columns))


def _change(out: Path, method: str, difference: str, seed: int) -> tuple[float, float] | None:
    paths = [out / f"{method}-released{tag}-s{seed}" / "metrics.json" for tag in (f"-{difference}", "")]
    if not all(path.exists() for path in paths):
        return None
    switched, plain = (json.loads(path.read_text()) for path in paths)
    if not (switched["complete"] and plain["complete"]):
        return None
    key = "average_incremental_accuracy"
    return 100 * (switched["acc"] - plain["acc"]), 100 * (switched[key] - plain[key])


def _row(name: str, values: Sequence[str]) -> str:
    return f"| {name} | " + " | ".join(values) + " |"


def read_reference(path: Path | None) -> dict[str, list[list[float]]]:
    """Read the accuracies after each task of the released code: method -> seed -> task."""
    if path is None:
        return {}
    runs: dict[str, list[list[float]]] = {}
    for run in json.loads(path.read_text())["runs"]:
        name = run["run"].rpartition("-s")[0]
        runs.setdefault({"icarl_tc": "icarl+tc"}.get(name, name), []).append(accuracies(run["R"]))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="prepared data set")
    parser.add_argument("--out", type=Path, default=Path("runs/released"), help="folder of the runs")
    parser.add_argument("--scenario", help="scenario or task file")
    parser.add_argument("--weights", default="pretrained", help="weights of the backbone")
    parser.add_argument("--reference", type=Path, help="accuracy matrices of the released code")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--protocols", nargs="+", default=["released"], choices=["paper", "released"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--differences", action="store_true", help="switch each difference to the papers' way")
    add_run_options(parser)
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    if not options.table:
        if options.data is None or options.scenario is None:
            parser.error("name a prepared data set and a scenario")
        for text in make_runs(options, cells(options)):
            print(f"missing: {text}")
    print_comparison(options.out, read_reference(options.reference), options)
    print()
    print_differences(options.out, options)


if __name__ == "__main__":
    main()
