"""Measure what `vclimb train` does from the start of its process to the end of its first training step.

    python benchmarks/start.py SHARDS [--networks efficientnet_lite0 resnet34] [--size 112] [--batch-size 32]
        [--variants default cudnn_search=4 ...] [--device auto] [--rounds 3] [--tasks 7] [--set KEY=VALUE ...]

SHARDS is a prepared data set. Each run is a program of its own, ended after its first step; rounds take turns. A
variant is `default`, or settings and environment variables joined by commas: `cudnn_search=4` is short for
`compute.cudnn_search=4`, names with a dot are settings, and names in capitals are variables of the environment, such as
`TORCH_CUDNN_V8_API_DISABLED=1`. Prints a table for each network, in seconds, medians of the rounds: the start of Python
and of the command, the parts of `vclimb.training.start.PARTS`, all together, and CPU seconds of all processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import vclimb
from vclimb.training.events import Event, read_events
from vclimb.training.start import PARTS

COMMAND, TOTAL, CPU = "python and command", "all", "CPU of all processes"
DEFAULT_VARIANTS = ["default", "cudnn_search=1", "cudnn_search=4", "cudnn_search=10", "compute.graphs=off"]


def options_of(variant: str) -> tuple[list[str], dict[str, str]]:
    """Split a variant into options of `vclimb train` and variables of the environment."""
    options: list[str] = []
    variables: dict[str, str] = {}
    for text in [] if variant == "default" else variant.split(","):
        name, _, value = text.partition("=")
        if name.isupper():
            variables[name] = value
        else:
            options += ["--set", text if "." in name else f"compute.{text}"]
    return options, variables


def started(folder: Path) -> Event | None:
    """Find the event of the first step; None before it is logged."""
    try:
        events = read_events(folder / "events.jsonl")
    except (OSError, vclimb.VclimbError):
        return None
    return next((event for event in events if event.kind == "started"), None)


def measure(command: list[str], variant: str) -> dict[str, float]:
    """Run `vclimb train` until its first step has ended."""
    options, variables = options_of(variant)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        begin = time.time()
        with subprocess.Popen(
            [*command, *options, "--out", str(folder)],
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                while (event := started(folder)) is None:
                    if process.poll() is not None:
                        sys.exit(f"the run of variant {variant} ended before its first step:\n{process.stderr.read()}")  # type: ignore[union-attr]
                    time.sleep(0.05)
                program = psutil.Process(process.pid)
                times = [one.cpu_times() for one in [program, *program.children(recursive=True)]]
            finally:
                process.kill()
    seconds = dict(event.values["seconds"])
    total = event.time - begin
    return {
        COMMAND: total - sum(seconds.values()),
        **{part: seconds.get(part, 0.0) for part in PARTS},
        TOTAL: total,
        CPU: sum(one.user + one.system for one in times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--networks", nargs="+", default=["efficientnet_lite0", "resnet34"])
    parser.add_argument("--variants", nargs="+", default=DEFAULT_VARIANTS)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    python = [sys.executable, *(["-P"] if sys.flags.safe_path else [])]
    for network in args.networks:
        settings = [f"model.backbone={network}", f"model.size={args.size}", f"training.batch_size={args.batch_size}"]
        settings += [f"compute.device={args.device}", *args.settings]
        command = [*python, "-m", "vclimb.cli", "train", args.shards, "--tasks", str(args.tasks), "--method", "icarl"]
        command += ["--budget", "100v", "--weights", "none", *(text for one in settings for text in ("--set", one))]
        rounds: dict[str, list[dict[str, float]]] = {variant: [] for variant in args.variants}
        for _ in range(args.rounds):
            for variant in args.variants:
                rounds[variant].append(measure(command, variant))
        print(f"\n{network}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
        print("| seconds of | " + " | ".join(args.variants) + " |")
        print("|---" * (1 + len(args.variants)) + "|")
        for part in rounds[args.variants[0]][0]:
            medians = [statistics.median(one[part] for one in rounds[variant]) for variant in args.variants]
            print(f"| {part} | " + " | ".join(f"{median:.2f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
