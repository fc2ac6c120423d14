"""Measure a study of small runs over the GPUs of one host: the local executor, Ray, and one GPU.

    python benchmarks/study_places.py shards/jhmdb21 --runs 16 --jobs-per-gpu 1

Each way computes the same study in a new folder, in turn. Printed for each: wall time, and its ratio to the local
executor on all GPUs. Needs the extra `ray`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data set with the splits train and test")
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--jobs-per-gpu", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=["local", "ray", "one"], choices=["local", "ray", "one"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the runs")
    options = parser.parse_args()
    settings = ["method.name=naive", "memory.budget=1MB", "scenario.tasks=3", "model.size=112", "training.epochs=4"]
    settings += ["model.weights=none", *options.set]
    seeds = ",".join(map(str, range(options.runs)))
    places = {"local": [], "ray": ["--executor", "ray", "--ray-address", "local"], "one": ["--gpus", "0"]}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=options.data.parent) as folder:
        study = Path(folder, "places.toml")
        study.write_text('name = "places"\n', "utf-8")
        for way in options.ways:
            command = [sys.executable, "-P", "-m", "vclimb.cli", "study", "run", str(study), "--json"]
            command += ["--data", str(options.data), "--out", str(Path(folder, way)), "--axis", f"seed={seeds}"]
            command += [word for text in settings for word in ("--set", text)] + places[way]
            command += ["--jobs-per-gpu", str(options.jobs_per_gpu)]
            began = time.monotonic()
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
            seconds[way] = time.monotonic() - began
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    first = seconds[options.ways[0]]
    print(f"{options.runs} runs, {options.jobs_per_gpu} a GPU\n| way | s | {options.ways[0]} = 1 |\n|---|---|---|")
    for way, wall in seconds.items():
        print(f"| {way} | {wall:.1f} | {wall / first:.3f} |")


if __name__ == "__main__":
    main()
