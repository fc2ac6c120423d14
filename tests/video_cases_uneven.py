"""Odd videos: even ones whose container says otherwise, uneven ones, encrypted ones, and short damaged ones."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from fractions import Fraction
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
    count_to,
    counted,
    counting,
    grey_levels,
    make_video,
    run_ffmpeg_tool,
    sound_video,
    upright,
)
from video_cases_timelines import VARIABLE, VARIABLE_TIMES

from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg

# Even, whatever the container says


def even(name: str, *output: str, filters: str = "null") -> None:
    CASES.append(Case(name, lambda path: count_to(path, *output, filters=filters), Stored(check=counted)))


_FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
# The declared duration counts the delay of the B-frames.
_SIDX = ("-bf", "3", "-pix_fmt", "yuv420p", "-movflags", f"{_FRAGMENTS}+global_sidx", "-use_editlist", "0")


@case("declared_longer.mp4", Stored(frames=30, fps=Fraction(30000, 1001)))
def declared_longer(path: Path) -> None:
    make_video(path, *_SIDX, frames=30, fps="30000/1001")


@case("declared_longer_short.mp4", Stored(frames=5, check=counted))
def declared_longer_short(path: Path) -> None:
    """5 of 7 declared frames are not too few."""
    count_to(path, *_SIDX, frames=5)


even("wraps.ts", "-bf", "2", "-output_ts_offset", "95443.5")  # the clock of 33 bits starts again at 0
even("b_pyramid.mp4", "-bf", "8", "-x264-params", "b-pyramid=normal:b-adapt=0", "-use_editlist", "0")
even("raw_mpeg1.mpg", "-c:v", "mpeg1video", "-bf", "2", "-q:v", "2", "-f", "mpeg1video")
_FINE = "settb=1/90000,setpts='(N+0.3*sin(N*1.7))/(25*TB)'"
even("jitters.mp4", "-fps_mode", "passthrough", "-enc_time_base", "1/90000", filters=_FINE)


@case("raw_packed.m4v", Stored(frames=9))
def raw_packed(path: Path) -> None:
    """Two frames in a packet, then an empty one, as AVI held them."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed.avi"
        make_video(packed, "-c:v", "libxvid", "-bf", "1", frames=9)
        run_ffmpeg_tool(["-i", packed, "-c", "copy", "-f", "m4v", path])


# Uneven


def uneven(name: str, times: tuple[float, ...], *output: str, filters: str = VARIABLE) -> None:
    outcome = Stored(fps=None, times=times, check=counted)
    CASES.append(Case(name, lambda path: count_to(path, "-fps_mode", "passthrough", *output, filters=filters), outcome))


_SLOWER = "setpts='(N+max(0,N-6))/(25*TB)'"
_SLOWER_TIMES = (*((n + max(0, n - 6)) / 25 for n in range(N_FRAMES)), 17 / 25)
_IN_PAIRS = "setts=ts=floor(N/2)*2/(25*TB)"
uneven("pause_in_the_middle.gif", VARIABLE_TIMES)
uneven("pause.ts", VARIABLE_TIMES)
uneven("pause_fragmented.mp4", VARIABLE_TIMES, "-bf", "2", "-movflags", _FRAGMENTS, "-g", "4")
_BEFORE_ZERO = ("-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled", "-use_editlist", "0")
uneven("pause_before_zero.mp4", VARIABLE_TIMES, *_BEFORE_ZERO)
uneven("slower.mp4", _SLOWER_TIMES, filters=_SLOWER)
uneven("slower.webm", _SLOWER_TIMES, "-c:v", "libvpx", "-b:v", "2M", filters=_SLOWER)
_TIMES_IN_PAIRS = tuple(n // 2 * 2 / 25 for n in range(N_FRAMES + 1))
uneven("repeated_times.mkv", _TIMES_IN_PAIRS, "-c:v", "ffv1", "-bsf:v", _IN_PAIRS, filters="null")


def _from_the_fourth(frames: Frames) -> None:
    np.testing.assert_allclose(grey_levels(frames), np.arange(3, N_FRAMES) * LUMA_STEP * 255 / 219, atol=8)


@case(
    "pause_edit_list.mp4",
    Stored(frames=9, fps=None, times=tuple(t - VARIABLE_TIMES[3] for t in VARIABLE_TIMES[3:]), check=_from_the_fourth),
)
def pause_edit_list(path: Path) -> None:
    """The edit list shows the last 9 of 12 frames."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.mp4"
        count_to(whole, "-fps_mode", "passthrough", "-g", "100", filters=VARIABLE)
        run_ffmpeg_tool(["-ss", "0.12", "-i", whole, "-c", "copy", path])


# One frame, declared to last for a second


@case("still.webm", Stored(frames=1, fps=Fraction(1), check=upright))
@case("still.mkv", Stored(frames=1, fps=Fraction(1), check=upright))
def still(path: Path) -> None:
    data = bytearray(sound_video(path.suffix, 1))
    rate, duration = data.index(b"\x23\xe3\x83\x84"), data.index(b"\x44\x89\x88") + 3
    data[rate : rate + 8] = b"\xec\x86" + bytes(6)  # a void in place of the rate
    data[duration : duration + 8] = struct.pack(">d", 1000.0)
    path.write_bytes(data.replace(b"DURATION", b"REMARKED"))


# Short and damaged


@case("damaged_end.gif", Failed("transcode", "only 3 of about 4 frames could be decoded"))
def damaged_end(path: Path) -> None:
    """The last of four pictures has a delay of 472 s, and can't be decoded."""
    make_video(path, frames=4, fps=2)
    data = bytearray(path.read_bytes())
    control = data.rindex(b"\x21\xf9\x04")
    data[control + 4 : control + 6] = struct.pack("<H", 47281)
    picture = data.index(b"\x2c", control + 8)
    palette = 3 * 2 ** ((data[picture + 9] & 7) + 1) if data[picture + 9] & 0x80 else 0
    data[picture + 10 + palette] = 0xFF  # the size of a code in bits
    path.write_bytes(data)


@case("damaged_middle.avi", Failed("transcode", "only 3 of about 4 frames could be decoded"))
def damaged_middle(path: Path) -> None:
    make_video(path, "-c:v", "mjpeg", frames=4)
    data = bytearray(path.read_bytes())
    second = data.index(b"\xff\xd8\xff", data.index(b"\xff\xd8\xff") + 1)
    data[second : second + 300] = bytes(300)
    path.write_bytes(data)


# Encrypted

_KEYS = ("-encryption_key", "76" * 16, "-encryption_kid", "a7" * 16)
_ENCRYPTED = Failed("probe", "encrypted")


def encrypted(name: str, *output: str) -> None:
    arguments = ("-encryption_scheme", "cenc-aes-ctr", *_KEYS, *output)
    CASES.append(Case(name, lambda path: count_to(path, *arguments), _ENCRYPTED))


encrypted("encrypted.mp4")
encrypted("encrypted_fragments.mp4", "-movflags", "frag_keyframe+empty_moov", "-g", "4")


@case("encrypted.webm", _ENCRYPTED)
def encrypted_webm(path: Path) -> None:
    """A stream whose track declares that its frames are encrypted."""

    def element(code: str, *children: bytes) -> bytes:
        body = b"".join(children)
        return bytes.fromhex(code) + (1 << 56 | len(body)).to_bytes(8) + body

    source = ["-f", "lavfi", "-i", counting(), "-frames:v", "12", "-c:v", "libvpx", "-f", "webm", "pipe:1"]
    command = [find_ffmpeg().path, "-v", "error", *source]
    data = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    encryption = element("5035", element("47e1", b"\5"), element("47e2", bytes(16)))
    encoding = element("6d80", element("6240", element("5033", b"\1"), encryption))
    start = data.rindex(b"\x16\x54\xae\x6b")  # the list of tracks: one, of a size in 8 bytes
    end = start + 5 + (data[start + 4] & 0x7F)
    tracks = element("1654ae6b", element("ae", data[start + 14 : end], encoding))
    path.write_bytes(data[:start] + tracks + data[end:])


# Several video streams


def two_streams(name: str, ours: str, other: str, *output: str) -> None:
    """Register the test picture and a blue one of the given sizes; the test picture is the one to be stored."""
    size = tuple(map(int, ours.split("x")))
    blue = f"color=blue:size={other}:rate=25"
    source = ["-f", "lavfi", "-i", counting(ours), "-f", "lavfi", "-i", blue, "-frames:v", str(N_FRAMES)]
    streams = [*source, "-pix_fmt", "yuv420p", *output]
    outcome = Stored(size=size, check=counted)  # type: ignore[arg-type]
    CASES.append(Case(name, lambda path: run_ffmpeg_tool([*streams, path]), outcome))


_OURS_FIRST, _OURS_LAST = ("-map", "0", "-map", "1"), ("-map", "1", "-map", "0")
_AS_GIVEN = ("-default_mode", "passthrough")
_NO_DEFAULT = (*_AS_GIVEN, "-disposition:v", "0")
_FIRST_DEFAULT = (*_AS_GIVEN, "-disposition:v:0", "default", "-disposition:v:1", "0")
_LAST_DEFAULT = (*_AS_GIVEN, "-disposition:v:0", "0", "-disposition:v:1", "default")
two_streams("larger_first.mkv", "128x96", "64x48", *_OURS_FIRST, *_NO_DEFAULT)
two_streams("larger_last.mkv", "128x96", "64x48", *_OURS_LAST, *_NO_DEFAULT)
two_streams("default_first.mkv", "64x48", "128x96", *_OURS_FIRST, *_FIRST_DEFAULT)
two_streams("default_last.mkv", "64x48", "128x96", *_OURS_LAST, *_LAST_DEFAULT)
two_streams("cover_first.mp4", "64x48", "640x480", *_OURS_LAST, "-c:v:0", "mjpeg", "-disposition:v:0", "attached_pic")
