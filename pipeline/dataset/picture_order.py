"""The order in which an H.264 video's frames are shown, against that in which they lie in the file and are decoded.

A B-frame follows, in the file, the later frame that it refers to. Stored videos have no other frames out of order, and
no frame refers to a B-frame. So the byte offsets of frames, in the order in which they are shown, say which frames are
B-frames, and a decoder needs no B-frames but those that are wanted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.dataset.settings import GOP_FRAMES
from vclimb.pipeline.system.open_files import OpenFile

_SLICE, _IDR_SLICE = 1, 5


def b_frames(starts: Indices) -> npt.NDArray[np.bool_]:
    """(n,) whether each frame is a B-frame, by the byte offsets (n,) of frames in the order in which they are shown."""
    first_from_here_on = np.minimum.accumulate(starts[::-1])[::-1]
    is_b: npt.NDArray[np.bool_] = starts > first_from_here_on
    return is_b


def needed_frames(starts: Indices, wanted: Indices) -> tuple[Indices, Indices]:
    """Choose the frames of a group of pictures to decode for some of them.

    Args:
        starts: (n,) byte offsets of the group's frames, in the order in which they are shown. Frames of the next video
            may follow: their offsets are larger than those of the group.
        wanted: (T,) numbers of the wanted frames within the group.

    Returns:
        Numbers of the frames to decode, in the order of decoding; and (T,) the place of each wanted frame among those
        that come out of the decoder, which are shown in order.
    """
    needed = ~b_frames(starts)
    needed[wanted] = True
    needed &= starts <= starts[wanted].max()
    frames = np.flatnonzero(needed)
    return frames[np.argsort(starts[frames])], np.cumsum(needed)[wanted] - 1


def bad_references(path: Path, ranges: Indices) -> Iterator[tuple[int, str]]:
    """Yield (frame number, problem) for every frame of an H.264 video that can't be decoded as `needed_frames` says.

    `ranges` (n, 2) are offset and size of the frames in the file.
    """
    file = OpenFile(path)
    for number, is_b in enumerate(b_frames(ranges[:, 0]).tolist()):
        offset, size = ranges[number].tolist()
        kinds = {(head & 31, head >> 5) for head in _heads(os.pread(file.descriptor, size, offset))}
        slices = {(kind, priority > 0) for kind, priority in kinds if kind in (_SLICE, _IDR_SLICE)}
        if slices != {(_SLICE, False) if is_b else (_IDR_SLICE if number % GOP_FRAMES == 0 else _SLICE, True)}:
            what = "B-frame" if is_b else "frame that others refer to" if number % GOP_FRAMES else "key frame"
            yield number, f"is no {what}, as the order of the frames says"


def _heads(packet: bytes) -> Iterator[int]:
    """Yield the first byte of each unit of a packet, as mp4 stores it."""
    position = 0
    while position + 4 < len(packet):
        yield packet[position + 4]
        position += 4 + int.from_bytes(packet[position : position + 4], "big")
