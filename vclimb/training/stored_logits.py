"""Logits beside exemplars: what the network said of their videos when these entered the memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vclimb.memory.store.errors import ExemplarDamagedError, MemoryStoreError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import LOGITS
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.errors import VclimbError

log = logging.getLogger(__name__)

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredLogits:
    """Logits that a memory keeps beside the exemplars of a task.

    Attributes:
        first: Number of the first exemplar among the task's items; all later items are exemplars.
        table: (n_exemplars, C) logits; NaN in the columns of classes that came after an exemplar entered.
    """

    first: int
    table: Logits

    def of(self, items: Indices) -> Logits:
        """Look up the logits (B, C) of items (B,); NaN for those that are no exemplars."""
        rows = np.full((len(items), self.table.shape[1]), np.nan, np.float32)
        is_exemplar = items >= self.first
        rows[is_exemplar] = self.table[items[is_exemplar] - self.first]
        return rows


def read_logits(memory: MemoryStore, labels: Sequence[int], first: int, n_classes: int) -> StoredLogits | None:
    """Read the logits of the exemplars of classes, in this order; None where the memory keeps none with them.

    Classes whose logits are damaged have none, with a warning.

    Args:
        first: Number of the first exemplar among the task's items.
        n_classes: Number C of classes so far.
    """
    if not any(LOGITS in memory.classes[label].arrays for label in labels):
        return None
    return StoredLogits(first, np.concatenate([_class_logits(memory, label, n_classes) for label in labels]))


def _class_logits(memory: MemoryStore, label: int, n_classes: int) -> Logits:
    stored = memory.classes[label]
    table = np.full((stored.n_exemplars, n_classes), np.nan, np.float32)
    if (array := stored.arrays.get(LOGITS)) is None:
        return table
    if len(array.shape) != 2 or array.shape[1] > n_classes:
        raise MemoryStoreError(
            f"{memory.path / array.place} has logits of shape {array.shape}, and {n_classes} classes are known so far; "
            "is the memory of another run?"
        )
    try:
        table[:, : array.shape[1]] = memory.rows(label, LOGITS)
    except ExemplarDamagedError as error:
        log.warning("exemplars replayed without their logits: %s", error)
    return table


def logits_to_keep(logits: Tensor) -> npt.NDArray[np.float16]:
    """Convert a network's logits (n, C) to what a memory keeps of them.

    Raises:
        VclimbError: one isn't finite, or too large for 16 bits.
    """
    values = logits.float().numpy()
    largest = np.abs(values).max(initial=0.0)
    if not largest <= np.finfo(np.float16).max:  # NaN is not, either
        raise VclimbError(
            f"logits up to {largest:g} can't be kept as 16-bit floats, whose largest is 65504: training has diverged; "
            "take a lower training.learning_rate"
        )
    return values.astype(np.float16)
