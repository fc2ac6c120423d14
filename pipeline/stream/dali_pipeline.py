"""One NVIDIA DALI pipeline: it decodes a share of every batch's frames, crops, resizes and mirrors them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
import torch.utils.dlpack

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.packing import Bytes

IN_DALI = 2
"""Number of decoded batches that a pipeline holds."""

EncodedShare = tuple[Bytes | list[Bytes], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Encoded frames, n or (n, longest); starts and ends of the crops, (n, 2) rows and columns; (n,) mirrored or not."""


@dataclass(frozen=True)
class DaliSettings:
    """Settings of DALI.

    Attributes:
        cpu_share: Share of the frames that the cores decode; the GPU decodes the rest. Without a GPU it is 1.
        hw_decoder_load: Share of the GPU's frames that its JPEG engines decode; CUDA kernels decode the rest.
        threads: Number of threads of each pipeline.
        readers: Number of processes that read and pack encoded frames, and decode those that DALI doesn't take; 0
            reads in DALI's own thread.
    """

    cpu_share: float = 1.0
    hw_decoder_load: float = 1.0
    threads: int = 8
    readers: int = 2

    def __post_init__(self) -> None:
        for name in ("cpu_share", "hw_decoder_load"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} {getattr(self, name)} is out of range; allowed: 0 to 1")


def import_dali() -> Any:
    """Import DALI, untyped: its stubs lack the names that it defines at import.

    Raises:
        SettingsError: DALI isn't installed.
    """
    try:
        return importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise SettingsError(
            f"the decoder dali needs NVIDIA DALI ({error}); install nvidia-dali-cuda130, or use the decoder cpu"
        ) from None


class DaliPipeline:
    """One DALI pipeline: encoded frames, boxes and flips in, square frames out.

    Args:
        decode_on: `mixed` (the GPU) or `cpu`.
        share: Share of each batch's frames that this pipeline decodes.
    """

    def __init__(
        self, decode_on: str, share: float, most_frames: int, size: int, device: torch.device, settings: DaliSettings
    ) -> None:
        dali = import_dali()
        fn, types = dali.fn, dali.types
        self.share = share
        self._on_gpu = device.type == "cuda"
        decoder: dict[str, Any] = {"device": decode_on, "output_type": types.RGB, "jpeg_fancy_upsampling": True}
        if decode_on == "mixed":
            decoder["hw_decoder_load"] = settings.hw_decoder_load

        @dali.pipeline_def(  # type: ignore[untyped-decorator]
            batch_size=max(1, math.ceil(most_frames * share) + 1),
            num_threads=settings.threads,
            device_id=(device.index or 0) if self._on_gpu else None,
            prefetch_queue_depth=IN_DALI,
        )
        def frames() -> Any:
            encoded, start, end, mirror = fn.external_source(self._source, num_outputs=4, batch=True)
            pictures = fn.decoders.image(encoded, **decoder)
            if self._on_gpu and decode_on == "cpu":
                pictures = fn.slice(pictures, start=start, end=end, axes=(0, 1)).gpu()
            else:
                pictures = fn.slice(pictures, start=start, end=end, axes=(0, 1))
            pictures = fn.resize(pictures, size=(size, size), interp_type=types.INTERP_LINEAR, antialias=True)
            return fn.flip(pictures, horizontal=mirror)

        self._pipeline = frames()
        self._pipeline.build()
        self._outputs: Any = None
        self._next_share: Callable[[], EncodedShare] | None = None

    def start(self, next_share: Callable[[], EncodedShare]) -> None:
        """Begin an epoch. `next_share` returns the next frames to decode, and raises StopIteration at the end."""
        self._next_share = next_share
        self._pipeline.reset()

    def _source(self) -> EncodedShare:
        assert self._next_share is not None
        return self._next_share()

    def close(self) -> None:
        """Release threads and buffers at once, although the pipeline and this object refer to each other."""
        self._outputs = self._pipeline = None

    def outputs(self) -> torch.Tensor | None:
        """Return the next frames, (n, size, size, 3) uint8 in DALI's memory until the next call; None at the end.

        DALI writes other frames there as soon as nothing refers to its object, and doesn't wait for torch's pending
        kernels: copies must have ended before the next call.
        """
        try:
            (self._outputs,) = self._pipeline.run()
        except StopIteration:
            self._outputs = None
            return None
        return torch.utils.dlpack.from_dlpack(self._outputs.as_tensor())


def empty_share() -> EncodedShare:
    """Make a frame to decode in vain, for a batch without clips: a pipeline takes no empty batch."""
    encoded = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    corner, sides = np.zeros((1, 2), np.int32), np.full((1, 2), 8, np.int32)
    return np.frombuffer(encoded, np.uint8)[None], corner, sides, np.zeros(1, np.int32)
