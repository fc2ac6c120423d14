"""Compare `vclimb prepare` with a bare parallel ffmpeg that does the same encoding on the same files, in turn.

    python benchmarks/prepare.py VIDEOS [--codec jpeg] [--rounds 3] [--workers 2] [--limit N]

VIDEOS is a folder of class folders. The bare ffmpeg runs one process for each video, `workers` at a time, with the
arguments of prepare, and checks nothing. prepare also probes, hashes, decodes every frame again, writes tars with
indices, syncs and publishes them. Prints seconds, their ratio, and the sizes of sources and shards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vclimb.pipeline.dataset.settings import CODECS, EncodeSettings
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.encode import transcode_argv
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.plan import spread_over_classes
from vclimb.pipeline.transcode.probe import probe_video


def bare_seconds(commands: list[list[str]], workers: int) -> float:
    """Measure the wall time of all commands, `workers` at a time."""
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for finished in pool.map(lambda argv: subprocess.run(argv, stdin=subprocess.DEVNULL, check=False), commands):
            if finished.returncode:
                sys.exit(f"the bare ffmpeg failed: {' '.join(finished.args)}")
    return time.perf_counter() - start


def prepare_seconds(
    videos: Path, out: Path, codec: str, workers: int, limit: int | None
) -> tuple[float, dict[str, object]]:
    """Measure the wall time of the whole command, start-up included, and return its summary too."""
    argv = [str(Path(sys.executable).with_name("vclimb")), "prepare", str(videos), "--layout", "folder", "--json"]
    argv += ["--out", str(out), "--codec", codec, "--workers", str(workers)]
    argv += ["--limit", str(limit)] if limit else []
    start = time.perf_counter()
    finished = subprocess.run(argv, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if finished.returncode:
        sys.exit(f"prepare failed:\n{finished.stderr}")
    return seconds, json.loads(finished.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--codec", choices=CODECS, default="jpeg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()

    table = read_source(args.videos, "folder")
    settings = EncodeSettings(
        codec=args.codec, quality=CODECS[args.codec].default, b_frames=CODECS[args.codec].b_frames
    )
    ffmpeg = find_ffmpeg()
    print(f"{ffmpeg}; {args.workers} at a time")
    scratch = Path(tempfile.mkdtemp(prefix="vclimb-bench-"))
    try:
        chosen = spread_over_classes(table.videos, args.limit or len(table.videos))
        sources = [table.file(video) for video in chosen]
        commands = [
            transcode_argv(ffmpeg.path, [(source, scratch / f"bare-{i}.mp4", probe_video(source))], settings)
            for i, source in enumerate(sources)
        ]
        bare, ours, ratios = [], [], []
        for number in range(args.rounds):
            bare.append(bare_seconds(commands, args.workers))
            out = scratch / f"out-{number}"
            seconds, summary = prepare_seconds(args.videos, out, args.codec, args.workers, args.limit)
            ours.append(seconds)
            ratios.append(seconds / bare[-1])
            print(
                f"round {number + 1}: bare {bare[-1]:.2f} s, prepare {seconds:.2f} s, ratio {ratios[-1]:.3f}",
                flush=True,
            )
            shutil.rmtree(out)
        totals = summary["totals"]
        assert isinstance(totals, dict)
        median = statistics.median(ours)
        print(
            f"{args.codec}: ratio {statistics.median(ratios):.3f} (median of {args.rounds}); "
            f"{totals['videos'] / median:.1f} videos/s, {totals['frames'] / median:,.0f} frames/s, "
            f"{totals['source_bytes'] / 1e6:.1f} MB in, {totals['bytes'] / 1e6:.1f} MB out"
        )
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
