"""Choice of the decoder of a clip stream. The choice and its reason are returned and logged, never silent."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.system.cores import cores_of_rank

if TYPE_CHECKING:  # DALI isn't on every machine
    from vclimb.pipeline.stream.dali_pipeline import DaliSettings

log = logging.getLogger(__name__)
DECODERS = ("auto", "dali", "cpu")
ENOUGH_CORES = 8
"""Least number of cores for each GPU with which they feed training as well as the GPU's JPEG engines do."""


@dataclass(frozen=True)
class Choice:
    """A decoder and the reason for it."""

    decoder: str
    reason: str

    def __str__(self) -> str:
        return f"decoder {self.decoder}: {self.reason}"


def choose_decoder(requested: str, codec: str, device: torch.device, world_size: int = 1) -> Choice:
    """Choose the decoder for frames of a codec on a device.

    Args:
        world_size: Number of processes that train together, and share the cores of a machine with several GPUs.

    Raises:
        SettingsError: The requested decoder is unknown, isn't installed, or doesn't take the codec.
    """
    if requested not in DECODERS:
        raise SettingsError(f"decoder {requested!r} is not known; allowed: {', '.join(DECODERS)}")
    installed = importlib.util.find_spec("nvidia.dali") is not None if importlib.util.find_spec("nvidia") else False
    if requested == "dali":
        if not installed:
            raise SettingsError("decoder dali: NVIDIA DALI isn't installed; install nvidia-dali-cuda130, or use cpu")
        if codec != "jpeg":
            raise SettingsError(f"decoder dali takes jpeg frames, not {codec}; use cpu for this data set")
        return Choice("dali", "requested")
    if requested == "cpu":
        return Choice("cpu", "requested")
    if codec != "jpeg":
        return Choice("cpu", f"{codec} is decoded faster by the cores than by DALI (docs/performance.md)")
    if device.type != "cuda":
        return Choice("cpu", "there is no GPU to feed; without one, DALI is no faster (docs/performance.md)")
    cores = cores_of_rank(world_size, torch.cuda.device_count())
    if cores >= ENOUGH_CORES:
        return Choice("cpu", f"{cores} cores feed a GPU best from processes of their own (docs/performance.md)")
    if not installed:
        return Choice("cpu", f"NVIDIA DALI isn't installed; with {cores} cores for a GPU it may be faster")
    return Choice("dali", f"jpeg frames, and {cores} cores for a GPU, whose own JPEG engines do more")


def dali_settings(cores: int, threads: int | None = None) -> DaliSettings:
    """Choose where DALI decodes for a GPU: on the cores where there are enough, else on the JPEG engines."""
    from vclimb.pipeline.stream.dali_pipeline import DaliSettings

    if cores >= ENOUGH_CORES:
        return DaliSettings(cpu_share=1.0, threads=threads or cores - 4)
    return DaliSettings(cpu_share=0.0, hw_decoder_load=1.0, threads=threads or min(4, cores))


def open_stream(
    provider: ClipProvider,
    codec: str,
    settings: StreamSettings,
    device: torch.device,
    decoder: str = "auto",
    workers: int | None = None,
) -> tuple[ClipStream, Choice]:
    """Open a clip stream with the decoder that `choose_decoder` chooses, and return the choice too.

    Args:
        workers: Number of worker processes, or of DALI's threads. None: as many as the cores allow.
    """
    choice = choose_decoder(decoder, codec, device, settings.world_size)
    log.info("%s", choice)
    if choice.decoder == "dali":
        from vclimb.pipeline.stream.dali import DaliClipStream

        cores = cores_of_rank(settings.world_size, torch.cuda.device_count() if device.type == "cuda" else 0)
        threads = None if workers is None else max(1, workers)
        return DaliClipStream(provider, settings, device, dali_settings(cores, threads)), choice
    from vclimb.pipeline.stream.cpu import CpuClipStream

    return CpuClipStream(provider, settings, device, workers), choice
