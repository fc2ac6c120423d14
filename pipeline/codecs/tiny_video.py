"""What the codecs have in common that keep an exemplar's frames as one tiny video, encoded and decoded by PyAV.

Such a video is one closed group of pictures in the order of display (no B-frames), with its parameter sets in band, so
that it decodes alone and quickly. Its colours are BT.601 in limited range, and its parameters say so.
"""

from __future__ import annotations

import abc
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any, ClassVar

import av
import av.codec
import av.error
import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import PixelCodec, Where
from vclimb.pipeline.codecs.encoded import MAX_PIXELS, EncodedClip, one_unit_for_all
from vclimb.pipeline.errors import FrameDamagedError, SettingsError

# Encoders weigh a picture's bits by how long it is shown, so they need a rate.
_FRAMES_A_SECOND = 25
_SHORTEST_SIDE = 16
_START_CODE = b"\x00\x00\x01"


class VideoCodec(PixelCodec):
    """A codec whose frames are one tiny video.

    Attributes:
        side_multiple: Number that the sides of coded pictures are multiples of. Chroma has half the resolution, so
            that it is even.
    """

    encoder: ClassVar[str]
    decoder: ClassVar[str]
    side_multiple: ClassVar[int] = 2

    @abc.abstractmethod
    def options(self, pixels: Pixels, crf: int) -> dict[str, str]:
        """Options of the encoder for frames (K, H, W, 3)."""

    def stream(self, packets: list[bytes]) -> bytes:
        """Join an encoder's packets to the bytes that are stored."""
        return b"".join(packets)

    def packets(self, stream: bytes) -> list[bytes]:
        """Split stored bytes into packets for the decoder.

        FFmpeg's own parser is not used: where a decoder is kept for a second stream, the parser writes out of its
        bounds if the first one ended in certain ways, and the process dies.

        Raises:
            ValueError: The stream is damaged.
        """
        return [stream]

    def lacking(self) -> str | None:
        name = self.encoder
        try:
            av.codec.Codec(name, "w")
            name = self.decoder
            av.codec.Codec(name, "r")
        except av.codec.codec.UnknownCodecError:
            return f"PyAV {av.__version__} has no {name} (PyPI's wheels have: pip install av)"
        return None

    def encode(self, pixels: Pixels, number: float) -> EncodedClip:
        _, height, width, _ = pixels.shape
        right, bottom = self._coded_side(width) - width, self._coded_side(height) - height
        options = self.options(pixels, int(number))
        # The edge repeated costs the fewest bits; `decode` cuts it off.
        padded = np.pad(pixels, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
        context: Any = av.CodecContext.create(self.encoder, "w")
        context.width, context.height, context.pix_fmt = width + right, height + bottom, "yuv420p"
        context.framerate, context.time_base = Fraction(_FRAMES_A_SECOND), Fraction(1, _FRAMES_A_SECOND)
        context.thread_count = 1
        context.options = {**options, "colorspace": "smpte170m", "color_range": "tv", "flags": "+cgop+bitexact"}
        with _scheduling_kept():
            context.open()
        packets = []
        for number_of_frame, frame in enumerate(padded):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", interpolation="AREA", threads=1
            )
            picture.pts = number_of_frame
            packets += context.encode(picture)
        packets += context.encode(None)
        return one_unit_for_all(self.clip_codec, self.stream([bytes(packet) for packet in packets]), len(pixels))

    def decode(self, clip: EncodedClip, frames: Pixels, where: Where) -> None:
        for unit in range(len(clip.units)):
            wanted: dict[int, list[int]] = {}
            for place in np.flatnonzero(clip.unit == unit).tolist():
                wanted.setdefault(int(clip.position[place]), []).append(place)
            if wanted:
                self._decode_stream(clip.units[unit], frames, wanted, where)

    def _decode_stream(self, stream: bytes, frames: Pixels, wanted: Mapping[int, Sequence[int]], where: Where) -> None:
        """Decode a stream that begins with a key frame, up to the last frame wanted: number in the stream -> places."""
        left = {number: list(places) for number, places in wanted.items()}
        limit = _most_pixels(frames.shape[2], frames.shape[1])
        try:
            if not stream:
                raise ValueError("its end is missing")
            decoder = self._decoder(limit)
            decoder.flush_buffers()
            number = 0
            for packet in [*map(av.Packet, self.packets(stream)), None]:
                for picture in decoder.decode(packet):
                    if number in left:
                        pixels = self._rgb(picture, frames.shape[2], frames.shape[1])
                        for place in left.pop(number):
                            frames[place] = pixels
                    number += 1
                if not left:
                    return
        except SettingsError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            _kept_decoders().pop((self.decoder, limit), None)
            reason = error.strerror if isinstance(error, av.error.FFmpegError) else error
            raise FrameDamagedError(f"{where(left[min(left)][0])}: {reason}") from None
        raise FrameDamagedError(f"{where(left[min(left)][0])}: it doesn't come out of the decoder")

    def _rgb(self, picture: Any, width: int, height: int) -> Pixels:
        expected = self._coded_side(width), self._coded_side(height)
        if (picture.width, picture.height) != expected:
            raise ValueError(f"is {picture.width}x{picture.height}, not {expected[0]}x{expected[1]}")
        if picture.is_corrupt:
            raise ValueError("some of it can't be decoded")
        # Stored streams carry their colour matrix and range; swscale takes BT.601 and limited where one doesn't.
        pixels: Pixels = picture.to_ndarray(format="rgb24", threads=1)
        return pixels[:height, :width]

    def _coded_side(self, side: int) -> int:
        """Pixels of a side of the coded picture, whose right and bottom edges are no part of the frame."""
        return max(_SHORTEST_SIDE, -(-side // self.side_multiple) * self.side_multiple)

    def _decoder(self, limit: int) -> Any:
        """This thread's decoder for pictures of up to `limit` pixels, which neither hides damage nor uses threads."""
        decoder = _kept_decoders().get((self.decoder, limit))
        if decoder is None:
            try:
                decoder = av.CodecContext.create(self.decoder, "r")
            except av.codec.codec.UnknownCodecError:
                raise SettingsError(f"{self.clip_codec} frames can't be decoded here: {self.lacking()}") from None
            decoder.thread_count = 1
            decoder.options = {"max_pixels": str(limit), "err_detect": "crccheck+bitstream+buffer+explode"}
            _kept_decoders()[self.decoder, limit] = decoder
        return decoder


_threads_own = threading.local()


def _kept_decoders() -> dict[tuple[str, int], Any]:
    """This thread's decoders, by FFmpeg's name and limit: making a decoder costs as much as decoding a few frames."""
    kept: dict[tuple[str, int], Any] = vars(_threads_own).setdefault("decoders", {})
    return kept


def _most_pixels(width: int, height: int) -> int:
    """Limit the pixels of a coded picture whose frame has a known size: a stream may claim any.

    It is a power of two, so that frames of similar sizes share a decoder. Pictures are coded in squares of up to 64.
    """
    return min(MAX_PIXELS, 1 << ((width + 64) * (height + 64) - 1).bit_length())


def pictures_of_units(stream: bytes, kind_of: Callable[[bytes], tuple[bool, bool]]) -> list[bytes]:
    """Split an Annex B stream into packets of one picture each, with the units that precede it.

    Args:
        kind_of: Whether a unit is a slice, and whether it can begin another picture.

    Raises:
        ValueError: The stream doesn't begin with a start code.
    """
    before, *units = stream.split(_START_CODE)
    if before.strip(b"\0") or not units:
        raise ValueError("it doesn't begin with a start code")
    packets: list[list[bytes]] = [[]]
    has_picture = False
    for unit in units:
        is_slice, begins_picture = kind_of(unit)
        if has_picture and begins_picture:
            packets.append([])
            has_picture = False
        packets[-1] += [_START_CODE, unit]
        has_picture |= is_slice
    return [b"".join(packet) for packet in packets]


@contextmanager
def _scheduling_kept() -> Iterator[None]:
    """Open an encoder within this block without changing how this thread and new threads are scheduled.

    Where SVT-AV1 runs as root, as it does in most containers, it makes the thread that opens it and its own threads
    real-time ones of the highest priority. They would stay so, and so would all threads that they start: on those
    cores, whatever waits by spinning would keep everything else from running.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    others = _threads()
    try:
        yield
    finally:
        for thread in (0, *(_threads() - others)):
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, parameters)


def _threads() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:  # no Linux
        return set()
