"""How an exemplar's frames are encoded: codecs by name, such as `jpeg:75` or `h264:24@128`."""

from __future__ import annotations

import abc
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from vclimb.memory.codec_frames import EncodedFrames, SourceFrames, scaled_down
from vclimb.memory.store.exemplar import one_unit_a_frame
from vclimb.pipeline.clips.provider import EncodedClip
from vclimb.pipeline.codecs import encode_images as codec_images
from vclimb.pipeline.codecs import encode_videos as codec_videos
from vclimb.pipeline.codecs.decode import Pixels
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.transcode.encode import MAX_SIDE, MIN_SIDE


class ExemplarCodec(abc.ABC):
    """Encodes the frames of exemplars. `str(codec)` is its canonical name, which `parse_codec` reads back.

    The same frames give the same bytes.
    """

    @property
    @abc.abstractmethod
    def clip_codec(self) -> str:
        """The codec of the clips that come out, as `EncodedClip` names it."""

    @abc.abstractmethod
    def encode(self, source: SourceFrames) -> EncodedFrames:
        """Encode K frames, K >= 1.

        Raises:
            FrameDamagedError: a frame of the source doesn't decode.
            SettingsError: this codec can't take the source.
        """

    @abc.abstractmethod
    def reference(self, source: SourceFrames) -> Pixels:
        """(K, H, W, 3) uint8: what encoding starts from, at the size that comes out of it. For measuring its loss."""


@dataclass(frozen=True)
class CopyCodec(ExemplarCodec):
    """Keeps the data set's own JPEG files: no work and no loss."""

    @property
    def clip_codec(self) -> str:
        return "jpeg"

    def encode(self, source: SourceFrames) -> EncodedFrames:
        if source.clip.codec != "jpeg":
            raise SettingsError(
                f"codec copy keeps the JPEG frames of a data set, and this one holds {source.clip.codec}; use h264 or "
                "another codec, or prepare the data set with --codec jpeg"
            )
        units = [source.clip.units[unit] for unit in source.clip.unit.tolist()]
        return EncodedFrames(one_unit_a_frame("jpeg", units), source.width, source.height)

    def reference(self, source: SourceFrames) -> Pixels:
        return source.pixels

    def __str__(self) -> str:
        return "copy"


class Scale(NamedTuple):
    """The number that sets how good and how large a codec's frames are.

    Attributes:
        name: of the number, for people.
        low: the lowest that is allowed.
        default: what is taken where none is given.
        high: the highest that is allowed.
        is_whole: it has no fraction.
    """

    name: str
    low: float
    default: float
    high: float
    is_whole: bool = True

    def __str__(self) -> str:
        return f"{self.name} {_text(self.low)} to {_text(self.high)}"


class CodecFamily(NamedTuple):
    """A way to encode pixels.

    Attributes:
        name: before the colon.
        clip_codec: of the clips that come out.
        scale: of its number; None where it takes none.
        encode: from pixels (K, H, W, 3) and that number.
        lacking: what the installed packages lack for it, as the end of a sentence, or None.
    """

    name: str
    clip_codec: str
    scale: Scale | None
    encode: Callable[[Pixels, float], EncodedClip]
    lacking: Callable[[], str | None]


@dataclass(frozen=True)
class PixelCodec(ExemplarCodec):
    """Encodes decoded frames anew.

    Attributes:
        family: how.
        number: on the family's scale; 0 where it has none.
        short_side: pixels that larger frames are scaled down to; None keeps every size.
    """

    family: CodecFamily
    number: float
    short_side: int | None

    @property
    def clip_codec(self) -> str:
        return self.family.clip_codec

    def encode(self, source: SourceFrames) -> EncodedFrames:
        pixels = self.reference(source)
        return EncodedFrames(self.family.encode(pixels, self.number), pixels.shape[2], pixels.shape[1])

    def reference(self, source: SourceFrames) -> Pixels:
        return source.pixels if self.short_side is None else scaled_down(source.pixels, self.short_side)

    def __str__(self) -> str:
        number = "" if self.family.scale is None else f":{_text(self.number)}"
        return self.family.name + number + ("" if self.short_side is None else f"@{self.short_side}")


def _nothing() -> None:
    """What a codec lacks whose packages are always whole."""


FAMILIES = {
    family.name: family
    for family in (
        CodecFamily("jpeg", "jpeg", Scale("quality", 1, 75, 100), codec_images.encode_jpeg, _nothing),
        CodecFamily(
            "webp",
            "webp",
            Scale("quality", 1, 75, 100),
            codec_images.encode_webp,
            partial(codec_images.lacking, "WEBP"),
        ),
        CodecFamily(
            "avif", "avif", Scale("quality", 1, 60, 99), codec_images.encode_avif, partial(codec_images.lacking, "AVIF")
        ),
        CodecFamily(
            "jxl",
            "jxl",
            Scale("distance", 0.1, 1, 15, is_whole=False),
            codec_images.encode_jxl,
            partial(codec_images.lacking, "JPEGXL"),
        ),
        CodecFamily(
            "h264",
            "h264",
            Scale("CRF", 1, 20, 51),
            codec_videos.encode_h264,
            partial(codec_videos.lacking, "libx264", "h264"),
        ),
        CodecFamily(
            "h265",
            "hevc",
            Scale("CRF", 1, 24, 51),
            codec_videos.encode_h265,
            partial(codec_videos.lacking, "libx265", "hevc"),
        ),
        CodecFamily(
            "av1",
            "av1",
            Scale("CRF", 1, 35, 63),
            codec_videos.encode_av1,
            partial(codec_videos.lacking, "libsvtav1", "av1"),
        ),
        CodecFamily("raw", "ppm", None, codec_images.encode_ppm, _nothing),
    )
}
# Other names that people know a family by.
_ALSO = {"jpg": "jpeg", "jpegxl": "jxl", "avc": "h264", "x264": "h264", "hevc": "h265", "x265": "h265", "ppm": "raw"}
_SPEC = re.compile(r"(?P<name>[^:@]*)(:(?P<number>[^@]*))?(@(?P<side>.*))?", re.ASCII | re.DOTALL)


def parse_codec(spec: str) -> ExemplarCodec:
    """The codec of a name: `copy`, `raw`, or `FAMILY:NUMBER`, the latter two with an optional `@SHORTSIDE`.

    Families and what their numbers mean: see `FAMILIES`. Without a number, the family's default is taken.

    Raises:
        SettingsError: there is no such codec, its number or short side is out of range, or the installed packages
            lack it.
    """
    match = _SPEC.fullmatch(spec)
    assert match is not None, "the pattern takes any text"
    name, number, side = match["name"], match["number"], match["side"]
    if name == "copy":
        if number is not None or side is not None:
            raise SettingsError(
                f"codec {spec!r}: copy keeps frames as they are, and takes neither number nor size; write copy, or "
                "another codec, such as jpeg:75@128"
            )
        return CopyCodec()
    if (family := FAMILIES.get(name)) is None:
        near = _ALSO.get(name.lower()) or next(
            iter(difflib.get_close_matches(name.lower(), ["copy", *FAMILIES], 1)), None
        )
        hint = f"did you mean {near}? " if near else ""
        raise SettingsError(f"codec {spec!r} is not known; {hint}allowed: {_allowed()}")
    short_side = None if side is None else _short_side(spec, side)
    codec = PixelCodec(family, _number(spec, family, number), short_side)
    if reason := family.lacking():
        raise SettingsError(f"codec {spec!r} can't be used here: {reason}; use another one, such as jpeg:75")
    return codec


def _allowed() -> str:
    numbered = (f"{family.name}:N ({family.scale})" for family in FAMILIES.values() if family.scale)
    return f"copy, {', '.join(numbered)}, raw; each but copy also with a short side in pixels, such as jpeg:75@128"


def _number(spec: str, family: CodecFamily, text: str | None) -> float:
    scale = family.scale
    if scale is None:
        if text is not None:
            raise SettingsError(
                f"codec {spec!r}: {family.name} takes no number; write {family.name} or {family.name}@128"
            )
        return 0.0
    if text is None:
        return float(scale.default)
    pattern = r"\d{1,9}" if scale.is_whole else r"\d{1,9}(\.\d{1,9})?"
    if not re.fullmatch(pattern, text, re.ASCII) or not scale.low <= float(text) <= scale.high:
        kind = "a whole number" if scale.is_whole else "a number"
        raise SettingsError(
            f"codec {spec!r}: {scale.name} {text!r} is not allowed; {family.name} takes {kind} from {_text(scale.low)} "
            f"to {_text(scale.high)}, such as {family.name}:{_text(scale.default)}"
        )
    return float(text)


def _short_side(spec: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not MIN_SIDE <= int(text) <= MAX_SIDE:
        raise SettingsError(
            f"codec {spec!r}: short side {text!r} is not allowed; write pixels from {MIN_SIDE} to {MAX_SIDE}, such as "
            f"{spec.partition('@')[0]}@128"
        )
    return int(text)


def _text(number: float) -> str:
    """A number without a needless fraction."""
    return str(int(number)) if number == int(number) else str(number)
