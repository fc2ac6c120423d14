"""PSNR and SSIM beside slow transcriptions of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from codec_contract import textured

from vclimb.memory.quality import psnr, ssim
from vclimb.pipeline.arrays import Pixels


def slow_psnr(reference: Pixels, frame: Pixels) -> float:
    """By the definition, a number at a time."""
    total = 0.0
    for ours, theirs in zip(reference.ravel().tolist(), frame.ravel().tolist(), strict=True):
        total += (ours - theirs) ** 2
    return 10 * float(np.log10(255**2 / (total / reference.size)))


def slow_ssim(reference: Pixels, frame: Pixels) -> float:
    """Equations (14) to (16) and (13) of Wang et al. 2004, a window at a time."""
    x, y = ([[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in f.tolist()] for f in (reference, frame))
    window = {(i, j): np.exp(-(i * i + j * j) / (2 * 1.5**2)) for i in range(-5, 6) for j in range(-5, 6)}
    total = sum(window.values())
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(5, len(x) - 5):
        for left in range(5, len(x[0]) - 5):
            places = [(w / total, x[top + i][left + j], y[top + i][left + j]) for (i, j), w in window.items()]
            mean_x = sum(w * a for w, a, _ in places)
            mean_y = sum(w * b for w, _, b in places)
            variance_x = sum(w * (a - mean_x) ** 2 for w, a, _ in places)
            variance_y = sum(w * (b - mean_y) ** 2 for w, _, b in places)
            covariance = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in places)
            value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
            values.append(value / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)))
    return float(np.mean(values))


def test_quality_is_as_defined() -> None:
    rng = np.random.default_rng(3)
    reference = rng.integers(0, 256, (2, 13, 16, 3), np.uint8)
    noise = rng.integers(-60, 61, reference.shape)
    frames = np.clip(reference + noise, 0, 255).astype(np.uint8)
    assert psnr(reference, frames) == pytest.approx([*map(slow_psnr, reference, frames)], abs=1e-9)
    assert ssim(reference, frames) == pytest.approx([*map(slow_ssim, reference, frames)], abs=1e-9)
    assert np.all(ssim(reference, frames) < 0.99)


def test_quality_of_equal_and_of_opposite_frames() -> None:
    frames = textured(2, 24, 16)
    assert psnr(frames, frames).tolist() == [np.inf, np.inf]
    assert ssim(frames, frames) == pytest.approx([1, 1])
    black, white = np.zeros((11, 11, 3), np.uint8), np.full((11, 11, 3), 255, np.uint8)
    assert float(psnr(black, white)) == 0
    assert float(ssim(black, white)) == pytest.approx((0.01 * 255) ** 2 / (255**2 + (0.01 * 255) ** 2))
    grey = np.full((11, 11, 3), 100, np.uint8)
    assert float(psnr(grey, grey + np.uint8(10))) == pytest.approx(10 * np.log10(255**2 / 100))


def test_frames_that_can_not_be_compared_are_refused() -> None:
    frame = textured(1, 24, 16)[0]
    with pytest.raises(ValueError, match=r"shapes \(16, 24, 3\) and \(16, 23, 3\)"):
        psnr(frame, frame[:, 1:])
    with pytest.raises(ValueError, match="both must be uint8"):
        ssim(frame, frame.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 11x11 pixels, not 24x10"):
        ssim(frame[:10], frame[:10])
    with pytest.raises(ValueError, match="no pixels"):
        psnr(frame[:0], frame[:0])
