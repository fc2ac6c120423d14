"""Measure how training scales over the GPUs of a machine: clips/s of settled epochs over 1, 2, 4, ... processes.

    python benchmarks/scaling.py shards/jhmdb21 --processes 1 2 4 --sizes 224 112
    python benchmarks/scaling.py shards/synth --processes 1 2 --sizes 32 --device cpu --backbone test_resnet.r160_in1k

Each run is a `vclimb train` of one task by torchrun, with 64 clips a process and step. Training instances are repeated
with other frame ranges until an epoch has `--clips` of them, so that an epoch takes seconds. The first epoch is left
out: in it, processes start and cuDNN plans. Each run is measured whole and with one cost taken out or added, as
benchmarks/scaling_process.py describes. The time of a step that a variant saves is the share of that cost: `repeated`
of clips, `unsynced` of gradients, `broadcast-buffers` (negative, as it is added) of broadcasting buffers. Also printed:
clips/s, its share of that of one process times the number of processes, and the share of time in which rank 0 waits
for clips.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.rows import StoredInstance
from vclimb.pipeline.dataset.storage import LocalStorage

VARIANTS = ("whole", "eager", "repeated", "unsynced", "broadcast-buffers")


@dataclass(frozen=True)
class Measurement:
    """Speed of one run.

    Attributes:
        clips_per_second: Median over the settled epochs, summed over processes.
        wait_share: Share of training in which rank 0 waits for clips.
        step_seconds: Duration of a step.
    """

    clips_per_second: float
    wait_share: float
    step_seconds: float


def repeat_instances(data: Path, out: Path, n_clips: int) -> int:
    """Write a data set with links to another's shards and its training instances repeated; return their number."""
    catalog = Catalog.read(LocalStorage(data))
    out.mkdir()
    for path in data.iterdir():
        if path.suffix in (".tar", ".idx", ".npy"):
            os.link(path, out / path.name)
    test = [instance for instance in catalog.instances if instance.split != "train"]
    catalog.instances = [*itertools.islice(shortened(catalog), n_clips), *test]
    catalog.write(out)
    return len(catalog.instances) - len(test)


def shortened(catalog: Catalog) -> itertools.chain[StoredInstance]:
    """List the training instances, then all of them again without some frames at their ends, and so on."""
    train = [instance for instance in catalog.instances if instance.split == "train"]
    longest = max(instance.end_frame - instance.start_frame for instance in train)
    cuts = [(first, last) for first in range(longest) for last in range(longest)]
    return itertools.chain.from_iterable(
        (
            replace(instance, start_frame=instance.start_frame + first, end_frame=instance.end_frame - last)
            for instance in train
            if instance.end_frame - instance.start_frame > first + last
        )
        for first, last in sorted(cuts, key=sum)
    )


def measure(
    options: argparse.Namespace, data: Path, out: Path, size: int, n_processes: int, variant: str
) -> Measurement:
    """Train on some processes, and measure the settled epochs."""
    settings = {
        "method.name": "finetune",
        "scenario.tasks": 1,
        "model.backbone": options.backbone,
        "model.weights": "none",
        "model.size": size,
        "training.epochs": options.epochs,
        "training.batch_size": options.batch * n_processes,
        "compute.device": options.device,
        "compute.decoder": "cpu",
        "compute.graphs": "off" if variant == "eager" or options.device == "cpu" else "on",
        **dict(text.split("=", 1) for text in options.set),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    command += [
        str(Path(__file__).with_name("scaling_process.py")),
        variant,
        "train",
        str(data),
        "--out",
        str(out),
        "--json",
    ]
    command += itertools.chain.from_iterable(("--set", f"{name}={value}") for name, value in settings.items())
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    seconds = [event["seconds"] for event in events if event["event"] == "epoch"][1:]
    (task,) = json.loads((out / "metrics.json").read_text())["tasks"]
    epoch = statistics.median(seconds)
    return Measurement(
        clips_per_second=task["train_instances"] / epoch,
        wait_share=task["loader_wait_share"],
        step_seconds=epoch / (task["steps"] / options.epochs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data set with the splits train and test")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4, 8], help="numbers of processes")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[224, 112], help="sizes of the network's input in pixels"
    )
    parser.add_argument(
        "--variants", nargs="+", default=VARIANTS, choices=VARIANTS, help="whole, or with one cost taken out"
    )
    parser.add_argument("--backbone", default="resnet34")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--batch", type=int, default=64, help="clips of a process and step")
    parser.add_argument("--clips", type=int, default=16384, help="training clips of an epoch")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.data.parent) as folder:
        data = Path(folder, "repeated")
        print(f"{repeat_instances(options.data, data, options.clips):,} training clips an epoch, {options.backbone}")
        print("| px | processes | variant | clips/s | share of linear | waiting for clips | step | saved of the step |")
        print("|---|---|---|---|---|---|---|---|")
        for size, count in itertools.product(options.sizes, options.processes):
            if count == options.processes[0]:
                firsts: dict[str, Measurement] = {}
            whole: Measurement | None = None
            for variant in options.variants:
                if count == 1 and variant in ("unsynced", "broadcast-buffers"):
                    continue
                result = measure(options, data, Path(folder, f"run-{size}-{count}-{variant}"), size, count, variant)
                first = firsts.setdefault(variant, result) if count == options.processes[0] else firsts.get(variant)
                whole = whole or result
                linear = first and first.clips_per_second * count / options.processes[0]
                share = "" if linear is None else f"{result.clips_per_second / linear:.3f}"
                saved = 1 - result.step_seconds / whole.step_seconds
                print(
                    f"| {size} | {count} | {variant} | {result.clips_per_second:,.0f} | {share} | "
                    f"{100 * result.wait_share:.1f} % | {1000 * result.step_seconds:.1f} ms | {100 * saved:.1f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
