"""Augmentation of clips: crop boxes and flips, as pure functions of (seed, epoch, item).

An epoch is one for all items, or an array (B,) with one for each.

Multi-scale crop follows temporal segment networks (Wang et al., ECCV 2016, section 3.2, corner cropping and scale
jittering): width and height are random multiples of the short side, at most one scale apart, at one of 13 fixed places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.clips.dice import Integers, Purpose, below, uniform
from vclimb.pipeline.errors import SettingsError

Colours = Literal["none", "colour", "strong"]
"""Change of colours and shapes of clips besides crops and flips (`vclimb.pipeline.stream.colours`)."""

Boxes = npt.NDArray[np.int64]
"""(B, 4) left, top, width and height of crops, in pixels of the stored frame."""

# 13 places (x, y) of a 5x5 grid, in quarters of the space that a crop leaves free.
_PLACES = np.array(
    [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
)


@dataclass(frozen=True)
class Augmentation:
    """Crop, size and flip of the network's input.

    Attributes:
        crop: `multiscale` (training as TSN), `random` (a square of one size at a random place) or `centre`.
        scales: Scales of `multiscale`, as shares of the short side.
        resize_to: Short side in pixels to which `random` and `centre` refer: a crop of 224 from 256.
        flip: Whether half of the clips are mirrored.
        colours: Change of colours and shapes besides crops and flips.
    """

    size: int = 224
    crop: Literal["multiscale", "random", "centre"] = "multiscale"
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    resize_to: int = 256
    flip: bool = True
    colours: Colours = "none"

    def __post_init__(self) -> None:
        if self.crop not in ("multiscale", "random", "centre"):
            raise SettingsError(f"crop {self.crop!r} is not known; allowed: multiscale, random, centre")
        if not 8 <= self.size <= 1024:
            raise SettingsError(f"size {self.size} is out of range; allowed: 8 to 1024 px")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise SettingsError(f"scales {self.scales} are out of range; allowed: above 0, up to 1")
        if self.crop != "multiscale" and self.resize_to < self.size:
            raise SettingsError(
                f"resize to {self.resize_to} px can't hold a crop of {self.size} px; allowed: {self.size} up"
            )

    @classmethod
    def evaluation(cls, size: int = 224) -> Augmentation:
        """Make a centre crop without flip, at the benchmark's ratio of 224 to 256."""
        return cls(size=size, crop="centre", resize_to=round(size * 256 / 224), flip=False)

    def boxes(self, seed: int, epoch: Integers, items: Boxes, widths: Boxes, heights: Boxes) -> Boxes:
        """Choose crop boxes (B, 4) for items (B,) whose frames have widths (B,) and heights (B,) in pixels."""
        short = np.minimum(widths, heights)
        if self.crop == "multiscale":
            crop_width, crop_height = self._scaled_sides(seed, epoch, items, short)
            place = _PLACES[below(len(_PLACES), seed, epoch, Purpose.CROP_PLACE, items)]
            left = place[:, 0] * (widths - crop_width) // 4
            top = place[:, 1] * (heights - crop_height) // 4
        else:
            crop_width = crop_height = np.maximum(1, (short * self.size + self.resize_to // 2) // self.resize_to)
            if self.crop == "random":
                left = below(widths - crop_width + 1, seed, epoch, Purpose.CROP_PLACE, items, 0)
                top = below(heights - crop_height + 1, seed, epoch, Purpose.CROP_PLACE, items, 1)
            else:
                left, top = (widths - crop_width) // 2, (heights - crop_height) // 2
        return np.stack([left, top, crop_width, crop_height], axis=1).astype(np.int64)

    def _scaled_sides(self, seed: int, epoch: Integers, items: Boxes, short: Boxes) -> tuple[Boxes, Boxes]:
        n_scales = len(self.scales)
        pairs = np.array([(i, j) for i in range(n_scales) for j in range(n_scales) if abs(i - j) <= 1])
        chosen = pairs[below(len(pairs), seed, epoch, Purpose.CROP_SCALE, items)]
        sides = np.maximum(1, (short[:, None] * np.array(self.scales)).astype(np.int64))
        rows = np.arange(len(short))
        return sides[rows, chosen[:, 0]], sides[rows, chosen[:, 1]]

    def flips(self, seed: int, epoch: Integers, items: Boxes) -> npt.NDArray[np.bool_]:
        """Choose which of the items (B,) are mirrored: (B,) bool."""
        if not self.flip:
            return np.zeros(len(items), np.bool_)
        return uniform(seed, epoch, Purpose.FLIP, items) < 0.5
