"""Memory for decoded batches: shared with worker processes, or reused from batch to batch."""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.errors import TooManyFilesError, VclimbError
from vclimb.pipeline.system.free_memory import free_memory
from vclimb.pipeline.system.open_files import open_files_explained

log = logging.getLogger(__name__)
_HAS_MEMFD = hasattr(os, "memfd_create")


class BatchMemory:
    """Memory for batches that are handed out, reused once nobody holds the batch in it.

    The system's allocator does not suit: programs keep small parts of every batch (its plan, its keys), which the
    allocator puts into the hole that a freed batch has left. The next batch no longer fits there, and the process grows
    by one batch with every batch.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = max(1, n_bytes)
        self._free: list[mmap.mmap] = []

    def take(self) -> npt.NDArray[np.uint8]:
        """Return (n_bytes,) uint8 of any content, which is free again when the array and all its views are gone."""
        piece = self._free.pop() if self._free else mmap.mmap(-1, self._n_bytes)
        array = np.frombuffer(piece, np.uint8)
        weakref.finalize(array, self._free.append, piece).atexit = False
        return array


class PinningError(VclimbError, RuntimeError):
    """The driver doesn't pin memory, for example because the limit of locked memory is low."""


class RingMemoryError(VclimbError, MemoryError):
    """There is not enough free memory for the batches that are decoded ahead."""


class SharedRing:
    """Slots of equal size in memory that the main process and its workers share, used in turn.

    The memory has no name in any file system, so nothing is left behind however the processes end, and it doesn't count
    towards the size of `/dev/shm`, which containers keep small. Pickle a ring only to start or set up a process.
    """

    def __init__(self, n_slots: int, slot_bytes: int) -> None:
        self.n_slots = n_slots
        self.slot_bytes = slot_bytes
        self._fd = nameless_file()
        try:
            os.ftruncate(self._fd, self.n_bytes)
            self._bytes = self._mapped()
        except OSError:
            os.close(self._fd)
            raise
        self._unpin: Callable[[], object] | None = None

    @classmethod
    def that_fits(cls, n_slots: int, least_slots: int, slot_bytes: int) -> SharedRing:
        """Make a ring that takes at most half of the memory that is free, and log a warning where it gets fewer slots.

        Raises:
            RingMemoryError: `least_slots` don't fit into the memory that is free, or the system refuses them.
            TooManyFilesError: The system opens no more files.
        """
        needed = least_slots * slot_bytes
        free = _free_bytes()
        fitting = n_slots if free is None else min(n_slots, max(least_slots, free // 2 // max(1, slot_bytes)))
        ring = None
        if free is None or needed <= free:
            ring = cls._or_none(fitting, slot_bytes) or cls._or_none(least_slots, slot_bytes)
        if ring is None:
            told = "the system refuses them" if free is None or needed <= free else f"{free / 2**20:.0f} MiB are free"
            raise RingMemoryError(
                f"the batches that worker processes decode ahead need at least {needed / 2**20:.0f} MiB of memory, and "
                f"{told}; take a smaller batch, fewer frames in a clip, or 0 workers, or give this job more memory"
            )
        if ring.n_slots < n_slots:
            log.warning(
                "%.0f MiB of memory are free: %d batches are decoded ahead in place of %d, which may slow training",
                (ring.n_bytes if free is None else free) / 2**20,
                ring.n_slots,
                n_slots,
            )
        return ring

    @classmethod
    def _or_none(cls, n_slots: int, slot_bytes: int) -> SharedRing | None:
        """Make a ring; None where the system gives no such memory, such as by `ulimit -v` or `ulimit -f`."""
        try:
            with open_files_explained():
                return cls(n_slots, slot_bytes)
        except TooManyFilesError:
            raise
        except OSError:
            return None

    @property
    def n_bytes(self) -> int:
        return max(1, self.n_slots * self.slot_bytes)

    def slot(self, number: int) -> npt.NDArray[np.uint8]:
        """Return the memory of a slot, (slot_bytes,) uint8, without a copy."""
        start = number % self.n_slots * self.slot_bytes
        return self._bytes[start : start + self.slot_bytes]

    def lend(self, number: int, give_back: Callable[[int], object]) -> npt.NDArray[np.uint8]:
        """Return the memory of a slot, as `slot` does, and call a function when the array and all its views are gone.

        The memory lasts as long as they do, even when the ring is closed.
        """
        array = np.frombuffer(self.slot(number).data, np.uint8)  # views of `slot` would refer to the whole ring alone
        weakref.finalize(array, give_back, number).atexit = False
        return array

    def pin(self) -> None:
        """Pin the memory, so that a GPU copies from it while the processor goes on.

        Raises:
            PinningError: The driver refuses.
        """
        import torch  # here, because worker processes share the ring, and import no torch

        if self._unpin is None:
            status = torch.cuda.cudart().cudaHostRegister(self._bytes.ctypes.data, self.n_bytes, 0)  # type: ignore[no-untyped-call]
            if int(status) != 0:
                raise PinningError(f"can't pin {self.n_bytes / 2**20:.0f} MiB for copies to the GPU ({status})")
            self._unpin = weakref.finalize(self, torch.cuda.cudart().cudaHostUnregister, self._bytes.ctypes.data)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Release the memory. No slot may be in use."""
        if self._fd < 0:
            return
        if self._unpin is not None:
            self._unpin()
        os.close(self._fd)
        self._fd = -1
        del self._bytes  # the mapping ends with the last array that refers to it

    def _mapped(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(mmap.mmap(self._fd, self.n_bytes), np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {"n_slots": self.n_slots, "slot_bytes": self.slot_bytes, "fd": DupFd(self._fd)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.n_slots, self.slot_bytes = state["n_slots"], state["slot_bytes"]
        self._fd = state["fd"].detach()
        self._bytes, self._unpin = self._mapped(), None
        os.close(self._fd)
        self._fd = -1


def _free_bytes() -> int | None:
    """Bytes that a nameless file can take: memory, or space on the disk of temporary files."""
    return free_memory() if _HAS_MEMFD else shutil.disk_usage(tempfile.gettempdir()).free


def nameless_file() -> int:
    """Open a file in memory that has no name: where the system has none such, on the disk of temporary files."""
    if _HAS_MEMFD:
        return os.memfd_create("vclimb-clips")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
