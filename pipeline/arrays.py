"""Names of the array types that many modules share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
"""Numbers of items, frames or pixels."""

Pixels = npt.NDArray[np.uint8]
"""Colour values from 0 to 255, channels last: (H, W, 3) for a frame, (K, H, W, 3) for several."""

Flags = npt.NDArray[np.bool_]
"""One bool for each of several things."""
