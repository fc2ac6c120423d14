"""Changes of colours and shapes of decoded training clips, on their device: pure functions of (seed, epoch, item).

All frames of a clip, in all its views, are changed alike, so that motion stays what it is. `colour` jitters brightness,
contrast and saturation, as torchvision's `ColorJitter` does. `strong` also turns some clips grey, rotates and shears
them, and erases a box (random erasing: Zhong et al., AAAI 2020): a fixed choice among the operations of RandAugment
(Cubuk et al., NeurIPS 2020).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vclimb.pipeline.clips.augment import Colours
from vclimb.pipeline.clips.dice import Integers, Purpose, uniform
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch

_JITTER = 0.4  # largest change of brightness, contrast and saturation, as a share
_GREY_PROBABILITY = 0.1
_ERASE_PROBABILITY = 0.25
_BOX_AREA, _LARGEST_RATIO = (0.02, 0.33), 3.3  # share of the picture, and ratio of the sides of the box
_DEGREES, _SHEAR = 15.0, 0.1
_LUMA = (0.299, 0.587, 0.114)
_MIDDLE = 128.0  # colour of what is erased, or was outside of the picture
_N_DRAWS = 11


def changed_colours(batch: ClipBatch, settings: StreamSettings) -> ClipBatch:
    """Change the clips of a batch as the settings of its stream say."""
    kind = settings.augmentation.colours
    if kind == "none" or not len(batch.keys):
        return batch
    draws = clip_draws(settings.seed, batch.plan.rounds, batch.plan.items)
    return replace(batch, views={name: change_clips(clips, draws, kind) for name, clips in batch.views.items()})


def clip_draws(seed: int, epoch: Integers, items: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Draw the numbers (B, 11) in [0, 1) that the changes of items (B,) in an epoch, or epochs (B,), are made from."""
    return uniform(seed, np.asarray(epoch)[..., None], Purpose.COLOURS, items[:, None], np.arange(_N_DRAWS)[None])


def change_clips(clips: Tensor, draws: npt.NDArray[np.float64], kind: Colours) -> Tensor:
    """Change clips (B, T, 3, H, W) uint8 by their draws (B, 11); the result has their layout in memory."""
    numbers = torch.from_numpy(draws.astype(np.float32)).to(clips.device, non_blocking=True)
    frames = _jittered(clips.float(), numbers, _GREY_PROBABILITY if kind == "strong" else 0.0)
    if kind == "strong":
        frames = _erased(_turned(frames, numbers), numbers)
    changed = torch.empty_like(clips)
    changed.copy_(frames.round_().clamp_(0, 255))
    return changed


def _jittered(frames: Tensor, draws: Tensor, grey_probability: float) -> Tensor:
    """Change brightness, then contrast, then saturation, each by a factor in 1 +- 0.4."""
    brightness, contrast, saturation = (1 + _JITTER * (2 * draws[:, :3] - 1)).unbind(1)
    saturation = torch.where(draws[:, 3] < grey_probability, 0.0, saturation)
    frames = (frames * _each(brightness)).clamp_(0, 255)
    mean = _grey(frames).mean((1, 2, 3, 4), keepdim=True)
    frames = (mean + (frames - mean) * _each(contrast)).clamp_(0, 255)
    grey = _grey(frames)
    return grey + (frames - grey) * _each(saturation)


def _grey(frames: Tensor) -> Tensor:
    """Compute the luma (B, T, 1, H, W) of frames (B, T, 3, H, W)."""
    red, green, blue = frames.unbind(2)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(2)


def _each(numbers: Tensor) -> Tensor:
    """Shape numbers (B,) to multiply clips with."""
    return numbers.view(-1, 1, 1, 1, 1)


def _turned(frames: Tensor, draws: Tensor) -> Tensor:
    """Rotate by up to 15 degrees and shear by up to 0.1 around the centre."""
    n_frames, (height, width) = frames.shape[1], frames.shape[-2:]
    angle = math.radians(_DEGREES) * (2 * draws[:, 4] - 1)
    shear, zero = _SHEAR * (2 * draws[:, 5] - 1), torch.zeros_like(angle)
    cos, sin = angle.cos(), angle.sin()
    # In coordinates from -1 to 1, whose units differ where the picture is not square.
    rows = [cos, shear - sin * (height / width), zero, sin * (width / height), cos, zero]
    affine = torch.stack(rows, 1).view(-1, 2, 3).repeat_interleave(n_frames, 0)
    flat = frames.flatten(0, 1)
    grid = nn.functional.affine_grid(affine, list(flat.shape), align_corners=False)
    turned = nn.functional.grid_sample(flat - _MIDDLE, grid, padding_mode="zeros", align_corners=False)
    return (turned + _MIDDLE).view_as(frames)


def _erased(frames: Tensor, draws: Tensor) -> Tensor:
    """Fill a box of every fourth clip, the same in all its frames, with a middle grey."""
    height, width = frames.shape[-2:]
    area = _BOX_AREA[0] + (_BOX_AREA[1] - _BOX_AREA[0]) * draws[:, 7]
    ratio = torch.exp(math.log(_LARGEST_RATIO) * (2 * draws[:, 8] - 1)).sqrt()
    tall, wide = (area.sqrt() * ratio).clamp(max=1.0), (area.sqrt() / ratio).clamp(max=1.0)
    rows = _inside((1 - tall) * draws[:, 9], tall, height)
    columns = _inside((1 - wide) * draws[:, 10], wide, width)
    box = rows[:, :, None] & columns[:, None, :] & (draws[:, 6] < _ERASE_PROBABILITY)[:, None, None]
    return frames.masked_fill(box[:, None, None], _MIDDLE)


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Tell which of the pixels (B, size) of a side are in a box, given in shares of the side."""
    centres = (torch.arange(size, device=start.device) + 0.5) / size
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])
