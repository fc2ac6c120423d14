"""Settings that decide how the videos of a data set are stored."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator

from vclimb.pipeline.codecs.encoded import MAX_SIDE, MIN_SIDE
from vclimb.pipeline.errors import SettingsError

# Length of an H.264 group of pictures, each decodable alone: a clip of 8 frames touches at most 8 groups.
GOP_FRAMES = 12


@dataclass(frozen=True)
class VideoCodec:
    """A codec of stored videos."""

    encoder: str  # ffmpeg's name of the encoder.
    best: int  # Lowest quality number.
    default: int  # Quality number where none is given.
    worst: int  # Highest quality number.
    multiple: int  # Number of which both sides in pixels are multiples.
    b_frames: int  # B-frames between two other frames where no number is given.
    most_b_frames: int  # Largest number of B-frames between two other frames.


CODECS = {
    "jpeg": VideoCodec("mjpeg", 2, 5, 31, multiple=2, b_frames=0, most_b_frames=0),
    "h264": VideoCodec("libx264", 0, 22, 51, multiple=16, b_frames=3, most_b_frames=GOP_FRAMES - 2),
}


# No large exponent: the fraction 1e999999999 would take hours to compute.
_RATE = re.compile(r"[+-]?(\d{1,9}/\d{1,9}|(\d{1,9}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,2})?)", re.ASCII | re.IGNORECASE)


def exact_rate(rate: object) -> Fraction:
    """Frames a second as an exact fraction. Raises a ValueError unless given a fraction, or a number as text."""
    if isinstance(rate, Fraction):
        return rate
    fraction = _fraction_of(rate) if isinstance(rate, str) else None
    if fraction is None:
        raise ValueError(f"{ascii(rate)[:40]} is not a number of frames a second, such as '25' or '30000/1001'")
    return fraction


@lru_cache(maxsize=1024)  # a million videos have a few rates
def _fraction_of(rate: str) -> Fraction | None:
    try:
        return Fraction(rate) if _RATE.fullmatch(rate) else None
    except ZeroDivisionError:
        return None


Rate = Annotated[Fraction, BeforeValidator(exact_rate)]
"""Frames a second, read from text."""


@dataclass(frozen=True)
class EncodeSettings:
    """Settings that decide how every video of a data set is stored. All videos of a data set share them."""

    codec: str = "jpeg"  # `jpeg` (motion JPEG, every frame stands alone) or `h264` (12-frame closed groups).
    quality: int = 5  # Quality on ffmpeg's scale: 2 (best) to 31 for JPEG, CRF 0 (lossless) to 51 for H.264.
    short_side: int = 256  # Short side in pixels that larger videos are scaled down to.
    fps: Rate | None = None  # Frames a second. None: each source frame, at the source's average rate.
    max_frames: int | None = None  # Greatest number of frames stored of a video. None: all.
    keep_truncated: bool = False  # Whether to store what decodes of a damaged video rather than list it as failed.
    b_frames: int = 0  # B-frames of H.264 between two other frames; a clip that doesn't show them doesn't decode them.

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise SettingsError(f"codec {self.codec!r} is not known; allowed: {', '.join(CODECS)}")
        codec = CODECS[self.codec]
        if not codec.best <= self.quality <= codec.worst:
            allowed = f"{self.codec} takes {codec.best} (best) to {codec.worst}"
            raise SettingsError(f"quality {self.quality} is out of range; {allowed}")
        if not MIN_SIDE <= self.short_side <= MAX_SIDE:
            raise SettingsError(f"short side {self.short_side} is out of range; allowed: {MIN_SIDE} to {MAX_SIDE} px")
        if self.fps is not None and not 0 < self.fps <= 240:
            raise SettingsError(f"fps {self.fps} is out of range; allowed: above 0, up to 240")
        if self.max_frames is not None and self.max_frames < 1:
            raise SettingsError(f"max frames {self.max_frames} is out of range; allowed: 1 or more")
        if not 0 <= self.b_frames <= codec.most_b_frames:
            allowed = f"takes 0 to {codec.most_b_frames}" if codec.most_b_frames else "has none"
            raise SettingsError(f"b frames {self.b_frames} is out of range; {self.codec} {allowed}")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fps": None if self.fps is None else str(self.fps)}

    def digest(self) -> str:
        """SHA-256 of the settings as canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def difference(self, other: EncodeSettings) -> list[str]:
        """A line for each setting that differs: `name: VALUE before, VALUE now`."""
        before, now = self.to_json(), other.to_json()
        return [f"{name}: {before[name]} before, {now[name]} now" for name in before if before[name] != now[name]]


def parse_rate(rate: str | float | Fraction | None) -> Fraction | None:
    """Frames a second as an exact fraction. Raises a SettingsError unless given a number or a fraction as text."""
    if rate is None:
        return None
    try:
        return exact_rate(rate if isinstance(rate, Fraction) else str(rate)).limit_denominator(1001)
    except ValueError:
        raise SettingsError(f"fps {rate!r} is not a number; write e.g. 12, 29.97 or 30000/1001") from None
