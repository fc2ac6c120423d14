"""Which frames of an instance an exemplar keeps.

A new rule is a small class that inherits `FrameChoice`, which handles K, and is entered in `FRAME_CHOICES`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.clips.dice import bits, key_number
from vclimb.pipeline.clips.sampling import segment_centres
from vclimb.pipeline.dataset.settings import GOP_FRAMES
from vclimb.pipeline.errors import SettingsError

FrameCount = int | Literal["all"]
ReadPixels = Callable[[Indices], Pixels]
"""Function that decodes the frames of rising numbers (m,) within the instance to (m, H, W, 3) uint8 RGB."""

# Side, in pixels, of the grey pictures by which frames are compared.
THUMBNAIL_SIDE = 16
# Frames decoded at once: whole groups of pictures, so that few frames of H.264 shards are decoded twice.
FRAMES_IN_PIECE = 2 * GOP_FRAMES


@dataclass(frozen=True)
class FrameChoice(abc.ABC):
    """A rule that chooses K frames of an instance, or all where it has no more: a pure function of its arguments.

    Attributes:
        count: Number of frames, K, 1 or more, or `all`.
    """

    count: FrameCount

    def __post_init__(self) -> None:
        if self.count != "all" and self.count < 1:
            raise SettingsError(f"frames per video {self.count} is out of range; allowed: 1 or more, or all")

    def n_chosen(self, n_frames: int) -> int:
        """Count the frames that `choose` returns for an instance of `n_frames` frames."""
        return n_frames if self.count == "all" else min(n_frames, self.count)

    def choose(self, n_frames: int, key: str, pixels: ReadPixels) -> Indices:
        """Choose the frames to keep.

        Args:
            n_frames: Number of frames of the instance, 1 or more.
            key: Name of the instance; two instances of one video need two keys.
            pixels: Function that decodes frames of the instance. Only rules that compare frames call it.

        Returns:
            (n_chosen,) int64 in [0, n_frames), rising, each once.
        """
        if n_frames < 1:
            raise ValueError(f"an instance of {n_frames} frames has none to choose from")
        if (count := self.n_chosen(n_frames)) == n_frames:
            return np.arange(n_frames, dtype=np.int64)
        return self._choose(n_frames, count, key, pixels)

    @abc.abstractmethod
    def _choose(self, n_frames: int, count: int, key: str, pixels: ReadPixels) -> Indices:
        """Choose `count` of `n_frames` frames, where `count` is less."""


@dataclass(frozen=True)
class UniformFrames(FrameChoice):
    """The centres of K equal segments, as the benchmark's memory keeps them (Villa et al., CVPR 2022)."""

    def _choose(self, n_frames: int, count: int, key: str, pixels: ReadPixels) -> Indices:
        return segment_centres(np.array(n_frames), count)


@dataclass(frozen=True)
class RandomFrames(FrameChoice):
    """K frames drawn without repetition. The frames for a smaller K are among those for a larger K."""

    seed: int = 0

    def _choose(self, n_frames: int, count: int, key: str, pixels: ReadPixels) -> Indices:
        draws = bits(self.seed, key_number(key, "exemplar frames"), np.arange(n_frames))
        return np.sort(np.argsort(draws, kind="stable")[:count])


@dataclass(frozen=True)
class FirstFrames(FrameChoice):
    """The first K frames."""

    def _choose(self, n_frames: int, count: int, key: str, pixels: ReadPixels) -> Indices:
        return np.arange(count, dtype=np.int64)


@dataclass(frozen=True)
class MiddleFrame(FrameChoice):
    """The single frame in the middle, for any K."""

    def n_chosen(self, n_frames: int) -> int:
        return 1

    def _choose(self, n_frames: int, count: int, key: str, pixels: ReadPixels) -> Indices:
        return segment_centres(np.array(n_frames), 1)


@dataclass(frozen=True)
class DiverseFrames(FrameChoice):
    """The K frames that differ most, by farthest-point selection (Gonzalez, 1985) on grey thumbnails.

    Starts from the middle frame and adds, each time, the frame that differs most from the nearest of those chosen.
    Of frames that differ equally, the one farthest in time from those chosen is added, so that a still video is
    covered evenly. No choice of K frames can more than halve the largest distance of a frame from the nearest chosen.
    """

    def _choose(self, n_frames: int, count: int, key: str, pixels: ReadPixels) -> Indices:
        pieces = [
            thumbnails(_read(pixels, np.arange(start, min(start + FRAMES_IN_PIECE, n_frames), dtype=np.int64)))
            for start in range(0, n_frames, FRAMES_IN_PIECE)
        ]
        return np.sort(farthest_points(np.concatenate(pieces), count))


FRAME_CHOICES: dict[str, Callable[[FrameCount, int], FrameChoice]] = {
    "uniform": lambda count, seed: UniformFrames(count),
    "random": RandomFrames,
    "first": lambda count, seed: FirstFrames(count),
    "middle": lambda count, seed: MiddleFrame(count),
    "diverse": lambda count, seed: DiverseFrames(count),
}
"""Name of a rule -> function that makes the rule from K and a seed."""


def parse_frame_choice(name: str, count: FrameCount, seed: int = 0) -> FrameChoice:
    """Make the rule of a name, for K frames of a video.

    Raises:
        SettingsError: there is no such rule, or K is out of range.
    """
    if name not in FRAME_CHOICES:
        raise SettingsError(f"frame choice {name!r} is not known; allowed: {', '.join(FRAME_CHOICES)}")
    return FRAME_CHOICES[name](count, seed)


def parse_frame_count(text: str) -> FrameCount:
    """Read K from a text: `8`, or `all`.

    Raises:
        SettingsError: the text is neither a number of 1 or more nor `all`.
    """
    word = text.strip().lower()
    if word == "all":
        return "all"
    if not (word.isascii() and word.isdecimal() and len(word) <= 18 and int(word) >= 1):
        raise SettingsError(f"frames per video {text!r} is not understood; write 1 or more, e.g. 8, or all")
    return int(word)


def thumbnails(frames: Pixels) -> npt.NDArray[np.uint8]:
    """Shrink frames (m, H, W, 3) to flat grey pictures (m, up to 16 * 16), in whole numbers: the same everywhere."""
    height, width = frames.shape[1:3]
    rows, columns = min(THUMBNAIL_SIDE, height), min(THUMBNAIL_SIDE, width)
    tops, lefts = np.arange(rows) * height // rows, np.arange(columns) * width // columns
    sums = np.add.reduceat(frames, tops, axis=1, dtype=np.uint32)
    sums = np.add.reduceat(sums, lefts, axis=2, dtype=np.uint64)
    areas = np.diff(tops, append=height)[:, None] * np.diff(lefts, append=width)
    grey: npt.NDArray[np.uint64] = sums @ np.array([299, 587, 114], np.uint64) // (1000 * areas.astype(np.uint64))
    return grey.astype(np.uint8).reshape(len(frames), -1)


def farthest_points(pictures: npt.NDArray[np.uint8], count: int) -> Indices:
    """Choose the pictures that differ most: (count,) numbers, in the order of choice, of pictures (n, D).

    The first `k` numbers are the choice for `k`.
    """
    n_frames = len(pictures)
    times = np.arange(n_frames)
    chosen = [n_frames // 2]
    difference = np.full(n_frames, np.iinfo(np.int32).max, np.int64)
    distance_in_time = np.full(n_frames, n_frames, np.int64)
    for _ in range(1, count):
        newest = chosen[-1]
        step = pictures.astype(np.int32) - pictures[newest]
        np.minimum(difference, np.einsum("nd,nd->n", step, step), out=difference)
        np.minimum(distance_in_time, np.abs(times - newest), out=distance_in_time)
        # One number for both distances: a chosen frame has 0, any other at least 1.
        chosen.append(int(np.argmax(difference * n_frames + distance_in_time)))
    return np.array(chosen, np.int64)


def _read(pixels: ReadPixels, numbers: Indices) -> Pixels:
    frames = pixels(numbers)
    if frames.dtype != np.uint8 or frames.ndim != 4 or len(frames) != len(numbers) or frames.shape[3] != 3:
        raise ValueError(f"{len(numbers)} frames were asked for, not {frames.dtype} {frames.shape}; needs uint8 RGB")
    return frames
