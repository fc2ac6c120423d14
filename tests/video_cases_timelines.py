"""Odd videos: timelines with gaps, jumps, odd rates and odd starts, and files with other streams."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from video_cases import (
    CASES,
    LUMA_STEP,
    N_FRAMES,
    REAL_VIDEOS,
    Case,
    Failed,
    Frames,
    Stored,
    case,
    copy_streams,
    counted,
    counting,
    counts,
    grey_levels,
    make_video,
    run_ffmpeg_tool,
    sound_video,
    upright,
)

# Timelines

VARIABLE = "setpts='if(lt(N,6),N,N+30)/(25*TB)'"
# Six frames of 1/25 s, 1.2 s during which nothing changes, six more, and the end.
VARIABLE_TIMES = tuple((n if n < 6 else n + 30) / 25 for n in range(N_FRAMES + 1))


def varies(name: str, *output: str) -> None:
    outcome = Stored(fps=None, times=VARIABLE_TIMES, check=counted)
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
    """The file holds 12 frames, and its edit list shows the last 7."""
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


@case("held.gif", Stored(frames=12, fps=Fraction(120, 31), times=(*(n / 10 for n in range(12)), 3.1)))
def held(path: Path) -> None:
    """The last of 12 frames at 10 a second is shown for 2 s."""
    make_video(path, "-final_delay", "200", fps=10)


@case("uneven.mp4", Stored(frames=900, size=(32, 32), fps=Fraction(299, 10)))
def uneven_rate(path: Path) -> None:
    """29.9 frames a second is near a standard rate: at 29.97, some frames would be doubled."""
    make_video(path, frames=900, size="32x32", fps="299/10")


@case("high_speed.mp4", Stored(frames=48, fps=Fraction(480)))
def high_speed(path: Path) -> None:
    make_video(path, frames=48, fps=480)


@case("hidden_frames.webm", Stored(frames=50, size=(160, 120)))
def hidden_frames(path: Path) -> None:
    """Hidden frames that serve for prediction only, so that there are more packets than frames."""
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
    """Register the test picture beside other streams."""
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
