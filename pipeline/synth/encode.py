"""Encoding of frames as video files with the containers and codecs of cameras and web sites."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import ffmpeg

from vclimb.pipeline.errors import FfmpegMissingError, TargetError
from vclimb.pipeline.synth.render import Frames
from vclimb.pipeline.system.durable import sync
from vclimb.pipeline.transcode.ffmpeg import STDERR_TAIL_BYTES, Ffmpeg

CODECS: dict[str, dict[str, Any]] = {
    "mp4": {"c:v": "libx264", "preset": "veryfast", "crf": 20},
    "avi": {"c:v": "mpeg4", "q:v": 4},
    "webm": {"c:v": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "crf": 24, "b:v": 0},
}
"""Container -> ffmpeg's options of the encoder."""
_TIMEOUT_SECONDS = 120


def encode_clip(binary: Ffmpeg, frames: Frames, rate: int, target: Path) -> None:
    """Write a video file and sync it to disk. The same frames give the same bytes.

    Args:
        frames: (T, H, W, 3) uint8 RGB, with even sides.
        target: File to write; the suffix names the container, one of `CODECS`.

    Raises:
        TargetError: The disk is full.
        FfmpegMissingError: This ffmpeg lacks the encoder.
    """
    height, width = frames.shape[1:3]
    container = target.suffix.removeprefix(".")
    stream = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=rate)
    output = ffmpeg.output(
        stream.filter("scale", flags="bicubic+accurate_rnd+full_chroma_int").filter("format", "yuv420p"),
        f"file:{target}",
        **CODECS[container],
        **{"f": container, "fflags": "+bitexact", "flags:v": "+bitexact", "threads": 1},
    ).global_args("-v", "error", "-filter_complex_threads", "1")
    # In another process group, ffmpeg gets no Ctrl-C. It ends with its input: with the clip, or with this process.
    with subprocess.Popen(
        [str(word) for word in ffmpeg.compile(output, cmd=binary.path, overwrite_output=True)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        try:
            _, complaint = process.communicate(frames.tobytes(), timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            complaint = f"no end after {_TIMEOUT_SECONDS} s".encode()
        finally:
            process.kill()
    if process.returncode:
        tail = complaint[-STDERR_TAIL_BYTES:].decode("utf-8", "replace").strip()
        if os.strerror(errno.ENOSPC) in tail:
            raise TargetError(f"no space left on the disk of {target}; free some and run the same command again")
        encoder, reason = CODECS[container]["c:v"], tail or f"exit status {process.returncode}"
        raise FfmpegMissingError(
            f"{binary} can't encode {target.name} with {encoder} ({reason}); "
            "install a full build of ffmpeg, or set VCLIMB_FFMPEG to one"
        )
    sync(target)
