"""Which decoder a clip stream uses, and why. What is chosen is said and logged; nothing falls back in silence."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass

import torch

from pipeline.clips import ClipProvider
from pipeline.errors import SettingsError
from pipeline.stream import ClipStream, StreamSettings

log = logging.getLogger(__name__)
DECODERS = ("auto", "dali", "cpu")


@dataclass(frozen=True)
class Choice:
    """A decoder and the reason for it."""

    decoder: str
    reason: str

    def __str__(self) -> str:
        return f"decoder {self.decoder}: {self.reason}"


def choose_decoder(asked: str, codec: str, device: torch.device) -> Choice:
    """The decoder for frames of a codec on a device.

    Args:
        asked: `auto`, `dali` or `cpu`.
        codec: of the frames, `jpeg` or `h264`.
        device: where batches are wanted.

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
    if not installed:
        return Choice("cpu", "NVIDIA DALI isn't installed")
    return Choice("dali", "jpeg frames for a GPU: DALI feeds training best (docs/performance.md)")


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
        workers: processes of the CPU stream, or threads of DALI's decoder; None: as many as there are cores.
    """
    choice = choose_decoder(decoder, codec, device)
    log.info("%s", choice)
    if choice.decoder == "dali":
        from pipeline.dali_stream import DaliClipStream, DaliSettings

        dali = DaliSettings() if workers is None else DaliSettings(threads=max(1, workers))
        return DaliClipStream(provider, settings, device, dali), choice
    from pipeline.cpu_stream import CpuClipStream

    return CpuClipStream(provider, settings, device, workers), choice
