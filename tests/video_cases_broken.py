"""Odd videos: files that are no video, are incomplete, or can't be opened."""

from __future__ import annotations

import os
import random
from pathlib import Path

import av
from video_cases import (
    CASES,
    N_FRAMES,
    Case,
    Failed,
    Stored,
    case,
    counted,
    make_video,
    run_ffmpeg_tool,
    sound_video,
)


def cut_in_half(path: Path, *output: str) -> None:
    """The first half of the bytes of a video whose frames have about equal sizes."""
    make_video(path, "-g", "1", *output, size="160x120")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


_CUT = Failed("transcode", "frames could be decoded (truncated or damaged)")
CASES += [
    Case("cut.avi", lambda path: cut_in_half(path, "-c:v", "mpeg4", "-q:v", "2"), _CUT),
    Case("cut.mkv", cut_in_half, _CUT),
    Case("cut_faststart.mp4", lambda path: cut_in_half(path, "-movflags", "+faststart"), _CUT),
    Case("cut_index_at_end.mp4", cut_in_half, Failed("probe", "cut short")),
    # A transport stream declares no duration, so its end is taken as the end of the video.
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
    """The page that a download stores where a server answers an error with status 200."""
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
    """Intact boxes with noise in place of the frames."""
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
