"""Memory that worker processes write batches into and the process that uses them reads."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vclimb.pipeline.errors import VclimbError


class PinningError(VclimbError):
    """The driver doesn't pin memory, such as when the limit of locked memory is low."""


class SharedRing:
    """Slots of equal size, used in turn, mapped by every process that holds the ring.

    It has no name in any file system, so nothing is left behind however its processes end, and doesn't count
    towards the size of `/dev/shm`, which containers keep small. Pickle it only to start a process.

    Args:
        n_slots: number of slots.
        slot_bytes: size of each.
    """

    def __init__(self, n_slots: int, slot_bytes: int) -> None:
        self.n_slots = n_slots
        self.slot_bytes = slot_bytes
        self._fd = _nameless_file()
        os.ftruncate(self._fd, self.n_bytes)
        self._bytes = self._mapped()
        self._unpin: Callable[[], object] | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of all slots."""
        return max(1, self.n_slots * self.slot_bytes)

    def slot(self, number: int) -> npt.NDArray[np.uint8]:
        """(slot_bytes,) uint8: the memory itself."""
        start = number % self.n_slots * self.slot_bytes
        return self._bytes[start : start + self.slot_bytes]

    def pin(self) -> None:
        """Let a GPU copy from the slots while the processor goes on.

        Raises:
            PinningError: the driver refuses.
        """
        if self._unpin is None:
            status = torch.cuda.cudart().cudaHostRegister(self._bytes.ctypes.data, self.n_bytes, 0)  # type: ignore[no-untyped-call]
            if int(status) != 0:
                raise PinningError(f"can't pin {self.n_bytes / 2**20:.0f} MiB for copies to the GPU ({status})")
            self._unpin = weakref.finalize(self, torch.cuda.cudart().cudaHostUnregister, self._bytes.ctypes.data)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Give the memory back; nothing may use a slot any more."""
        if self._fd < 0:
            return
        if self._unpin is not None:
            self._unpin()
        os.close(self._fd)
        self._fd = -1
        del self._bytes  # the mapping ends with the last array that shows it

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


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vclimb-clips")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
