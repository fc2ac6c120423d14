"""Odd videos, made by the real ffmpeg or byte by byte, and what must become of each.

Most show one picture, so that one check tells whether it came out right: the upper left quarter is red, and
the rest is grey, brighter from frame to frame. A flip, a turn, a lost or a doubled frame all show.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import psutil

from pipeline.ffmpeg import find_ffmpeg

Frames = npt.NDArray[np.uint8]
"""(n, height, width, 3) RGB."""

N_FRAMES = 12
LUMA_STEP = 16
RED = (255, 0, 0)
REAL_VIDEOS = Path(__file__).parents[1] / "../shared/data/jhmdb21"


def run_ffmpeg_tool(args: Sequence[str | Path]) -> None:
    """Run the real ffmpeg on arguments of a test, and fail loudly."""
    command = [find_ffmpeg().path, "-y", "-nostdin", "-hide_banner", "-v", "error", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, f"{command} failed: {done.stderr}"


def make_video(path: Path, *output: str, frames: int = N_FRAMES, size: str = "64x48", fps: int | str = 25) -> Path:
    """Write a test pattern that moves; further arguments choose codec and muxer. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = f"testsrc2=size={size}:rate={fps}"
    run_ffmpeg_tool(["-f", "lavfi", "-i", picture, "-frames:v", str(frames), *output, f"file:{path}"])
    return path


# Memory


class PeakMemory:
    """Watches, while it runs, how much memory any worker and its children took together, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for worker in psutil.Process().children():
                    family = [worker, *worker.children(recursive=True)]
                    self.bytes = max(self.bytes, sum(map(_peak_bytes, family)))


def _peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process ever had resident."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


# What must become of a video


@dataclass(frozen=True)
class Failed:
    """It is a row of errors.jsonl: at this stage, and these words stand in the reason."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Stored:
    """It is stored with this many frames, this shape once upright and with square pixels, and this rate."""

    frames: int = N_FRAMES
    size: tuple[int, int] = (64, 48)
    fps: Fraction | None = Fraction(25)
    check: Callable[[Frames], None] | None = None


@dataclass(frozen=True)
class Case:
    """An odd video: a file name, how to make it, and what must become of it."""

    name: str
    make: Callable[[Path], object]
    outcome: Stored | Failed


CASES: list[Case] = []


def case(name: str, outcome: Stored | Failed) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Register a function that writes the video to the path it is given."""

    def register(make: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES.append(Case(name, make, outcome))
        return make

    return register


# Checks of the stored frames


def grey_levels(frames: Frames) -> npt.NDArray[np.float64]:
    """Mean brightness of the lower right quarter of each frame."""
    _, height, width, _ = frames.shape
    return frames[:, height // 2 + height // 8 :, width // 2 + width // 8 :].mean(axis=(1, 2, 3))


def counted(frames: Frames) -> None:
    """The picture that counts: upright, and every frame once, in order."""
    expected = np.arange(len(frames)) * LUMA_STEP * 255 / 219
    np.testing.assert_allclose(grey_levels(frames), expected, atol=8)
    upright(frames)


def upright(frames: Frames) -> None:
    """Red in the upper left quarter, grey in the other three."""
    _, height, width, _ = frames.shape
    for row in (0, 1):
        for column in (0, 1):
            top, left = row * height // 2 + height // 8, column * width // 2 + width // 8
            red, green, blue = frames[-1, top : top + height // 4 or None, left : left + width // 4].mean(axis=(0, 1))
            is_red = red > green + 100 and red > blue + 100
            is_grey = max(red, green, blue) - min(red, green, blue) < 24
            assert is_red if (row, column) == (0, 0) else is_grey, (row, column, red, green, blue)


def solid(red: int, green: int, blue: int, tolerance: int = 5) -> Callable[[Frames], None]:
    """Every pixel has one colour, within a few levels."""

    def check(frames: Frames) -> None:
        np.testing.assert_allclose(frames.mean(axis=(0, 1, 2)), (red, green, blue), atol=tolerance)

    return check


def row_contrast(frames: Frames) -> float:
    """Mean difference between one row and the next: high where two fields of a moving picture are interleaved."""
    luma = frames.astype(np.float64).mean(axis=3)
    return float(np.abs(np.diff(luma, axis=1)).mean())


# The picture that counts


def counting(size: str = "64x48", fps: str = "25", luma: str = f"16+{LUMA_STEP}*N") -> str:
    """The lavfi source of the picture that counts. `luma` may use N (frame) and T (seconds)."""

    def quarter(inside: str, outside: str) -> str:
        return f"'if(lt(X,W/2)*lt(Y,H/2),{inside},{outside})'"

    planes = f"lum={quarter('81', luma)}:cb={quarter('90', '128')}:cr={quarter('240', '128')}"
    return f"color=black:size={size}:rate={fps},format=yuv444p,geq={planes},setparams=colorspace=smpte170m:range=tv"


def count_to(path: Path, *output: str, frames: int = N_FRAMES, size: str = "64x48", filters: str = "null") -> None:
    """Write the picture that counts."""
    source = f"{counting(size)},{filters}"
    if "-pix_fmt" not in output:
        output = ("-pix_fmt", "yuv420p", *output)
    run_ffmpeg_tool(["-f", "lavfi", "-i", source, "-frames:v", str(frames), *output, f"file:{path}"])


def counts(name: str, *output: str, outcome: Stored | None = None, size: str = "64x48", filters: str = "null") -> None:
    """Register the picture that counts in some codec and container."""
    default = Stored(size=tuple(map(int, size.split("x"))), check=counted)  # type: ignore[arg-type]
    CASES.append(Case(name, lambda path: count_to(path, *output, size=size, filters=filters), outcome or default))


@functools.cache
def sound_video(suffix: str = ".mp4", frames: int = N_FRAMES, *output: str) -> bytes:
    """The bytes of a good video."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        count_to(path, *output, frames=frames)
        return path.read_bytes()


def copy_streams(path: Path, *before: str, suffix: str = ".mp4", after: Sequence[str] = ()) -> None:
    """Put a good video's packets into another file, with options for the input and for the output."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"source{suffix}"
        source.write_bytes(sound_video(suffix))
        run_ffmpeg_tool([*before, "-i", source, "-c", "copy", *after, f"file:{path}"])


# Not a video, or not all of one


def cut_in_half(path: Path, *output: str) -> None:
    """The first half of a file's bytes, of a video in which every frame takes about as many."""
    make_video(path, "-g", "1", *output, size="160x120")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


_CUT = Failed("transcode", "frames could be decoded (truncated or damaged)")
CASES += [
    Case("cut.avi", lambda path: cut_in_half(path, "-c:v", "mpeg4", "-q:v", "2"), _CUT),
    Case("cut.mkv", cut_in_half, _CUT),
    Case("cut_faststart.mp4", lambda path: cut_in_half(path, "-movflags", "+faststart"), _CUT),
    Case("cut_index_at_end.mp4", cut_in_half, Failed("probe", "cut short")),
    # Nothing in a transport stream says how long it was meant to be: what is there is all there is.
    Case("cut.ts", lambda path: cut_in_half(path, "-q:v", "2"), Stored(frames=7, size=(160, 120))),
]


@case("zero_bytes.mp4", Failed("open", "empty (0 bytes)"))
def zero_bytes(path: Path) -> None:
    path.touch()


@case("text.mp4", Failed("probe", "not a video"))
def text(path: Path) -> None:
    path.write_text("Sorry, this video is no longer available.\n" * 50)


@case("noise.mp4", Failed("probe", "not a video"))
def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


@case("page.mp4", Failed("probe", "not a video"))
def page(path: Path) -> None:
    """What a download gives where the server answers 404 with status 200."""
    path.write_text("<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n")


@case("audio_only.mp4", Failed("probe", "no video stream"))
def audio_only(path: Path) -> None:
    run_ffmpeg_tool(["-f", "lavfi", "-i", "sine=duration=0.5", path])


def _with_cover(path: Path, *output: str) -> None:
    picture = "color=red:size=64x64:rate=1:duration=1"
    sound_and_picture = ["-f", "lavfi", "-i", "sine=duration=0.5", "-f", "lavfi", "-i", picture]
    cover = ["-map", "0", "-map", "1", "-frames:v", "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic"]
    run_ffmpeg_tool([*sound_and_picture, *cover, *output, path])


@case("song.mp4", Failed("probe", "not a video"))
def song_with_cover(path: Path) -> None:
    _with_cover(path, "-c:a", "libmp3lame", "-f", "mp3")


@case("album.m4v", Failed("probe", "no video stream"))
def album_with_cover(path: Path) -> None:
    _with_cover(path, "-c:a", "aac", "-f", "mp4")


@case("no_frames.avi", Failed("probe", "no frames"))
def no_frames_avi(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        container.start_encoding()


@case("no_frames.mkv", Failed("probe", "ends before its first frame"))
def no_frames_mkv(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()


@case("no_decodable_frame.mp4", Failed("probe", "decode"))
def scrambled(path: Path) -> None:
    """Sound boxes, and noise where the frames should be."""
    data = bytearray(sound_video())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = random.Random(2).randbytes(end - start)
    path.write_bytes(data)


@case("scratched.mp4", Failed("transcode", "could be decoded"))
def scratched(path: Path) -> None:
    """The second half of the frames is zeros."""
    data = bytearray(sound_video(".mp4", N_FRAMES, "-g", "1", "-crf", "5"))
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[(start + end) // 2 : end] = bytes(end - (start + end) // 2)
    path.write_bytes(data)


@case("No space left on device.mp4", Failed("transcode", "could be decoded"))
@case("x\nNo space left on device\n.mp4", Failed("transcode", "could be decoded"))
def named_like_an_error(path: Path) -> None:
    """A damaged file whose name stands in ffmpeg's message must not pass for a full disk."""
    scratched(path)


@case("folder.mp4", Failed("open", "not a regular file"))
def folder(path: Path) -> None:
    path.mkdir()


@case("pipe.mp4", Failed("open", "not a regular file"))
def pipe(path: Path) -> None:
    os.mkfifo(path)


@case("device.mp4", Failed("open", "not a regular file"))
def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@case("broken_link.mp4", Failed("open", "broken symbolic link"))
def broken_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@case("link_to_itself.mp4", Failed("open", "symbolic links"))
def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@case("link.mp4", Stored(check=counted))
def link(path: Path) -> None:
    target = path.parent / ".linked"
    target.write_bytes(sound_video())
    path.symlink_to(target.name)


@case("really_an_mp4.avi", Stored(check=counted))
def wrong_suffix(path: Path) -> None:
    path.write_bytes(sound_video())


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
counts(
    "wide_dvd.vob",
    "-c:v",
    "mpeg2video",
    "-q:v",
    "2",
    "-s",
    "720x576",
    "-aspect",
    "16:9",
    outcome=Stored(size=(1024, 576), check=counted),
)
counts("dv.mov", "-c:v", "dvvideo", "-s", "720x576", "-aspect", "4:3", outcome=Stored(size=(768, 576), check=counted))

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
    """Left half: opaque white; right half: white that isn't to be seen."""
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


def turned(name: str, filters: str, *flags: str, size: str = "64x48") -> None:
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
    source = ["-f", "lavfi", "-i", f"{_DISC},{squeeze}", "-frames:v", str(N_FRAMES), "-pix_fmt", "yuv420p", *output]
    CASES.append(Case(name, lambda path: run_ffmpeg_tool([*source, path]), Stored(size=(96, 64), check=_round)))


disc("narrow_pixels.mp4", "scale=192:64,setsar=1/2")
disc("wide_pixels.mp4", "scale=48:64,setsar=2")
disc("wide_pixels.mkv", "scale=48:64,setsar=2")
disc("wide_pixels.avi", "scale=64:64,setsar=3/2", "-c:v", "mpeg4", "-q:v", "2")
disc("square_pixels.mp4", "null")

# Timelines

VARIABLE = "setpts='if(lt(N,6),N,N+30)/(25*TB)'"
VARIABLE_SECONDS = (5 + 1 + 30 + 6) / 25  # six frames of 1/25 s, 1.2 s during which nothing changes, six more


def _timed(frames: Frames) -> None:
    """After `VARIABLE`, evened out: at each output frame's time the source frame of that time, or a neighbour."""
    shown_at = np.array([n if n < 6 else n + 30 for n in range(N_FRAMES)]) / 25
    seconds = np.arange(len(frames)) * VARIABLE_SECONDS / len(frames)
    number = grey_levels(frames) / (LUMA_STEP * 255 / 219)
    frame_seconds = VARIABLE_SECONDS / len(frames)
    earliest = np.searchsorted(shown_at, seconds - frame_seconds, "right") - 1
    latest = np.searchsorted(shown_at, seconds + frame_seconds, "right") - 1
    assert ((number > earliest - 0.5) & (number < latest + 0.5)).all(), number.round(1).tolist()


def varies(name: str, *output: str) -> None:
    outcome = Stored(frames=12, fps=None, check=_timed)
    counts(name, "-fps_mode", "passthrough", *output, filters=VARIABLE, outcome=outcome)


varies("variable.mkv")
varies("variable.mp4", "-video_track_timescale", "600")
varies("variable.webm", "-c:v", "libvpx-vp9", "-crf", "10", "-b:v", "0")


@case("ntsc.mp4", Stored(fps=Fraction(30000, 1001), check=counted))
def ntsc(path: Path) -> None:
    source = counting(fps="30000/1001")
    run_ffmpeg_tool(["-f", "lavfi", "-i", source, "-frames:v", str(N_FRAMES), "-pix_fmt", "yuv420p", path])


@case("short.mp4", Stored(frames=5, check=counted))
def fifth_of_a_second(path: Path) -> None:
    path.write_bytes(sound_video(".mp4", 5))


for _suffix in (".mp4", ".avi", ".mkv", ".ts", ".webm", ".gif", ".mpg"):

    @case(f"one_frame{_suffix}", Stored(frames=1, fps=None, check=upright))
    def one_frame(path: Path) -> None:
        path.write_bytes(sound_video(path.suffix, 1))


@case("starts_late.ts", Stored(check=counted))
def starts_late(path: Path) -> None:
    copy_streams(path, after=("-output_ts_offset", "1000"))


@case("starts_late.mkv", Stored(check=counted))
def starts_late_mkv(path: Path) -> None:
    copy_streams(path, after=("-output_ts_offset", "1000"))


@case("starts_before_zero.mkv", Stored(check=counted))
def starts_before_zero(path: Path) -> None:
    copy_streams(path, after=("-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled"))


@case("starts_before_zero.mp4", Stored(check=counted))
def starts_before_zero_mp4(path: Path) -> None:
    copy_streams(path, after=("-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled", "-use_editlist", "0"))


def _second_half(frames: Frames) -> None:
    np.testing.assert_allclose(grey_levels(frames), np.arange(5, 12) * LUMA_STEP * 255 / 219, atol=8)


@case("edit_list.mp4", Stored(frames=7, check=_second_half))
def edit_list(path: Path) -> None:
    """All 12 frames are in the file, and its edit list says to show the last 7."""
    copy_streams(path, "-ss", "0.2")


@case("joined.ts", Stored(frames=24))
def joined(path: Path) -> None:
    """Two recordings one after the other, as `cat` joins them: the clock starts again in the middle."""
    path.write_bytes(sound_video(".ts") * 2)


@case("joined.mpg", Stored(frames=24))
def joined_mpg(path: Path) -> None:
    path.write_bytes(sound_video(".mpg") * 2)


@case("dropped_frames.avi", Stored(frames=40, size=(320, 240)))
def dropped_frames(path: Path) -> None:
    """A real clip of J-HMDB: its header declares 48 slots at 30 fps; 40 of them hold a frame."""
    shutil.copy(min((REAL_VIDEOS / "clap").glob("Song_I_Can*_med_3.avi")), path)


@case("held.gif", Stored(frames=12, fps=Fraction(120, 31)))
def held(path: Path) -> None:
    """The last of 12 frames at 10 a second is shown for 2 s."""
    make_video(path, "-final_delay", "200", fps=10)


@case("uneven.mp4", Stored(frames=900, size=(32, 32), fps=Fraction(299, 10)))
def uneven_rate(path: Path) -> None:
    """29.9 a second is no standard rate, and near one: taken for 29.97, some frames would be doubled."""
    make_video(path, frames=900, size="32x32", fps="299/10")


@case("high_speed.mp4", Stored(frames=48, fps=Fraction(480)))
def high_speed(path: Path) -> None:
    make_video(path, frames=48, fps=480)


@case("hidden_frames.webm", Stored(frames=50, size=(160, 120)))
def hidden_frames(path: Path) -> None:
    """Frames that are never shown, only predicted from: more packets than frames."""
    with tempfile.TemporaryDirectory() as folder:
        output = ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "25", "-b:v", "300k"]
        for number in ("1", "2"):
            two_pass = ["-pass", number, "-passlogfile", f"{folder}/log"]
            make_video(path, *output, *two_pass, frames=50, size="160x120")
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 50


@case("changes_size.ts", Failed("transcode", "changes its size"))
def changes_size(path: Path) -> None:
    make_video(path, "-bf", "0")
    first = path.read_bytes()
    make_video(path, "-bf", "0", "-output_ts_offset", "0.48", size="96x64")
    path.write_bytes(first + path.read_bytes())


# Streams


def with_inputs(name: str, inputs: Sequence[str], *output: str) -> None:
    """Register the picture that counts beside other streams."""
    source = ["-f", "lavfi", "-i", counting(), *inputs, "-t", str(N_FRAMES / 25), "-pix_fmt", "yuv420p", *output]
    CASES.append(Case(name, lambda path: run_ffmpeg_tool([*source, path]), Stored(check=counted)))


_SINE = ("-f", "lavfi", "-i", "sine=duration=0.48")
_BLUE = ("-f", "lavfi", "-i", "color=blue:size=320x240:rate=10:duration=0.48")
with_inputs("with_audio.mp4", _SINE)
with_inputs("audio_first.mkv", _SINE, "-map", "1", "-map", "0")
with_inputs("two_videos.mp4", _BLUE, "-map", "0", "-map", "1")
with_inputs(
    "cover_and_video.mp4", _BLUE, "-map", "0", "-map", "1", "-c:v:1", "mjpeg", "-disposition:v:1", "attached_pic"
)


@case("longer_audio.mkv", Stored(check=counted))
def longer_audio(path: Path) -> None:
    """The sound runs on for 2 s after the last frame; the file's duration is the sound's."""
    source = ["-f", "lavfi", "-t", "0.48", "-i", counting(), "-f", "lavfi", "-i", "sine=duration=2.5"]
    run_ffmpeg_tool([*source, "-pix_fmt", "yuv420p", path])


@case("late_video.mkv", Stored(check=counted))
def late_video(path: Path) -> None:
    """The picture begins 1 s after the sound."""
    source = ["-itsoffset", "1", "-f", "lavfi", "-t", "0.48", "-i", counting(), "-f", "lavfi", "-i", "sine=duration=2"]
    run_ffmpeg_tool([*source, "-pix_fmt", "yuv420p", path])


@case("subtitles.mkv", Stored(check=counted))
def subtitles(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.srt"
        text.write_text("1\n00:00:00,000 --> 00:00:00,400\nHello\n")
        run_ffmpeg_tool(["-f", "lavfi", "-t", "0.48", "-i", counting(), "-i", text, "-pix_fmt", "yuv420p", path])


# Colour

_COLOUR = (200, 60, 40)


def colour(name: str, convert: str, *output: str, outcome: Stored | None = None, size: str = "64x48") -> None:
    red, green, blue = _COLOUR
    source = f"color=0x{red:02x}{green:02x}{blue:02x}:size={size}:rate=25,format=gbrp,{convert}"
    made = ["-f", "lavfi", "-i", source, "-frames:v", str(N_FRAMES), *output]
    default = Stored(size=tuple(map(int, size.split("x"))), check=solid(*_COLOUR))  # type: ignore[arg-type]
    CASES.append(Case(name, lambda path: run_ffmpeg_tool([*made, path]), outcome or default))


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


NAMES = [
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
for _name in NAMES:

    @case(_name, Stored(check=counted))
    def named(path: Path) -> None:
        path.write_bytes(sound_video())
