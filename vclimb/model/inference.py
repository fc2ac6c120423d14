"""One pass of a model over items: features and logits of every clip, in the items' order, computed in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vclimb.model.clip_model import ClipModel
from vclimb.model.memory_format import filled, needs_plans
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import choose_decoder, open_stream
from vclimb.pipeline.stream.cpu import default_workers
from vclimb.pipeline.stream.workers import waiting_workers

CLIPS_PER_WORKER = 64
"""That a process must have to be started for a pass: fewer are decoded sooner than that takes."""


@dataclass(frozen=True)
class InferenceSettings:
    """How clips are shown to a model that doesn't train: segment centres, centre crop, no flip.

    Attributes:
        n_frames: T of a clip.
        size: pixels, the side of the square that the model sees.
        batch_size: clips.
        decoder: as `vclimb.pipeline.stream.choose.open_stream` takes it.
        workers: Number of decoding processes; None: one for each core.
        bf16: Whether to compute in bf16 on a GPU.
        codec: Codec of the data set's frames, which the decoder is chosen by.
    """

    n_frames: int = 8
    size: int = 224
    batch_size: int = 64
    decoder: str = "auto"
    workers: int | None = None
    bf16: bool = True
    codec: str = "jpeg"


@dataclass(frozen=True)
class Share:
    """Share of the items that one of several processes takes.

    Attributes:
        device: Device of the process.
        rank: Number of the process, from 0.
        world_size: Number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Outputs:
    """What a model says of N items.

    Attributes:
        items: (N,) int64 numbers of the provider's items.
        labels: (N,) int64.
        features: (N, D) float32, on the CPU.
        logits: (N, C) float32, on the CPU.
    """

    items: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    features: Tensor
    logits: Tensor

    def __post_init__(self) -> None:
        lengths = {len(self.items), len(self.labels), len(self.features), len(self.logits)}
        if len(lengths) != 1:
            raise ValueError(f"outputs need one length, not {sorted(lengths)}")

    def once(self) -> Outputs:
        """Each item once, in the items' order: a clip that was skipped was replaced by another one's."""
        items, first = np.unique(self.items, return_index=True)
        return Outputs(items, self.labels[first], self.features[first], self.logits[first])


@torch.inference_mode()
def infer(
    model: ClipModel,
    provider: ClipProvider,
    settings: InferenceSettings,
    share: Share,
    on_clips: Callable[[int], None] | None = None,
    on_bad_frame: str = "raise",
) -> Outputs:
    """Compute features and logits of one process' share of a provider's items, in evaluation mode.

    Args:
        on_clips: Called with the number of clips of each batch.
        on_bad_frame: `raise`, or `skip`, which leaves out items that can't be read.

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
    was_training = model.training
    model.eval()
    try:
        n_workers = settings.workers
        if choose_decoder(settings.decoder, settings.codec, device, share.world_size).decoder == "cpu":
            most = default_workers(device, share.world_size) if n_workers is None else n_workers
            worth_a_start = len(provider.items) // share.world_size // CLIPS_PER_WORKER
            n_workers = min(most, max(1, worth_a_start, waiting_workers()))
        stream, _ = open_stream(provider, settings.codec, clips, device, settings.decoder, n_workers)
        with stream, torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16 and device.type == "cuda"):
            for batch in stream:
                if n_clips := len(batch.keys):
                    shown = filled(batch.frames, settings.batch_size) if needs_plans(device) else batch.frames
                    of_batch = model.features(shown)[:n_clips]
                    features.append(of_batch.float().cpu())
                    logits.append(model.classify(of_batch).float().cpu())
                    items.append(batch.plan.items)
                if on_clips is not None:
                    on_clips(n_clips)
    finally:
        model.train(was_training)
    outputs = Outputs(
        items=(seen := np.concatenate(items) if items else np.empty(0, np.int64)),
        labels=provider.items.labels[seen],
        features=torch.cat(features) if features else torch.empty(0, model.n_features),
        logits=torch.cat(logits) if logits else torch.empty(0, model.n_classes),
    )
    return outputs.once() if on_bad_frame == "skip" else outputs
