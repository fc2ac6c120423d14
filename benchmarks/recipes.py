"""Compare recipes of training, on all classes in one task, with heads in closed form on the frozen network.

    python benchmarks/recipes.py shards/jhmdb21 --weights tf_efficientnet_lite0_in1k.safetensors --jobs 8 --cards 4
    python benchmarks/recipes.py shards/jhmdb21 --weights FILE --only sgd3+e40 adamw+cosine+bn+e40
    python benchmarks/recipes.py --out runs/recipes --table        # tabulate the existing runs

A recipe's name joins its parts by a plus. The accuracy of joint training is measured after each epoch, on the reported
split. The table has that of the last epoch: the best one would be chosen on the videos that it is reported on.
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

from matplotlib.figure import Figure
from results import Cell, add_run_options, complete_runs, make_runs

ORDER = 100  # seed of the order of classes; reported runs have 0, 1 and 2
HEADS = {"ridge": "ridge", "ncm": "nearest-mean"}
"""Row -> head of method `analytic` on the frozen network."""

PARTS: dict[str, tuple[str, ...]] = {
    # The benchmark's own settings of UCF101, and an optimiser with its learning rate.
    "benchmark": ("training.learning_rate=0.001", "training.epochs=50", "training.batch_size=50"),
    "sgd3": ("training.learning_rate=0.003",),
    "sgd10": ("training.learning_rate=0.01",),
    "adamw": ("training.optimizer=adamw", "training.learning_rate=0.0001", "training.weight_decay=0.05"),
    "adamw10": ("training.optimizer=adamw", "training.learning_rate=0.001", "training.weight_decay=0.05"),
    "cosine": ("training.warmup_epochs=3", "training.schedule=cosine"),
    # What is trained, and how fast.
    "bn": ("training.frozen=batch-norm",),
    "laterbn": ("training.frozen=later-batch-norm",),
    "s3": ("training.frozen=stages:3",),
    "s5": ("training.frozen=stages:5",),
    "s3bn": ("training.frozen=stages:3+batch-norm",),
    "s5bn": ("training.frozen=stages:5+batch-norm",),
    "slow": ("training.backbone_rate=0.1",),
    # What is shown.
    "strong": ("training.augmentation=strong",),
    "smooth": ("training.label_smoothing=0.1",),
    "e15": ("training.epochs=15",),
    "e40": ("training.epochs=40",),
    "e80": ("training.epochs=80",),
    "px160": ("model.size=160",),
    "px224": ("model.size=224",),
}
"""Part of a recipe -> its settings. Without a size, clips have 112 px."""

RECIPES = (
    "benchmark",
    "sgd3+e15",  # docs/results.md
    # One change at a time.
    "sgd3+e40",
    "sgd3+e80",
    "sgd3+cosine+e40",
    "sgd3+bn+e40",
    "sgd3+laterbn+e40",
    "sgd3+s3+e40",
    "sgd3+s5+e40",
    "sgd3+slow+e40",
    "sgd3+strong+e40",
    "sgd3+smooth+e40",
    "sgd3+e40+px160",
    "sgd3+e40+px224",
    # Other optimisers.
    "sgd10+e40",
    "sgd10+cosine+e40",
    "adamw+cosine+e40",
    "adamw+cosine+e80",
    "adamw10+slow+cosine+e40",
    # Combinations.
    "sgd10+cosine+bn+e40",
    "sgd10+cosine+slow+bn+e40",
    "sgd10+cosine+s3bn+e40",
    "sgd10+cosine+bn+strong+smooth+e80",
    "sgd10+cosine+slow+bn+strong+smooth+e80",
    "adamw+cosine+bn+e40",
    "adamw+cosine+s3bn+e40",
    "adamw+cosine+s5bn+e40",
    "adamw+cosine+bn+strong+smooth+e40",
    "adamw+cosine+bn+strong+smooth+e80",
    "adamw10+slow+cosine+bn+strong+smooth+e80",
    "adamw+cosine+bn+strong+smooth+e40+px160",
    "adamw+cosine+bn+strong+smooth+e40+px224",
    "sgd10+cosine+slow+bn+strong+smooth+e80+px224",
)


def settings_of(recipe: str) -> tuple[str, ...]:
    """List the settings of a recipe, in the order of its parts."""
    return tuple(setting for part in recipe.split("+") for setting in PARTS[part])


def size_of(recipe: str) -> int:
    """Find the side of a recipe's clips in pixels."""
    sizes = [setting.partition("=")[2] for setting in settings_of(recipe) if setting.startswith("model.size=")]
    return int(sizes[-1]) if sizes else 112


def cells_of(recipes: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """List the runs of frozen heads at all sizes of some recipes, and joint training under each, long ones first."""
    one_task = ("scenario.tasks=1", f"scenario.seed={ORDER}")
    cells = [
        Cell(
            f"{row}-{size}px-s0",  # nothing is drawn
            (*one_task, "method.name=analytic", f"method.head={head}", f"model.size={size}"),
        )
        for size in sorted({size_of(recipe) for recipe in recipes})
        for row, head in HEADS.items()
    ]
    joint = (*one_task, "method.name=joint", "training.select=best-reported")
    order = sorted(recipes, key=size_of, reverse=True)
    return cells + [
        Cell(f"{recipe}-s{seed}", (*joint, f"seed={seed}", *settings_of(recipe))) for seed in seeds for recipe in order
    ]


def curve_of(run: Path) -> list[float]:
    """Read the accuracy after each epoch; a resumed run may have measured an epoch twice."""
    scores: dict[int, float] = {}
    for line in (run / "events.jsonl").read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "measured":
            scores[event["epoch"]] = event["score"]
    return [scores[epoch] for epoch in sorted(scores)]


def rows_of(out: Path, recipes: Sequence[str]) -> list[dict[str, Any]]:
    """Tabulate the complete runs: the frozen heads, then recipes by the last score of joint training, best first."""
    frozen = {name: metrics["acc"] for name, metrics in complete_runs(out) if name.partition("-")[0] in HEADS}
    rows: list[dict[str, Any]] = []
    for recipe in recipes:
        seeds = sorted(out.glob(f"{recipe}-s*/metrics.json"))
        curves = [curve_of(path.parent) for path in seeds if json.loads(path.read_text())["complete"]]
        if curves:
            last = statistics.mean(curve[-1] for curve in curves)
            ridge = frozen.get(f"ridge-{size_of(recipe)}px")
            gain = None if ridge is None else last - ridge
            row = {"recipe": recipe, "size": size_of(recipe), "last": last, "minus_ridge": gain, "curves": curves}
            rows.append(row)
    heads = [{"recipe": name, "last": frozen[name], "minus_ridge": None, "curves": []} for name in sorted(frozen)]
    return heads + sorted(rows, key=lambda row: -row["last"])


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table as Markdown, in percent."""
    print("| recipe | last score | minus frozen ridge of this size | epochs | seeds |")
    print("|---|---|---|---|---|")
    for row in rows:
        gain = "" if row["minus_ridge"] is None else f"{100 * row['minus_ridge']:+.1f}"
        epochs = len(row["curves"][0]) if row["curves"] else "frozen"
        print(f"| {row['recipe']} | {100 * row['last']:.1f} | {gain} | {epochs} | {len(row['curves']) or ''} |")


def draw_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the accuracy after each epoch of each recipe, of the first seed, and the frozen heads as dotted lines."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots()
    styles = ("-", "--", ":")
    for number, row in enumerate(row for row in rows if row["curves"]):
        curve = [100 * score for score in row["curves"][0]]
        style = styles[number // 10 % len(styles)]
        axes.plot(range(1, len(curve) + 1), curve, style, color=f"C{number % 10}", lw=1.2, label=row["recipe"])
    for row in rows:
        if not row["curves"]:
            axes.axhline(100 * row["last"], color="black", lw=0.8, ls=":")
            axes.annotate(row["recipe"], (1, 100 * row["last"]), fontsize=7, va="bottom")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy in %, all classes in one task")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="prepared data set")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), help="folder of the runs")
    parser.add_argument("--weights", default="pretrained", help="weights of the backbone: a file, or pretrained")
    parser.add_argument("--only", nargs="+", default=RECIPES, choices=RECIPES, metavar="NAME", help="recipes to run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    add_run_options(parser)
    parser.add_argument("--table", action="store_true", help="only tabulate and draw the existing runs")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, with the curves")
    options = parser.parse_args()
    missing: list[str] = []
    if not options.table:
        if options.data is None:
            parser.error("name a prepared data set, such as shards/jhmdb21")
        with contextlib.redirect_stdout(sys.stderr):
            missing = make_runs(options, cells_of(options.only, options.seeds))
    rows = rows_of(options.out, options.only)
    draw_curves(rows, options.out / "curves.png")
    if options.json:
        print(json.dumps(rows))
    else:
        print_table(rows)
    for text in missing:
        print(f"missing: {text}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
