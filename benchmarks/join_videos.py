"""Concatenate short videos of a class to longer ones, for benchmarks whose figures depend on the length.

    python benchmarks/join_videos.py VIDEOS OUT [--join 5] [--limit 60]

VIDEOS holds videos of one size, in any layout that `vclimb prepare` reads; OUT gets class/NUMBER.mp4. J-HMDB's clips
have up to 40 frames; 5 of them make a video as long as UCF101's (186 frames on average).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--join", type=int, default=5)
    parser.add_argument("--limit", type=int, default=60)
    args = parser.parse_args()

    paths_by_class: dict[str, list[Path]] = defaultdict(list)
    table = read_source(args.videos)
    for video in table.videos:
        paths_by_class[video.instances[0].label].append(table.file(video))
    videos = [
        (label, number, paths[start : start + args.join])
        for label, paths in sorted(paths_by_class.items())
        for number, start in enumerate(range(0, len(paths) - args.join + 1, args.join))
    ]
    for label, number, paths in videos[:: max(1, len(videos) // args.limit)][: args.limit]:
        target = args.out / label / f"{number:03d}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as list_file:
            list_file.writelines(f"file '{path.resolve()}'\n" for path in paths)
            list_file.flush()
            argv = [find_ffmpeg().path, "-nostdin", "-v", "error", "-y", "-f", "concat", "-safe", "0"]
            argv += ["-i", list_file.name, "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", str(target)]
            subprocess.run(argv, check=True)


if __name__ == "__main__":
    main()
