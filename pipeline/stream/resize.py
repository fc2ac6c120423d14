"""Resizing of decoded frames in the processes that decode.

By a library of its own: it takes as long as torch does, and torch would have to be imported in each of these processes,
which takes seconds and 200 MB. Pillow takes four times as long.
"""

from __future__ import annotations

import numpy as np
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

from vclimb.pipeline.arrays import Pixels

_PIXEL = np.dtype("V3")
"""A pixel as one value: NumPy mirrors such arrays four times faster than arrays of three colours a pixel."""


def resize_into(frames: Pixels, pixels: Pixels, flip: bool) -> None:
    """Resize frames (n, H, W, 3) into frames (n, size, size, 3), linearly and antialiased, and mirror them if asked to.

    The values are those of torch within one level.

    Args:
        frames: The result, contiguous.
    """
    _, height, width, _ = pixels.shape
    size = frames.shape[1]
    # Made anew each time, because a resizer can't be used by two threads.
    resizer, options = Resizer(), ResizeOptions(ResizeAlg.convolution(FilterType.bilinear))
    target = ImageData(size, size, PixelType.U8x3)
    rows = frames.view(_PIXEL)[..., 0]
    if flip:
        rows = rows[..., ::-1]
    for source, row in zip(pixels, rows, strict=True):
        resizer.resize(ImageData(width, height, PixelType.U8x3, source.tobytes()), target, options)
        row[:] = np.frombuffer(target.get_buffer(), _PIXEL).reshape(size, size)
