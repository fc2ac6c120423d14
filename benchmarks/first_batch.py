"""Measure the time from the construction of a CPU stream to its first batch, and the memory of its processes.

    python benchmarks/first_batch.py SHARDS [--sizes 112 224] [--workers 2] [--rounds 5]

SHARDS is a prepared data set. Each round is a program of its own, which has imported torch and vclimb and opened the
data set before the clock starts. Prints the median of the rounds and each round:

    wall       seconds to the first batch
    this CPU   CPU seconds of the program until then
    others CPU CPU seconds of the fork server and the workers until then
    memory     after 10 batches, in MB: of all processes together, each shared page counted once (PSS), and of the
               fork server and the workers alone
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import islice

import psutil

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream


def measure(shards: str, size: int, workers: int, batch_size: int) -> dict[str, float]:
    """Measure one stream in this process."""
    dataset = StoredDataset.open(shards)
    provider = InstanceProvider(dataset, dataset.instances)
    settings = StreamSettings(batch_size, augmentation=Augmentation(size=size), across_epochs=True)
    this = psutil.Process()
    start, cpu = time.perf_counter(), time.process_time()
    with CpuClipStream(provider, settings, workers=workers) as stream:
        batches = iter(stream)
        next(batches)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        others = this.children(recursive=True)
        others_cpu = sum(sum(other.cpu_times()[:2]) for other in others)
        for _ in islice(batches, 9):
            pass
        memory = [process.memory_full_info().pss / 1e6 for process in (this, *others)]
    return {"wall": wall, "this CPU": cpu, "others CPU": others_cpu, "PSS": sum(memory), "others PSS": sum(memory[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--one", action="store_true", help="measure in this process, and print JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.shards, args.sizes[0], args.workers, args.batch_size)))
        return
    options = ["--workers", str(args.workers), "--batch-size", str(args.batch_size), "--one"]
    rounds: dict[int, list[dict[str, float]]] = {size: [] for size in args.sizes}
    for _ in range(args.rounds):
        for size in args.sizes:
            command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), __file__, args.shards]
            done = subprocess.run(
                [*command, "--sizes", str(size), *options], stdout=subprocess.PIPE, check=True, text=True
            )
            rounds[size].append(json.loads(done.stdout))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {args.workers} workers")
    for size, measured in rounds.items():
        for name in measured[0]:
            values = [one[name] for one in measured]
            print(f"{size} px  {name:10}  {statistics.median(values):8.2f}  ({', '.join(f'{v:.2f}' for v in values)})")


if __name__ == "__main__":
    main()
