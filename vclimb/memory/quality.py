"""Loss of encoded frames, measured as PSNR and SSIM."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Pixels

Floats = npt.NDArray[np.float64]

PEAK = 255.0
# Wang et al. 2004, section III-C: an 11x11 Gaussian window of 1.5 pixels, and K1 and K2 of equation (7) and (9).
WINDOW = 11
SIGMA = 1.5
K1 = 0.01
K2 = 0.03


def psnr(reference: Pixels, frames: Pixels) -> Floats:
    """Compute the peak signal-to-noise ratio of each frame, in dB: 10 log10(255^2 / MSE) over the pixels of R, G and B.

    Of (..., H, W, 3) uint8 frames it is (...), infinite where frames are equal.
    """
    _check(reference, frames)
    error = reference.astype(np.float64) - frames
    with np.errstate(divide="ignore"):
        decibels: Floats = 10 * np.log10(PEAK**2 / np.mean(error**2, axis=(-3, -2, -1)))
    return decibels


def ssim(reference: Pixels, frames: Pixels) -> Floats:
    """Compute the structural similarity of each frame's luma: 1 where frames are equal, lower otherwise.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13(4), 2004: equation (13) with its Gaussian window, averaged over the places
    where the window lies wholly within the frame, as the authors' `ssim_index.m` does, without scaling down first.
    Luma is BT.601's, unrounded. Of (..., H, W, 3) uint8 frames of at least 11x11 pixels it is (...).
    """
    _check(reference, frames)
    height, width = reference.shape[-3:-1]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW}x{WINDOW} pixels, not {width}x{height}")
    x, y = _luma(reference), _luma(frames)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    similarity: Floats = index.mean(axis=(-2, -1))
    return similarity


def _check(reference: Pixels, frames: Pixels) -> None:
    if reference.shape != frames.shape or reference.shape[-1:] != (3,) or reference.ndim < 3:
        raise ValueError(f"frames of shapes {reference.shape} and {frames.shape} can't be compared")
    if reference.dtype != np.uint8 or frames.dtype != np.uint8:
        raise ValueError(f"frames of {reference.dtype} and {frames.dtype} can't be compared; both must be uint8")
    if not reference[..., 0].size:
        raise ValueError("there are no pixels to compare")


def _luma(frames: Pixels) -> Floats:
    luma: Floats = frames @ np.array([0.299, 0.587, 0.114])
    return luma


def _windowed(values: Floats) -> Floats:
    """Average with the Gaussian window wherever it fits: (..., H - 10, W - 10). The window is separable."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    height, width = values.shape[-2] - WINDOW + 1, values.shape[-1] - WINDOW + 1
    rows: Floats = sum(weight * values[..., n : n + height, :] for n, weight in enumerate(weights))
    both: Floats = sum(weight * rows[..., n : n + width] for n, weight in enumerate(weights))
    return both
