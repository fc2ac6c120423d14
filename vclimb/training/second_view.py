"""The down-sampled clips of a training step: which steps have them, and how they are drawn (vCLIMB, section 4)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.sampling import View
from vclimb.training.run_context import RunContext
from vclimb.training.training_data import TrainingItems

DOWN_SAMPLED = "down_sampled"


class SecondView:
    """The down-sampled clips of a task, as `differences.second_view...` choose them.

    Attributes:
        view: View of the stream; None where no step has down-sampled clips.
    """

    def __init__(self, run: RunContext, items: TrainingItems, clip: View) -> None:
        config, differences = run.config, run.config.resolved_differences
        is_spread = differences.second_view_frames == "spread"
        frames = config.consistency_frames if config.has_down_sampled_clips else None
        seen: Literal["centres", "first"] = "centres" if is_spread else "first"
        self.view: View | None = None
        if frames is not None:
            self.view = View(
                DOWN_SAMPLED,
                clip.n_frames,
                clip.sampling,
                seen_frames=None if frames == "all" else frames,
                seen=seen,
                own_draws=differences.second_view_crop == "own",
            )
        # From the whole video, the released code draws clips of exemplars too.
        self._blank = released_blank(items, frames) if isinstance(frames, int) and not is_spread else None
        self._colour = run.learner.model.normalise.mean.round()  # 0 after the normalisation

    def shown(self, clips: Tensor, items: Indices) -> Tensor:
        """Replace the down-sampled clips (B, T, 3, H, W) of items (B,) that are blank by an even mean colour."""
        if self._blank is None:
            return clips
        blank = torch.from_numpy(self._blank[items]).to(clips.device)
        return torch.where(blank.view(-1, 1, 1, 1, 1), self._colour.to(clips.dtype), clips)


def released_blank(items: TrainingItems, n_frames: int) -> npt.NDArray[np.bool_]:
    """Tell which items (n,) have blank down-sampled clips in the released code: exemplars, and short videos."""
    blank: npt.NDArray[np.bool_] = items.is_replay | (items.provider.items.n_frames <= n_frames)
    return blank
