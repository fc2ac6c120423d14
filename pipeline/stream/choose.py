"""Which decoder a clip stream uses, and why. What is chosen is said and logged; nothing falls back in silence."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.stream import ClipStream, StreamSettings
from vclimb.pipeline.system.cores import cores_of_rank

if TYPE_CHECKING:  # DALI isn't on every machine
    from vclimb.pipeline.stream.dali import DaliSettings

log = logging.getLogger(__name__)
DECODERS = ("auto", "dali", "cpu")
ENOUGH_CORES = 8
"""Cores for a GPU with which decoding on them feeds training as well as the GPU's JPEG engines do, or better."""


@dataclass(frozen=True)
class Choice:
    """A decoder and the reason for it."""

    decoder: str
    reason: str

    def __str__(self) -> str:
        return f"decoder {self.decoder}: {self.reason}"


def choose_decoder(asked: str, codec: str, device: torch.device, world_size: int = 1) -> Choice:
    """The decoder for frames of a codec on a device.

    Args:
        asked: `auto`, `dali` or `cpu`.
        codec: of the frames, `jpeg` or `h264`.
        device: where batches are wanted.
        world_size: processes that train together, and share the cores of a machine with several GPUs.

    Raises:
        SettingsError: what was asked for is unknown, isn't installed, or doesn't take the codec.
    """
    if asked not in DECODERS:
        raise SettingsError(f"decoder {asked!r} is not known; allowed: {', '.join(DECODERS)}")
    installed = importlib.util.find_spec("nvidia.dali") is not None if importlib.util.find_spec("nvidia") else False
    if asked == "dali":
        if not installed:
            raise SettingsError("decoder dali: NVIDIA DALI isn't installed; install nvidia-dali-cuda130, or use cpu")
        if codec != "jpeg":
            raise SettingsError(f"decoder dali takes jpeg frames, not {codec}; use cpu for this data set")
        return Choice("dali", "asked for")
    if asked == "cpu":
        return Choice("cpu", "asked for")
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
    """How DALI decodes for a GPU: on the cores where there are enough, else on the JPEG engines.

    Args:
        cores: for this GPU.
        threads: of DALI; None: what the cores allow.
    """
    from vclimb.pipeline.stream.dali import DaliSettings

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
    """A clip stream with the decoder that `choose_decoder` names, and the choice, to be shown.

    Args:
        workers: processes of the CPU stream, or threads of DALI's decoder; None: what the cores allow.
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
