"""Checking that stored frames decode, for a new transcode and for `vclimb verify --decode`.

A JPEG frame is decoded at an eighth of its size: all entropy-coded data is read, where damage shows, at twice the speed
of a full decode.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
import simplejpeg

from vclimb.pipeline.codecs.encoded import MAX_PIXELS
from vclimb.pipeline.dataset.picture_order import bad_references
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.system.open_files import OpenFile, open_regular
from vclimb.pipeline.system.pyav import ANY_TAGS

FrameRanges = npt.NDArray[np.int64]
"""(n_frames, 2): byte offset and size of each frame."""
FrameIndex = npt.NDArray[np.int64]
"""(n_frames, 3): byte offset, size and CRC-32 of each frame."""


class FileSlice(io.RawIOBase):
    """A read-only file of the `size` bytes of another file from `offset`, such as a member of a tar."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = open(open_regular(path), "rb")  # noqa: SIM115 - closed by close()
        self._offset, self._size, self._position = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = min(max(base + offset, 0), self._size)
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        wanted = min(len(view), self._size - self._position)
        self._file.seek(self._offset + self._position)
        n_read = self._file.readinto(view[:wanted])
        self._position += n_read
        return n_read

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def frame_ranges(video: str | FileSlice) -> FrameRanges:
    """Byte range in the file of each frame of a stored video, in presentation order. Nothing is decoded.

    Raises a VideoError where the container can't be read, holds no frames, or has unevenly spaced frames.
    """
    try:
        with av.open(video, "r") as container:
            packets = [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]
    except av.error.FFmpegError as error:
        raise VideoError("verify", f"the stored video can't be opened again: {error.strerror}") from None
    except IndexError:  # ffmpeg leaves a file without streams where nothing was decoded
        packets = []
    if not packets or any(value is None for packet in packets for value in packet):
        raise VideoError("transcode", "none of its frames could be decoded")
    table = np.array(packets, np.int64)
    table = table[np.argsort(table[:, 2])]
    if len(np.unique(np.diff(table[:, 2]))) > 1:
        raise VideoError("transcode", "frames are lost where its picture changes its size or pixel format")
    return table[:, :2]


def with_checksums(path: Path, ranges: FrameRanges) -> FrameIndex:
    """Add the CRC-32 of each frame's bytes to its range, so that readers find damage without decoding."""
    index: FrameIndex = np.empty((len(ranges), 3), np.int64)
    index[:, :2] = ranges
    with open(path, "rb") as file:
        for row, (offset, size) in enumerate(ranges.tolist()):
            file.seek(offset)
            index[row, 2] = zlib.crc32(file.read(size))
    return index


def bad_jpeg_frames(path: Path, ranges: FrameRanges, width: int, height: int) -> Iterator[tuple[int, str]]:
    """Yield (frame number, problem) for every frame that isn't an intact JPEG of the given size."""
    file = OpenFile(path)
    for number, (offset, size) in enumerate(ranges.tolist()):
        if offset + size > file.n_bytes:
            yield number, "lies behind the end of the file"
            continue
        data = os.pread(file.descriptor, size, offset)
        try:
            size_there = simplejpeg.decode_jpeg_header(data)[:2]
            if size_there != (height, width):
                yield number, f"is {size_there[1]}x{size_there[0]}, not {width}x{height}"
                continue
            simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=1)
        except ValueError as error:
            yield number, str(error)


def bad_h264_frames(video: str | FileSlice, ranges: FrameRanges, width: int, height: int) -> Iterator[tuple[int, str]]:
    """Yield (frame number, problem) for every frame of an H.264 video that doesn't decode to the given size."""
    number = 0
    try:
        # Other formats than the one that is stored may name other files, which would be opened.
        with av.open(video, "r", format="mp4", **ANY_TAGS) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None or stream.codec_context.name != "h264":
                yield number, "is not H.264"
                return
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {
                "max_pixels": str(MAX_PIXELS),
                "err_detect": "crccheck+bitstream+buffer+explode",
            }
            for frame in container.decode(stream):
                if number == len(ranges):
                    yield number, f"follows the {number} frames of the frame index"
                    return
                if (frame.width, frame.height) != (width, height):
                    yield number, f"is {frame.width}x{frame.height}, not {width}x{height}"
                elif frame.is_corrupt:
                    yield number, "decodes with errors"
                number += 1
    except (av.error.FFmpegError, IndexError) as error:
        yield number, str(error)
        return
    if number < len(ranges):
        yield number, f"only {number} of {len(ranges)} frames decode"


def check_decodes(path: Path, ranges: FrameRanges, codec: str, width: int, height: int) -> None:
    """Decode every frame of a video file that was just stored. Raises a VideoError that names the first bad frame."""
    if codec == "jpeg":
        bad = bad_jpeg_frames(path, ranges, width, height)
    else:
        bad = chain(bad_h264_frames(str(path), ranges, width, height), bad_references(path, ranges))
    for number, what in bad:
        raise VideoError("verify", f"frame {number} of the stored video {what}")
