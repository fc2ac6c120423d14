"""A pass of a network over items without training: features and logits of each clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vclimb.model.clip_model import ClipModel
from vclimb.model.frame_model import FrameModel
from vclimb.model.memory_format import pad_batch, plans_each_size
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import choose_decoder, open_stream
from vclimb.pipeline.stream.cpu import default_workers
from vclimb.pipeline.stream.workers import waiting_workers

CLIPS_PER_WORKER = 64
"""Least clips of a process started for a pass: fewer clips are decoded sooner than a process starts."""


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of a pass, whose clips are segment centres, cropped at the centre and not flipped.

    Attributes:
        size: Side of the square input, in pixels.
        decoder: Decoder of clips: `auto`, `cpu` or `dali`.
        workers: Number of decoding processes; None: one for each core.
        autocast: Type of mixed precision on a GPU; None: fp32.
        codec: Codec of the data set's frames, by which `auto` chooses the decoder.
    """

    n_frames: int = 8
    size: int = 224
    batch_size: int = 64
    decoder: str = "auto"
    workers: int | None = None
    autocast: torch.dtype | None = torch.bfloat16
    codec: str = "jpeg"


@dataclass(frozen=True)
class Share:
    """Share of the items that one of several processes takes: that of number `rank`, from 0."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Outputs:
    """A network's outputs for N items.

    Attributes:
        items: (N,) int64 numbers of the provider's items.
        labels: (N,) int64 label ids.
        features: (N, D) float32 features, on the CPU.
        logits: (N, C) float32 logits, on the CPU.
        frames: (N, K, D) float32 features of the frames that were asked for, on the CPU; None: none were.
    """

    items: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    features: Tensor
    logits: Tensor
    frames: Tensor | None = None

    @classmethod
    def joined(cls, shares: Sequence[Outputs]) -> Outputs:
        """Join the outputs of several shares of the items."""
        frames = [share.frames for share in shares if share.frames is not None]
        return cls(
            items=np.concatenate([share.items for share in shares]),
            labels=np.concatenate([share.labels for share in shares]),
            features=torch.cat([share.features for share in shares]),
            logits=torch.cat([share.logits for share in shares]),
            frames=torch.cat(frames) if frames else None,
        )

    def unique(self) -> Outputs:
        """Keep each item once, in the order of items: a skipped clip was replaced by another item's."""
        items, first = np.unique(self.items, return_index=True)
        frames = None if self.frames is None else self.frames[first]
        return Outputs(items, self.labels[first], self.features[first], self.logits[first], frames)


def mixed_precision(autocast: torch.dtype | None, device: torch.device) -> torch.autocast:
    """Make the context of a pass without training; fp32 where there is no type, or no GPU."""
    return torch.autocast(device.type, autocast, enabled=autocast is not None and device.type == "cuda")


@torch.inference_mode()
def infer(
    model: ClipModel,
    provider: ClipProvider,
    settings: InferenceSettings,
    share: Share,
    on_clips: Callable[[int], None] | None = None,
    on_bad_frame: str = "raise",
    frames: Indices | None = None,
) -> Outputs:
    """Compute features and logits of one process' share of a provider's items, in evaluation mode.

    Args:
        on_clips: Called with the number of clips of each batch.
        on_bad_frame: `raise`, or `skip`, which leaves out items that can't be read.
        frames: (K,) numbers of the frames of a clip whose features are returned too, by a network that computes a
            feature of each frame; None: of no frame.

    Raises:
        FrameDamagedError: a frame can't be read, and items must not be left out.
    """
    clips = StreamSettings(
        batch_size=settings.batch_size,
        views=(View(n_frames=settings.n_frames, random=False),),
        augmentation=Augmentation.evaluation(settings.size),
        shuffle=False,
        rank=share.rank,
        world_size=share.world_size,
        on_bad_frame=on_bad_frame,
    )
    device = share.device
    items: list[npt.NDArray[np.int64]] = []
    features: list[Tensor] = []
    logits: list[Tensor] = []
    of_frames: list[Tensor] = []
    was_training = model.training
    model.eval()
    try:
        n_workers = settings.workers
        if choose_decoder(settings.decoder, settings.codec, device, share.world_size).decoder == "cpu":
            most = default_workers(device, share.world_size) if n_workers is None else n_workers
            worth_a_start = len(provider.items) // share.world_size // CLIPS_PER_WORKER
            n_workers = min(most, max(1, worth_a_start, waiting_workers()))
        stream, _ = open_stream(provider, settings.codec, clips, device, settings.decoder, n_workers)
        with stream, mixed_precision(settings.autocast, device):
            for batch in stream:
                if n_clips := len(batch.keys):
                    padded = pad_batch(batch.frames, settings.batch_size) if plans_each_size(device) else batch.frames
                    if frames is None:
                        batch_features = model.features(padded)[:n_clips]
                    else:
                        assert isinstance(model, FrameModel)
                        frame_features = model.frame_features(padded)[:n_clips]
                        of_frames.append(frame_features[:, frames].float().cpu())
                        batch_features = model.pool(frame_features)
                    features.append(batch_features.float().cpu())
                    logits.append(model.classify(batch_features).float().cpu())
                    items.append(batch.plan.items)
                if on_clips is not None:
                    on_clips(n_clips)
    finally:
        model.train(was_training)
    no_frames = None
    if frames is not None:
        assert isinstance(model, FrameModel)
        no_frames = torch.empty(0, len(frames), model.n_frame_features)
    outputs = Outputs(
        items=(numbers := np.concatenate(items) if items else np.empty(0, np.int64)),
        labels=provider.items.labels[numbers],
        features=torch.cat(features) if features else torch.empty(0, model.n_features),
        logits=torch.cat(logits) if logits else torch.empty(0, model.n_classes),
        frames=torch.cat(of_frames) if of_frames else no_frames,
    )
    return outputs.unique() if on_bad_frame == "skip" else outputs
