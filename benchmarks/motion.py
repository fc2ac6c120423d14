"""Show which networks read motion, by joint training on drawn videos whose classes differ in the order of frames.

    python benchmarks/motion.py --weights tf_efficientnet_lite0_in1k.safetensors --jobs 3 --cards 3
    python benchmarks/motion.py --device cpu --tiny        # a tiny network, four classes, on two cores
    python benchmarks/motion.py shards/motion              # the videos of docs/studies/kinds-motion.toml
    python benchmarks/motion.py --table                    # tabulate the existing runs

Without a prepared data set, videos are drawn and prepared into the folder of the runs. A network that can't see
the order of frames is at chance, since all classes of a scene consist of the same frames.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import Cell, add_run_options, complete_runs, make_runs

import vclimb

NETWORKS = ("tsn", "tsm", "tcn")
TRAINED = (
    "scenario.tasks=1",
    "method.name=joint",
    "training.optimizer=adamw",
    "training.weight_decay=0.05",
    "training.schedule=cosine",
    "training.warmup_epochs=2",
)
TINY = (
    *("model.backbone=test_resnet.r160_in1k", "model.size=48", "model.dropout=0", "training.batch_size=16"),
    *("training.learning_rate=0.003",),
)


def draw_videos(options: argparse.Namespace) -> Path:
    """Draw and prepare the videos, which does nothing where they are there."""
    folder, shards = options.out / f"videos-{options.classes}x{options.train}", options.out / "shards"
    shards = shards / folder.name
    counts = {"classes": options.classes, "train": options.train, "test": options.test}
    vclimb.synth(folder, told_apart_by="motion", **counts)
    vclimb.prepare(folder, shards, short_side=options.short_side, workers=options.jobs)
    return Path(shards)


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """List joint training of each network with each seed."""
    settings = [*TRAINED, f"training.epochs={options.epochs}", "training.learning_rate=0.0003"]
    settings += [*(TINY if options.tiny else ()), f"compute.device={options.device}"]
    return [
        Cell(f"{network}-s{seed}", (*settings, f"model.network={network}", f"seed={seed}", f"scenario.seed={seed}"))
        for seed in options.seeds
        for network in options.networks
    ]


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Tabulate the accuracy of each network over the complete runs, and that of chance."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for name, metrics in complete_runs(out):
        runs.setdefault(name, []).append(metrics)
    return [
        {
            "network": name,
            "acc": [run["acc"] for run in runs[name]],
            "chance": 1 / sum(runs[name][0]["classes_per_task"]),
        }
        for name in sorted(runs, key=[*NETWORKS, *sorted(runs)].index)
    ]


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table as Markdown, in percent."""
    print("| network | accuracy | chance | seeds |")
    print("|---|---|---|---|")
    for row in rows:
        spread = f" ± {100 * statistics.stdev(row['acc']):.1f}" if len(row["acc"]) > 1 else ""
        mean = 100 * statistics.mean(row["acc"])
        print(f"| {row['network']} | {mean:.1f}{spread} | {100 * row['chance']:.1f} | {len(row['acc'])} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="prepared data set of drawn videos told apart by motion")
    parser.add_argument("--out", type=Path, default=Path("runs/motion"), help="folder of the videos and the runs")
    parser.add_argument("--weights", default="none", help="weights of the backbone: a file, pretrained, or none")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="networks to train")
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--train", type=int, default=40, help="training videos of a class")
    parser.add_argument("--test", type=int, default=20, help="test videos of a class")
    parser.add_argument("--short-side", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true", help="a tiny network at 48 px, for a CPU")
    add_run_options(parser, jobs=2)
    parser.add_argument("--table", action="store_true", help="only tabulate the existing runs")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    missing: list[str] = []
    if not options.table:
        options.data = options.data or draw_videos(options)
        with contextlib.redirect_stdout(sys.stderr):
            missing = make_runs(options, cells_of(options))
    rows = rows_of(options.out)
    print(json.dumps(rows)) if options.json else print_table(rows)
    for text in missing:
        print(f"missing: {text}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
