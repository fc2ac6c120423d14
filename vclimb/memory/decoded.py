"""Exemplars that a decoder doesn't take as they are, decoded once, when a task begins.

DALI's image decoder takes JPEG and PPM frames. A WebP or H.264 exemplar would be decoded on the cores each time a
clip of it is drawn; a task of 50 epochs would do that 50 times.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import TracebackType
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
    """What was decoded ahead, and what it cost.

    Attributes:
        exemplars: that are in the cache.
        frames: of these.
        cache_bytes: that they take there.
        seconds: of wall time.
        left_encoded: exemplars that didn't fit, and are decoded at each use.
        damaged: why others can't be decoded; reading them fails alike.
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
    """An `ExemplarProvider` whose exemplars are PPM frames where they would be of a codec that isn't taken.

    They lie in a file without a name: nothing is left behind, however the processes that hold it end. Which exemplars
    are in it depends on the memory and `cache_bytes` alone: in order, each that fits into what is left. Close it
    after the streams that read from it. It can be sent to a process when that is started, as streams do.

    Args:
        provider: of encoded exemplars.
        cache_bytes: of decoded frames at most, as they are on disk. 0 decodes nothing ahead.
        taken: codecs that stay as they are.
        threads: that decode; None takes one for each core.
        folder: whose disk the file is on; None takes the system's folder for temporary files.

    Attributes:
        items: facts about every exemplar.
        cost: of decoding ahead.

    Raises:
        SettingsError: `cache_bytes` or `threads` is out of range.
        TargetError: the disk is full, or the folder can't be written.
        MemoryChangedError: the memory was changed meanwhile, and an exemplar dropped.
    """

    def __init__(
        self,
        provider: ExemplarProvider,
        cache_bytes: int,
        taken: Collection[str] = DALI_CODECS,
        threads: int | None = None,
        folder: Path | None = None,
    ) -> None:
        if cache_bytes < 0:
            raise SettingsError(f"cache_bytes {cache_bytes} is out of range; allowed: 0 or more")
        if threads is not None and threads < 1:
            raise SettingsError(f"threads {threads} is out of range; allowed: 1 or more")
        start = time.perf_counter()
        self.items = provider.items
        self._provider = provider
        to_decode = np.flatnonzero(~np.isin(provider.codecs, [*taken]))
        self._offsets, used = self._laid_out(to_decode, cache_bytes)
        cached = np.flatnonzero(self._offsets != _NOT_CACHED)
        folder = Path(tempfile.gettempdir()) if folder is None else folder
        if not folder.is_dir():
            raise SettingsError(f"{folder} is no folder, so it can't take decoded exemplars; name one that exists")
        with writable(folder):
            self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - `close` closes it
            try:
                with ThreadPoolExecutor(threads or available_cores()) as pool:
                    reasons = list(pool.map(self._decode, cached.tolist()))
            except BaseException:
                self._file.close()
                raise
        damaged = [reason for reason in reasons if reason is not None]
        is_sound = np.array([reason is None for reason in reasons], bool)
        sound = cached[is_sound]
        self._offsets[cached[~is_sound]] = _NOT_CACHED
        self.cost = DecodingCost(
            exemplars=len(sound),
            frames=int(self.items.n_frames[sound].sum()),
            cache_bytes=used,
            seconds=time.perf_counter() - start,
            left_encoded=len(to_decode) - len(cached),
            damaged=tuple(damaged),
        )
        for reason in damaged:
            log.warning("exemplar can't be decoded ahead: %s", reason)
        log.info("%s", self.cost)

    def read(self, item: int, frames: Indices) -> EncodedClip:
        """The bytes of frames (T,) of an exemplar: as PPM out of the cache, or as `ExemplarProvider.read` has them.

        Raises:
            ExemplarDamagedError: they are not what was stored.
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

    def close(self) -> None:
        """Give the disk space back. Processes that the cache was sent to have it until they end."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _laid_out(self, to_decode: Indices, cache_bytes: int) -> tuple[Indices, int]:
        """(n,) where each exemplar's frames begin in the file, or `_NOT_CACHED`; and the file's size."""
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
        """Put an exemplar into the file; what is wrong with it where it can't be decoded."""
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
    """All of it: where the disk is nearly full, a call writes a part first, and the next one says so."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written
