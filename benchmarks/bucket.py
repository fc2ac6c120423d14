"""Measure training clips streamed from a bucket against the same clips from the disk, at some latencies.

    python benchmarks/bucket.py shards/NAME --latencies 10 50 100 --group 8
    python benchmarks/bucket.py shards/NAME --order 0 8 4 2 1 --seeds 0 1 2

The bucket is that of an S3 server (moto) in a process of its own, which waits so many milliseconds before it answers a
request. Each round streams an epoch from the disk, then three from the bucket: the first into an empty cache of whole
shards, the others from the cache; `ranges` streams some batches without a cache. Printed are medians of the rounds, and
clips/s as a share of the disk's in the same round. Server, workers and this process share the cores.

With `--order`, a small network is trained instead on the cores, on all classes at once, by groups of so many shards (0:
all clips shuffled together), and its accuracy is printed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import torch

import vclimb
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.workers import kept_workers

BUCKET = "s3://benchmark"


def serve() -> None:
    """Run the server; prints its address. A request of /wait/MS sets the wait before each answer."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    wait = [0.0]

    def slow(environ: dict[str, Any], start: Any) -> Any:
        if environ["PATH_INFO"].startswith("/wait/"):
            wait[0] = float(environ["PATH_INFO"].removeprefix("/wait/")) / 1000
            start("200 OK", [])
            return [b""]
        time.sleep(wait[0])
        return application(environ, start)

    server = make_server("127.0.0.1", 0, slow, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


@contextmanager
def server() -> Iterator[str]:
    """Run the server in a process of its own, and set the environment to its address, which is yielded."""
    argv = [sys.executable, __file__, "unused", "--serve"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            values = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
            os.environ.update({**values, "AWS_ENDPOINT_URL": address})
            yield address
        finally:
            process.kill()


def clips_per_second(
    dataset: StoredDataset, options: argparse.Namespace, epochs: int, steps: int | None
) -> list[float]:
    """Stream epochs, and measure each."""
    settings = StreamSettings(
        options.batch_size, (View(),), Augmentation(size=options.size), shard_group=options.group, drop_last=True
    )
    provider = InstanceProvider(dataset, dataset.instances)
    with CpuClipStream(provider, settings, torch.device("cpu"), options.workers) as stream:
        speeds = []
        for _ in range(epochs):
            start, clips = time.perf_counter(), 0
            for batch in itertools.islice(stream, steps):
                clips += len(batch.keys)
            speeds.append(clips / (time.perf_counter() - start))
    return speeds


def measure(options: argparse.Namespace) -> None:
    local = StoredDataset.open(options.data)
    sizes = [files.tar_bytes for files in local.catalog.shards.values()]
    print(f"{len(local.instances):,} clips an epoch, {len(sizes)} shards of {statistics.mean(sizes) / 1e6:.1f} MB")
    print("| latency | disk, clips/s | first epoch / disk | third epoch / disk | ranges / disk |")
    print("|---|---|---|---|---|")
    with server() as address, kept_workers():
        clips_per_second(local, options, 1, 2)  # starts the workers
        files = fsspec.filesystem("s3")
        files.mkdir("benchmark")
        files.put(f"{options.data}/", f"{BUCKET}/data", recursive=True)
        for latency in options.latencies:
            urllib.request.urlopen(f"{address}/wait/{latency}").close()
            rounds = []
            for _ in range(options.rounds):
                disk = clips_per_second(local, options, 2, None)[1]
                with tempfile.TemporaryDirectory() as folder:
                    remote = StoredDataset.open(f"{BUCKET}/data")
                    cached = remote.cached(
                        CacheSettings(Path(folder), options.cache_bytes or 2 * sum(sizes)), options.group
                    )
                    first, _, later = clips_per_second(
                        cached, options, 3, None
                    )  # copies still go to the disk in the second
                (ranges,) = clips_per_second(remote, options, 1, options.range_batches)
                rounds.append((disk, first / disk, later / disk, ranges / disk))
            disk, *shares = map(statistics.median, zip(*rounds, strict=True))
            print(f"| {latency} ms | {disk:.0f} | " + " | ".join(f"{share:.2f}" for share in shares) + " |", flush=True)


def measure_order(options: argparse.Namespace) -> None:
    print("| shards a group | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | mean |")
    print("|---" * (len(options.seeds) + 2) + "|")
    for group in options.order:
        accuracies = []
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                table = {
                    "seed": seed,
                    "scenario": {"tasks": 1},
                    "model": {"backbone": "test_resnet.r160_in1k", "weights": "none", "size": 48, "clip_frames": 4},
                    "training": {
                        "epochs": options.epochs,
                        "batch_size": 16,
                        "learning_rate": 0.02,
                        "schedule": "cosine",
                        "shard_group": group,
                    },
                }
                run = vclimb.train(
                    options.data, out=Path(folder, "run"), method="finetune", settings=table, progress=False
                )
                accuracies.append(100 * float(run.R[0, 0]))
        row = [*accuracies, statistics.mean(accuracies)]
        print(f"| {group or 'all'} | " + " | ".join(f"{value:.1f}" for value in row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prepared data set of several shards (vclimb prepare --shard-size)")
    parser.add_argument(
        "--latencies", nargs="+", type=float, default=[10, 50, 100], help="milliseconds of each request"
    )
    parser.add_argument("--group", type=int, default=8, help="shards whose clips are shuffled together")
    parser.add_argument("--cache-bytes", type=int, help="limit of the cache; default: it holds the data set")
    parser.add_argument("--size", type=int, default=112, help="side of the frames in pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, help="worker processes; default: one for each core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--range-batches", type=int, default=8, help="batches that are streamed without a cache")
    parser.add_argument("--order", nargs="+", type=int, help="measure accuracy by these numbers of shards a group")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.order:
        measure_order(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
