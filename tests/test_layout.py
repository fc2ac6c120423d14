"""How clips lie in memory changes no value of them."""

from __future__ import annotations

import torch

from vclimb.model.memory_format import cat_clips, layout_for, pad_batch


def _clips(seed: int) -> torch.Tensor:
    pixels = torch.randint(0, 256, (3, 4, 8, 6, 3), generator=torch.Generator().manual_seed(seed))
    return pixels.to(torch.uint8).permute(0, 1, 4, 2, 3)  # as a stream gives them


def test_clips_that_are_joined_lie_as_they_did() -> None:
    first, second = _clips(1), _clips(2)
    both = cat_clips(first, second)
    assert torch.equal(both, torch.cat([first, second]))
    assert both.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    apart = cat_clips(first.contiguous(), second.contiguous())
    assert torch.equal(apart, both)
    assert apart.is_contiguous()


def test_a_batch_that_is_filled_up_lies_as_it_did_with_blank_clips_behind() -> None:
    clips = _clips(1)
    full = pad_batch(clips, 5)
    assert torch.equal(full[:3], clips)
    assert full.shape == (5, *clips.shape[1:])
    assert not full[3:].any()
    assert full.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert pad_batch(clips, 3) is clips


def test_on_a_cpu_clips_stay_as_they_are() -> None:
    clips = _clips(1)
    assert layout_for(clips, whole=True) is clips
    assert layout_for(clips, whole=False) is clips
