"""Odd videos: common containers, sizes and pixel formats, colours, and names."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
from video_cases import (
    CASES,
    LUMA_STEP,
    N_FRAMES,
    Case,
    Failed,
    Frames,
    Stored,
    case,
    counted,
    counts,
    grey_levels,
    make_video,
    run_ffmpeg_tool,
    solid,
    sound_video,
)

# Containers and codecs

counts("mpeg4.avi", "-c:v", "mpeg4", "-q:v", "2")
counts("packed_b_frames.avi", "-c:v", "libxvid", "-bf", "2", "-q:v", "2", "-g", "12")
counts("mpeg1.mpg", "-c:v", "mpeg1video", "-q:v", "2", "-bf", "2")
counts("mpeg2.vob", "-c:v", "mpeg2video", "-q:v", "2")
counts("h264_b_frames.ts", "-bf", "2")
counts("h264.m2ts", "-mpegts_m2ts_mode", "1")
counts("h264_b_frames.mkv", "-bf", "2")
counts("fragmented.mp4", "-movflags", "frag_keyframe+empty_moov", "-g", "4")
counts("mpeg4.3gp", "-c:v", "mpeg4", "-q:v", "2")
counts("flash.flv", "-c:v", "flv", "-q:v", "2")
counts("windows.wmv", "-c:v", "wmv2", "-q:v", "2")
counts("theora.ogv", "-c:v", "libtheora", "-q:v", "10")
counts("vp8.webm", "-c:v", "libvpx", "-b:v", "2M")
counts("vp9.webm", "-c:v", "libvpx-vp9", "-crf", "10", "-b:v", "0")
counts("av1.mp4", "-c:v", "libsvtav1", "-crf", "10")
counts("raw.y4m")
counts("really_raw_h264.mp4", "-c:v", "libx264", "-f", "h264")
counts("motion.mjpeg", "-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")
counts("prores.mov", "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le")
counts("lossless.nut", "-c:v", "ffv1")
_PAL = ("-s", "720x576", "-aspect")
_WIDE, _NARROW = Stored(size=(1024, 576), check=counted), Stored(size=(768, 576), check=counted)
counts("wide_dvd.vob", "-c:v", "mpeg2video", "-q:v", "2", *_PAL, "16:9", outcome=_WIDE)
counts("dv.mov", "-c:v", "dvvideo", *_PAL, "4:3", outcome=_NARROW)


# Sizes

counts("one_pixel.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p", size="1x1", outcome=Stored(size=(1, 1)))
counts("odd.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p", size="63x47")
counts("odd.mp4", "-c:v", "libx264", "-pix_fmt", "yuv444p", size="63x47")
counts("wide.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p", size="2000x2", outcome=Stored(size=(2000, 2)))
counts("tall.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p", size="2x2000", outcome=Stored(size=(2, 2000)))
counts("tiny.mp4", size="16x16")
counts("absurd_pixels.mp4", filters="setsar=1/1000")


@case("too_wide.mkv", Failed("transcode", "ffmpeg ended with status"))
def too_wide(path: Path) -> None:
    """Wider than either codec takes, though no larger than a photograph."""
    make_video(path, "-c:v", "ffv1", "-pix_fmt", "yuv444p", frames=2, size="80000x2")


# Pixel formats

counts("h264_10_bit.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
counts("vp9_10_bit.webm", "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p10le", "-crf", "10", "-b:v", "0")
counts("hevc_10_bit.mkv", "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error")
counts("rgb.avi", "-c:v", "rawvideo", "-pix_fmt", "bgr24")
counts("rgb.mp4", "-c:v", "libx264rgb", "-pix_fmt", "rgb24", "-crf", "10")
counts("rgb_16_bit.mov", "-c:v", "png", "-pix_fmt", "rgb48be")
_PALETTE = f"trim=end_frame={N_FRAMES},split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
counts("palette.mov", "-c:v", "png", "-pix_fmt", "pal8", filters=_PALETTE)
counts("palette.gif", "-pix_fmt", "pal8", filters=_PALETTE)


def _grey(frames: Frames) -> None:
    np.testing.assert_allclose(grey_levels(frames), np.arange(N_FRAMES) * LUMA_STEP * 255 / 219, atol=8)


counts("grey.mkv", "-c:v", "ffv1", "-pix_fmt", "gray", outcome=Stored(check=_grey))
counts("grey_10_bit.mkv", "-c:v", "ffv1", "-pix_fmt", "gray10le", outcome=Stored(check=_grey))
counts("grey.mp4", "-c:v", "libx264", "-pix_fmt", "gray", outcome=Stored(check=_grey))


# Alpha: shown over black, as players do


def _over_black(frames: Frames) -> None:
    """Left half: opaque white; right half: fully transparent white."""
    half = frames.shape[2] // 2
    assert frames[:, :, 2 : half - 4].mean() > 245, frames[:, :, 2 : half - 4].mean()
    assert frames[:, :, half + 4 : -2].mean() < 10, frames[:, :, half + 4 : -2].mean()


def _half_clear(path: Path, *output: str) -> None:
    picture = "color=white:size=64x48:rate=25,format=gbrap,geq=r=255:g=255:b=255:a='255*lt(X,W/2)'"
    run_ffmpeg_tool(["-f", "lavfi", "-i", picture, "-frames:v", str(N_FRAMES), *output, f"file:{path}"])


for _name, _output in {
    "alpha_png.mov": ("-c:v", "png", "-pix_fmt", "rgba"),
    "alpha_png_16_bit.mov": ("-c:v", "png", "-pix_fmt", "rgba64be"),
    "alpha_animation.mov": ("-c:v", "qtrle", "-pix_fmt", "argb"),
    "alpha_prores.mov": ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
    "alpha_ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuva420p"),
    "alpha_vp9.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-crf", "10", "-b:v", "0"),
    "alpha_vp8.webm": ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-b:v", "1M"),
}.items():
    CASES.append(
        Case(
            _name,
            functools.partial(lambda output, path: _half_clear(path, *output), _output),
            Stored(check=_over_black),
        )
    )


# Colour

_COLOUR = (200, 60, 40)


def colour(name: str, convert: str, *output: str, size: str = "64x48") -> None:
    """Register one colour, converted."""
    red, green, blue = _COLOUR
    source = f"color=0x{red:02x}{green:02x}{blue:02x}:size={size}:rate=25,format=gbrp,{convert}"
    made = ["-f", "lavfi", "-i", source, "-frames:v", str(N_FRAMES), *output]
    outcome = Stored(size=tuple(map(int, size.split("x"))), check=solid(*_COLOUR))  # type: ignore[arg-type]
    CASES.append(Case(name, lambda path: run_ffmpeg_tool([*made, path]), outcome))


def _to(matrix: str, range_: str, pixels: str = "yuv420p", tag: str | None = None) -> str:
    convert = f"scale=out_color_matrix={matrix}:out_range={range_},format={pixels}"
    return f"{convert},setparams=colorspace={tag or matrix}:range={range_}"


colour("bt601_limited.mp4", _to("smpte170m", "tv"), "-crf", "5")
colour("bt601_untagged.mp4", _to("smpte170m", "tv", tag="unknown"), "-crf", "5")
colour("bt601_full.mp4", _to("smpte170m", "pc", "yuvj420p"), "-crf", "5")
colour("bt601_full.avi", _to("smpte170m", "pc", "yuvj420p"), "-c:v", "mjpeg", "-q:v", "2")
colour("bt709_limited.mp4", _to("bt709", "tv"), "-crf", "5")
colour("bt709_full.mp4", _to("bt709", "pc", "yuvj420p"), "-crf", "5")
colour("bt709_untagged_hd.mp4", _to("bt709", "tv", tag="unknown"), "-crf", "5", "-preset", "ultrafast", size="1280x720")
colour(
    "hdr_pq.mkv",
    _to("bt2020nc", "tv", "yuv420p10le") + ",setparams=color_primaries=bt2020:color_trc=smpte2084",
    *("-c:v", "libx265", "-crf", "5", "-x265-params", "log-level=error:hdr10=1"),
)


# Names

_NAMES = [
    "with space.mp4",
    "'single' and \"double\".mp4",
    "-leading-dash.mp4",
    "--help.mp4",
    "two\nlines.mp4",
    "100%d.mp4",
    "%03d.mp4",
    "concat:a|b.mp4",
    "http:example.mp4",
    "[v0];[0:v]null.mp4",
    "back\\slash.mp4",
    "star*?.mp4",
    "тест 视频 🎬.mp4",
    os.fsdecode(b"caf\xe9.mp4"),
    "x" * 240 + ".mp4",
    "$(touch pwned).mp4",
    "; touch pwned ;.mp4",
    "`touch pwned`.mp4",
    "same_stem.mp4",
    "same_stem.avi",
    "same stem.mp4",
    "dots .. ...mp4",
    "UPPER.MP4",
    "null\x01byte\x1b[31m.mp4",
]
for _name in _NAMES:

    @case(_name, Stored(check=counted))
    def named(path: Path) -> None:
        path.write_bytes(sound_video())
