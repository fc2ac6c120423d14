"""Resizing of decoded frames in the processes that decode.

By a library of its own: it takes as long as torch does, and torch would have to be imported in each of these processes,
which takes seconds and 200 MB. Pillow takes four times as long.
"""

from __future__ import annotations

import numpy as np
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

from vclimb.pipeline.arrays import Pixels


class FrameResizer:
    """Resizes frames to squares, linearly and antialiased. The values are those of torch within one level.

    Not safe to use from several threads.
    """

    def __init__(self, size: int) -> None:
        self._resizer, self._options = Resizer(), ResizeOptions(ResizeAlg.convolution(FilterType.bilinear))
        self._target = ImageData(size, size, PixelType.U8x3)

    def resize_into(self, target: Pixels, frame: Pixels, flip: bool) -> None:
        """Resize a frame (H, W, 3) into a target (size, size, 3), and mirror it if asked to."""
        height, width, _ = frame.shape
        self._resizer.resize(ImageData(width, height, PixelType.U8x3, frame.tobytes()), self._target, self._options)
        resized = np.frombuffer(self._target.get_buffer(), np.uint8).reshape(target.shape)
        if not flip:
            target[...] = resized
            return
        for colour in range(3):  # NumPy takes two thirds of the time that it takes for values of three bytes
            target[:, ::-1, colour] = resized[..., colour]
