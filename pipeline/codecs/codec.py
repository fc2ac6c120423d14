"""The interface of a codec. One file holds one codec, in both directions: pixels to bytes and bytes to pixels.

To add a codec, write a file like this and either call `register_codec(Png())` or name it in the entry point group
`vclimb.codecs` of your package:

    class Png(PictureCodec):
        name = clip_codec = "png"
        scale = Scale("level", low=0, default=6, high=9)

        def encode_picture(self, frame, number):
            return png_bytes(frame, level=int(number))

        def decode_picture(self, data, frame):
            frame[:] = png_pixels(data)  # ValueError: the bytes are damaged

From then on `png:9` and `png@128` are names of exemplar codecs, and streams decode its frames.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame
from vclimb.pipeline.errors import FrameDamagedError, SettingsError

Where = Callable[[int], str]
"""Describes, for an error message, where the frame at a place of a clip is stored."""


class Scale(NamedTuple):
    """The number that trades quality against bytes.

    Attributes:
        name: Name of the number in messages, such as `quality`.
        low: Lowest allowed value.
        default: Value of a spec without a number.
        high: Highest allowed value.
        is_whole: Whether fractions are refused.
    """

    name: str
    low: float
    default: float
    high: float
    is_whole: bool = True

    def __str__(self) -> str:
        return f"{self.name} {plain_number(self.low)} to {plain_number(self.high)}"


class Codec(abc.ABC):
    """Encodes the frames of exemplars. The same frames give the same bytes.

    Attributes:
        name: Name in a spec, before the colon: lower-case letters, digits and underscores.
        clip_codec: Kind of the encoded bytes, by which a stored clip finds its decoder.
        scale: The number in a spec, after the colon; None: no number is allowed.
        resizes: Whether a spec may hold a short side, after the `@`.
        also_called: Other names that users may try; errors suggest `name` for them.
    """

    name: ClassVar[str]
    clip_codec: ClassVar[str]
    scale: ClassVar[Scale | None] = None
    resizes: ClassVar[bool] = True
    also_called: ClassVar[tuple[str, ...]] = ()

    def lacking(self) -> str | None:
        """Say what the installed packages lack, as the end of a sentence; None where the codec can be used."""
        return None

    def refusal(self, clip_codec: str) -> str | None:
        """Say why frames that are stored as a kind of bytes can't be encoded; None where they can."""
        return None

    @abc.abstractmethod
    def encode_stored(self, clip: EncodedClip, pixels: Callable[[], Pixels], number: float) -> EncodedClip:
        """Encode K stored frames, K >= 1.

        Args:
            clip: The frames as they are stored.
            pixels: Decodes the frames and scales them: (K, H, W, 3).
            number: Value on `scale`; 0 where there is none.

        Raises:
            FrameDamagedError: A stored frame doesn't decode.
            SettingsError: The codec can't take these frames.
        """


class PixelCodec(Codec):
    """A codec that encodes pixels, and decodes its own clips."""

    @abc.abstractmethod
    def encode(self, pixels: Pixels, number: float) -> EncodedClip:
        """Encode frames (K, H, W, 3)."""

    @abc.abstractmethod
    def decode(self, clip: EncodedClip, frames: Pixels, where: Where) -> None:
        """Decode a clip into frames (T, H, W, 3). Must be safe to call from several threads.

        Raises:
            FrameDamagedError: A frame doesn't decode, or has another size.
            SettingsError: An installed package can't decode this kind of bytes.
        """

    def encode_stored(self, clip: EncodedClip, pixels: Callable[[], Pixels], number: float) -> EncodedClip:
        return self.encode(pixels(), number)


class PictureCodec(PixelCodec):
    """A codec whose frames are pictures that stand alone."""

    @abc.abstractmethod
    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        """Encode one frame (H, W, 3), in the calling thread: there are cores enough for several exemplars."""

    @abc.abstractmethod
    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        """Decode one picture into frame (H, W, 3).

        Raises:
            ValueError, RuntimeError: The picture is damaged or has another size.
            ImportError: An installed package lacks the decoder.
        """

    def encode(self, pixels: Pixels, number: float) -> EncodedClip:
        return one_unit_a_frame(self.clip_codec, [self.encode_picture(frame, number) for frame in pixels])

    def decode(self, clip: EncodedClip, frames: Pixels, where: Where) -> None:
        for place, frame in enumerate(frames):
            self.decode_place(clip, place, frame, where)

    def decode_place(self, clip: EncodedClip, place: int, frame: Pixels, where: Where) -> None:
        """Decode the frame at a place of a clip into frame (H, W, 3). Raises what `decode` raises."""
        try:
            self.decode_picture(clip.units[clip.unit[place]], frame)
        except ImportError as error:
            raise SettingsError(f"{self.clip_codec} frames can't be decoded here: {self.lacking() or error}") from None
        except (ValueError, RuntimeError) as error:
            raise FrameDamagedError(f"{where(place)}: {error}") from None


def plain_number(number: float) -> str:
    """Write a number without a needless fraction."""
    return str(int(number)) if number == int(number) else str(number)
