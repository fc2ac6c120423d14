"""Odd videos: interlaced, rotated, and with pixels that aren't square."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from video_cases import (
    CASES,
    N_FRAMES,
    Case,
    Frames,
    Stored,
    count_to,
    counted,
    row_contrast,
    run_ffmpeg_tool,
)

# Interlaced


def _not_combed(frames: Frames) -> None:
    assert row_contrast(frames) < 2, row_contrast(frames)


def _interlaced(path: Path, *output: str, order: str) -> None:
    """A bar that moves 4 pixels from field to field: without deinterlacing its edges are combs."""
    bar = (
        "color=black:size=64x48:rate=50,format=yuv420p,geq=lum='if(lt(mod(X-4*N\\,64)\\,32)\\,235\\,16)':cb=128:cr=128"
    )
    fields = f"{bar},tinterlace={order},setfield={'tff' if order == 'interleave_top' else 'bff'}"
    run_ffmpeg_tool(["-f", "lavfi", "-i", fields, "-frames:v", "12", "-flags", "+ildct+ilme", *output, f"file:{path}"])


for _name, _order, _output in (
    ("interlaced_mpeg2.mpg", "interleave_top", ("-c:v", "mpeg2video", "-q:v", "2")),
    ("interlaced_h264.mp4", "interleave_top", ("-c:v", "libx264", "-crf", "5", "-x264-params", "interlaced=1:tff=1")),
    ("interlaced_bottom.mkv", "interleave_bottom", ("-c:v", "libx264", "-crf", "5", "-x264-params", "bff=1")),
):
    CASES.append(
        Case(
            _name,
            functools.partial(lambda order, output, path: _interlaced(path, *output, order=order), _order, _output),
            Stored(check=_not_combed),
        )
    )


# Rotation: the coded picture is turned the other way, so that the flag makes it upright


def turned(name: str, filters: str, *flags: str) -> None:
    """Register the test picture, filtered, with flags for its rotation."""

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            coded = Path(folder) / "coded.mp4"
            count_to(coded, filters=filters)
            run_ffmpeg_tool([*flags, "-i", coded, "-c", "copy", path])

    CASES.append(Case(name, make, Stored(check=counted)))


turned("turned_90.mp4", "transpose=clock", "-display_rotation", "90")
turned("turned_180.mp4", "hflip,vflip", "-display_rotation", "180")
turned("turned_270.mp4", "transpose=cclock", "-display_rotation", "270")
turned("turned_90.mkv", "transpose=clock", "-display_rotation", "90")
turned("mirrored.mp4", "hflip", "-display_hflip")
turned("mirrored_upside_down.mp4", "vflip", "-display_vflip")
turned("turned_90_mirrored.mp4", "hflip,transpose=clock", "-display_rotation", "90", "-display_hflip")
turned("turned_90_oblong_pixels.mp4", "scale=64:24,setsar=1/2,transpose=clock", "-display_rotation", "90")


# Pixels that aren't square


def _round(frames: Frames) -> None:
    """A white disc of 40 pixels, centred."""
    white = frames[0].mean(axis=2) > 128
    height, width = (np.flatnonzero(white.any(axis=axis)) for axis in (1, 0))
    assert abs(np.ptp(height) - np.ptp(width)) <= 2, (np.ptp(height), np.ptp(width))
    assert abs(np.ptp(height) - 39) <= 3, np.ptp(height)


_DISC = "color=black:size=96x64:rate=25,format=gray,geq=lum='255*lt(hypot(X-47.5\\,Y-31.5)\\,20)'"


def disc(name: str, squeeze: str, *output: str) -> None:
    """Register a squeezed disc that its pixel aspect ratio stretches again."""
    source = ["-f", "lavfi", "-i", f"{_DISC},{squeeze}", "-frames:v", str(N_FRAMES), "-pix_fmt", "yuv420p", *output]
    CASES.append(Case(name, lambda path: run_ffmpeg_tool([*source, path]), Stored(size=(96, 64), check=_round)))


disc("narrow_pixels.mp4", "scale=192:64,setsar=1/2")
disc("wide_pixels.mp4", "scale=48:64,setsar=2")
disc("wide_pixels.mkv", "scale=48:64,setsar=2")
disc("wide_pixels.avi", "scale=64:64,setsar=3/2", "-c:v", "mpeg4", "-q:v", "2")
disc("square_pixels.mp4", "null")
