"""How the frames of exemplars are encoded: codecs with their number and short side, such as `h264:24@128`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Codec, Where, plain_number
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.encoded import MAX_SIDE, MIN_SIDE, EncodedClip
from vclimb.pipeline.codecs.registry import codecs
from vclimb.pipeline.errors import SettingsError

_SPEC = re.compile(r"(?P<name>[^:@]*)(:(?P<number>[^@]*))?(@(?P<side>.*))?", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class SourceFrames:
    """Stored frames that are to be encoded as an exemplar.

    Attributes:
        where: Describes, for an error message, where the frame at a place of the clip is stored.
    """

    clip: EncodedClip
    width: int
    height: int
    where: Where

    @cached_property
    def pixels(self) -> Pixels:
        """(K, height, width, 3) uint8 RGB, decoded at the first use."""
        return decode_clip(self.clip, self.width, self.height, self.where)


@dataclass(frozen=True)
class EncodedFrames:
    """The frames of an exemplar, encoded."""

    clip: EncodedClip
    width: int
    height: int


@dataclass(frozen=True)
class ExemplarCodec:
    """A codec with its settings. `str` gives the canonical spec, which `parse_codec` reads back.

    Attributes:
        number: Value on the codec's scale; 0 where it has none.
        short_side: Short side in pixels that larger frames are scaled down to; None: keep every size.
    """

    codec: Codec
    number: float
    short_side: int | None

    @property
    def clip_codec(self) -> str:
        """Kind of the encoded bytes, as `EncodedClip.codec` names it."""
        return self.codec.clip_codec

    def encode(self, source: SourceFrames) -> EncodedFrames:
        """Encode K frames, K >= 1. The same frames give the same bytes.

        Raises:
            FrameDamagedError: A frame of the source doesn't decode.
            SettingsError: The codec can't take the source.
        """
        clip = self.codec.encode_stored(source.clip, lambda: self.reference(source), self.number)
        return EncodedFrames(clip, *_scaled_size(source.width, source.height, self.short_side))

    def reference(self, source: SourceFrames) -> Pixels:
        """The pixels that are encoded, (K, H, W, 3) uint8 at the size of the exemplar: to measure the loss against."""
        return scaled_down(source.pixels, self.short_side)

    def __str__(self) -> str:
        number = "" if self.codec.scale is None else f":{plain_number(self.number)}"
        return self.codec.name + number + ("" if self.short_side is None else f"@{self.short_side}")


def scaled_down(pixels: Pixels, short_side: int | None) -> Pixels:
    """Scale frames (K, H, W, 3) down to a short side, antialiased, with the same aspect.

    Frames that are no larger, and all frames where the short side is None, stay as they are.
    """
    _, height, width, _ = pixels.shape
    size = _scaled_size(width, height, short_side)
    if size == (width, height):
        return pixels
    import torch  # here, because reading the name of a codec must not take the seconds that loading torch takes

    frames = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    frames = torch.nn.functional.interpolate(frames, size[::-1], mode="bilinear", antialias=True)
    scaled: Pixels = frames.permute(0, 2, 3, 1).contiguous().numpy()
    return scaled


def _scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None or min(width, height) <= short_side:
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


def parse_codec(spec: str) -> ExemplarCodec:
    """Read a spec `NAME[:NUMBER][@SHORTSIDE]`, such as `copy`, `jpeg`, `jpeg:75` or `h264:24@128`.

    Without a number, the codec's default is taken.

    Raises:
        SettingsError: The codec is unknown, the number or short side is out of range, or the installed packages lack
            the codec.
    """
    match = _SPEC.fullmatch(spec)
    assert match is not None, "the pattern takes any text"
    known = codecs()
    if (codec := known.get(match["name"])) is None:
        other_names = {other: name for name, codec in known.items() for other in (name, *codec.also_called)}
        near = difflib.get_close_matches(match["name"].lower(), other_names, 1)
        hint = f"did you mean {other_names[near[0]]}? " if near else ""
        raise SettingsError(f"codec {spec!r} is not known; {hint}allowed: {_allowed()}")
    parsed = ExemplarCodec(codec, _number(spec, codec, match["number"]), _short_side(spec, codec, match["side"]))
    if reason := codec.lacking():
        raise SettingsError(f"codec {spec!r} can't be used here: {reason}; use another one, such as jpeg:75")
    return parsed


def _allowed() -> str:
    specs = [f"{name}:N ({codec.scale})" if codec.scale else name for name, codec in codecs().items()]
    fixed = [name for name, codec in codecs().items() if not codec.resizes]
    return f"{', '.join(specs)}; each but {', '.join(fixed)} also with a short side in pixels, such as jpeg:75@128"


def _number(spec: str, codec: Codec, text: str | None) -> float:
    scale = codec.scale
    if scale is None:
        if text is not None:
            raise SettingsError(f"codec {spec!r}: {codec.name} takes no number; write {codec.name}")
        return 0.0
    if text is None:
        return float(scale.default)
    pattern = r"\d{1,9}" if scale.is_whole else r"\d{1,9}(\.\d{1,9})?"
    if not re.fullmatch(pattern, text, re.ASCII) or not scale.low <= float(text) <= scale.high:
        kind = "a whole number" if scale.is_whole else "a number"
        low, high, default = map(plain_number, (scale.low, scale.high, scale.default))
        raise SettingsError(
            f"codec {spec!r}: {scale.name} {text!r} is not allowed; {codec.name} takes {kind} from {low} to {high}, "
            f"such as {codec.name}:{default}"
        )
    return float(text)


def _short_side(spec: str, codec: Codec, text: str | None) -> int | None:
    if text is None:
        return None
    if not codec.resizes:
        raise SettingsError(f"codec {spec!r}: {codec.name} takes no short side; write {codec.name}, or jpeg:75@128")
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not MIN_SIDE <= int(text) <= MAX_SIDE:
        raise SettingsError(
            f"codec {spec!r}: short side {text!r} is not allowed; write pixels from {MIN_SIDE} to {MAX_SIDE}, such as "
            f"{spec.partition('@')[0]}@128"
        )
    return int(text)
