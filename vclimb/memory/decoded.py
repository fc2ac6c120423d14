"""Exemplars of codecs that a decoder doesn't support, decoded once, when a task begins.

DALI's image decoder supports JPEG and PPM frames. A WebP or H.264 exemplar would be decoded on the CPU for each clip
drawn from it; a task of 50 epochs would do that 50 times.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Self

import numpy as np

from vclimb.memory.provider import ExemplarProvider
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.raw import ppm_header
from vclimb.pipeline.errors import FrameDamagedError, SettingsError
from vclimb.pipeline.stream.packing import DALI_CODECS
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.folders import writable

log = logging.getLogger(__name__)

_NOT_CACHED = -1


@dataclass(frozen=True)
class DecodingCost:
    """Exemplars and frames decoded ahead into a cache, and what that cost.

    Attributes:
        left_encoded: Number of exemplars that didn't fit, and are decoded at each use.
        damaged: Reasons why exemplars can't be decoded; reading them fails as well.
    """

    exemplars: int
    frames: int
    cache_bytes: int
    seconds: float
    left_encoded: int
    damaged: tuple[str, ...]

    def __str__(self) -> str:
        done = (
            f"{self.exemplars} exemplars ({self.frames} frames, {self.cache_bytes / 1e6:.1f} MB) "
            f"decoded ahead in {self.seconds:.1f} s"
        )
        left = f"; {self.left_encoded} didn't fit, and are decoded at each use" if self.left_encoded else ""
        return done + left + (f"; {len(self.damaged)} are damaged" if self.damaged else "")


class DecodedExemplars:
    """An `ExemplarProvider` whose exemplars are PPM frames where their codec is not among those taken.

    The cache is a file without a name, which the system removes however the processes that hold it end. Its content
    depends on the memory and `cache_bytes` alone: in order, each exemplar that fits into the rest of the space. Close
    it after the streams that read from it. Streams can send it to a process that they start.

    Args:
        cache_bytes: Limit of the cache on disk. 0 decodes nothing ahead.
        taken: Codecs whose exemplars are not decoded ahead.
        folder: Folder on the disk that holds the cache; None: the system's folder for temporary files.

    Raises:
        SettingsError: `cache_bytes` is out of range, or there is no such folder.
        TargetError: the disk is full, or the folder can't be written.
        MemoryChangedError: the memory was changed meanwhile, and an exemplar dropped.
    """

    def __init__(
        self,
        provider: ExemplarProvider,
        cache_bytes: int,
        taken: Collection[str] = DALI_CODECS,
        folder: Path | None = None,
    ) -> None:
        if cache_bytes < 0:
            raise SettingsError(f"cache_bytes {cache_bytes} is out of range; allowed: 0 or more")
        start = time.perf_counter()
        self.items = provider.items
        self._provider = provider
        to_decode = np.flatnonzero(~np.isin(provider.codecs, [*taken]))
        self._offsets, used = self._layout(to_decode, cache_bytes)
        cached = np.flatnonzero(self._offsets != _NOT_CACHED)
        folder = Path(tempfile.gettempdir()) if folder is None else folder
        if not folder.is_dir():
            raise SettingsError(f"{folder} is no folder, so it can't hold decoded exemplars; name a folder that exists")
        with writable(folder):
            self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - `close` closes it
            try:
                with ThreadPoolExecutor(available_cores()) as pool:
                    reasons = list(pool.map(self._decode, cached.tolist()))
            except BaseException:
                self._file.close()
                raise
        damaged = [reason for reason in reasons if reason is not None]
        is_decoded = np.array([reason is None for reason in reasons], bool)
        decoded = cached[is_decoded]
        self._offsets[cached[~is_decoded]] = _NOT_CACHED
        self.cost = DecodingCost(
            exemplars=len(decoded),
            frames=int(self.items.n_frames[decoded].sum()),
            cache_bytes=used,
            seconds=time.perf_counter() - start,
            left_encoded=len(to_decode) - len(cached),
            damaged=tuple(damaged),
        )
        for reason in damaged:
            log.warning("exemplar can't be decoded ahead: %s", reason)
        log.info("%s", self.cost)

    def read(self, item: int, frames: Indices) -> EncodedClip:
        """Read frames (T,) of an exemplar: as PPM from the cache, or as `ExemplarProvider.read` reads them.

        Raises:
            ExemplarDamagedError: the stored bytes are damaged.
            MemoryChangedError: the exemplar isn't in the cache, and was dropped since the memory was opened.
        """
        if self._offsets[item] == _NOT_CACHED:
            return self._provider.read(item, frames)
        first, size = int(self._offsets[item]), self._frame_bytes(item)
        distinct, unit = np.unique(frames, return_inverse=True)
        units = [os.pread(self._file.fileno(), size, first + number * size) for number in distinct.tolist()]
        return EncodedClip("ppm", units, unit.astype(np.int64), np.zeros(len(frames), np.int64))

    def where(self, item: int, frame: int) -> str:
        return self._provider.where(item, frame)

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        self._provider.fetch_ahead(shards)

    def close(self) -> None:
        """Release the disk space. Processes that the cache was sent to hold it until they end."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _layout(self, to_decode: Indices, cache_bytes: int) -> tuple[Indices, int]:
        """Compute the offset of each exemplar in the file, (n,) with `_NOT_CACHED` for others, and the file's size."""
        offsets = np.full(len(self.items), _NOT_CACHED, np.int64)
        used = 0
        for item in to_decode.tolist():
            size = int(self.items.n_frames[item]) * self._frame_bytes(item)
            if used + size <= cache_bytes:
                offsets[item] = used
                used += size
        return offsets, used

    def _frame_bytes(self, item: int) -> int:
        width, height = int(self.items.widths[item]), int(self.items.heights[item])
        return len(ppm_header(width, height)) + width * height * 3

    def _decode(self, item: int) -> str | None:
        """Decode an exemplar into the file, and return the reason where it can't be decoded."""
        width, height = int(self.items.widths[item]), int(self.items.heights[item])
        try:
            clip = self._provider.read(item, np.arange(self.items.n_frames[item]))
            frames = decode_clip(clip, width, height, lambda place: self.where(item, place))
        except FrameDamagedError as error:
            return str(error)
        header, offset = ppm_header(width, height), int(self._offsets[item])
        for frame in frames:
            ppm = header + frame.tobytes()
            _write(self._file.fileno(), ppm, offset)
            offset += len(ppm)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = os.fdopen(state["_file"].detach(), "r+b", buffering=0)


def _write(file: int, data: bytes, offset: int) -> None:
    """Write all bytes: on a nearly full disk one call writes a part, and only the next call fails."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written
