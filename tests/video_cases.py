"""Odd videos, made by the real ffmpeg or byte by byte, and the expected outcome of each.

Most show one picture, so that one check tells whether it came out right: the upper left quarter is red, and
the rest is grey, brighter from frame to frame. A flip, a turn, a lost or a doubled frame all show.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg

Frames = npt.NDArray[np.uint8]
"""(n, height, width, 3) RGB."""

N_FRAMES = 12
LUMA_STEP = 16
REAL_VIDEOS = Path(__file__).parents[1] / "../shared/data/jhmdb21"


def run_ffmpeg_tool(args: Sequence[str | Path]) -> None:
    """Run the real ffmpeg, and fail with its messages."""
    command = [find_ffmpeg().path, "-y", "-nostdin", "-hide_banner", "-v", "error", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, f"{command} failed: {done.stderr}"


def make_video(path: Path, *output: str, frames: int = N_FRAMES, size: str = "64x48", fps: int | str = 25) -> Path:
    """Write a moving test pattern, and make its folders; further arguments choose codec and muxer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = f"testsrc2=size={size}:rate={fps}"
    run_ffmpeg_tool(["-f", "lavfi", "-i", picture, "-frames:v", str(frames), *output, f"file:{path}"])
    return path


# Expected outcomes


@dataclass(frozen=True)
class Failed:
    """The video is a row of errors.jsonl with this stage and these words in the reason."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Stored:
    """The video is stored with this number of frames, this upright size in square pixels, rate, and times.

    `fps` None: any rate. `times` None: the frames are even; else the time of each frame, and the end of the last one.
    """

    frames: int = N_FRAMES
    size: tuple[int, int] = (64, 48)
    fps: Fraction | None = Fraction(25)
    times: tuple[float, ...] | None = None
    check: Callable[[Frames], None] | None = None


@dataclass(frozen=True)
class Case:
    """An odd video: a file name, a function that makes the file, and the expected outcome."""

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


# Actual outcomes


def reasons(out: Path) -> dict[str, str]:
    """Path of each video that failed: `stage: reason`."""
    return {error.path: f"{error.stage}: {error.reason}" for error in StoredDataset.open(out).catalog.errors}


def frames_of(dataset: StoredDataset, video: StoredVideo) -> Frames:
    return np.stack([dataset.decode_frame(video, number) for number in range(video.n_frames)])


# Checks of the stored frames


def grey_levels(frames: Frames) -> npt.NDArray[np.float64]:
    """Mean brightness of the lower right quarter of each frame."""
    _, height, width, _ = frames.shape
    return frames[:, height // 2 + height // 8 :, width // 2 + width // 8 :].mean(axis=(1, 2, 3))


def counted(frames: Frames) -> None:
    """Check the test picture: upright, and every frame once, in order."""
    expected = np.arange(len(frames)) * LUMA_STEP * 255 / 219
    np.testing.assert_allclose(grey_levels(frames), expected, atol=8)
    upright(frames)


def upright(frames: Frames) -> None:
    """Check for red in the upper left quarter and grey in the other three."""
    _, height, width, _ = frames.shape
    for row in (0, 1):
        for column in (0, 1):
            top, left = row * height // 2 + height // 8, column * width // 2 + width // 8
            red, green, blue = frames[-1, top : top + height // 4 or None, left : left + width // 4].mean(axis=(0, 1))
            is_red = red > green + 100 and red > blue + 100
            is_grey = max(red, green, blue) - min(red, green, blue) < 24
            assert is_red if (row, column) == (0, 0) else is_grey, (row, column, red, green, blue)


def solid(red: int, green: int, blue: int, tolerance: int = 5) -> Callable[[Frames], None]:
    """Check that every pixel has this colour, within a few levels."""

    def check(frames: Frames) -> None:
        np.testing.assert_allclose(frames.mean(axis=(0, 1, 2)), (red, green, blue), atol=tolerance)

    return check


def row_contrast(frames: Frames) -> float:
    """Mean difference between one row and the next: high where two fields of a moving picture are interleaved."""
    luma = frames.astype(np.float64).mean(axis=3)
    return float(np.abs(np.diff(luma, axis=1)).mean())


# The test picture


def counting(size: str = "64x48", fps: str = "25") -> str:
    """The lavfi source of the test picture."""

    def quarter(inside: str, outside: str) -> str:
        return f"'if(lt(X,W/2)*lt(Y,H/2),{inside},{outside})'"

    planes = f"lum={quarter('81', f'16+{LUMA_STEP}*N')}:cb={quarter('90', '128')}:cr={quarter('240', '128')}"
    return f"color=black:size={size}:rate={fps},format=yuv444p,geq={planes},setparams=colorspace=smpte170m:range=tv"


def count_to(path: Path, *output: str, frames: int = N_FRAMES, size: str = "64x48", filters: str = "null") -> None:
    """Write the test picture."""
    source = f"{counting(size)},{filters}"
    if "-pix_fmt" not in output:
        output = ("-pix_fmt", "yuv420p", *output)
    run_ffmpeg_tool(["-f", "lavfi", "-i", source, "-frames:v", str(frames), *output, f"file:{path}"])


def counts(name: str, *output: str, outcome: Stored | None = None, size: str = "64x48", filters: str = "null") -> None:
    """Register the test picture in a codec and container."""
    default = Stored(size=tuple(map(int, size.split("x"))), check=counted)  # type: ignore[arg-type]
    CASES.append(Case(name, lambda path: count_to(path, *output, size=size, filters=filters), outcome or default))


@functools.cache
def sound_video(suffix: str = ".mp4", frames: int = N_FRAMES, *output: str) -> bytes:
    """The bytes of an intact video."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        count_to(path, *output, frames=frames)
        return path.read_bytes()


def copy_streams(path: Path, *before: str, suffix: str = ".mp4", after: Sequence[str] = ()) -> None:
    """Copy an intact video's packets to another file, with options for the input and the output."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"source{suffix}"
        source.write_bytes(sound_video(suffix))
        run_ffmpeg_tool([*before, "-i", source, "-c", "copy", *after, f"file:{path}"])
