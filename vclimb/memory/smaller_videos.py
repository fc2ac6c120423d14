"""Using what a budget in bytes leaves: where the next video of a class doesn't fit, a smaller one of the class may."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

from vclimb.memory.class_encoder import ClassEncoder
from vclimb.memory.sample import EXEMPLAR_BYTES

FILLED = 0.95
"""Share of a budget in bytes that is filled unless no candidate fits in the rest."""

# An exemplar's part of the table and of the index, at most; the exact bytes are known once it is stored.
_ROW_BYTES = 4 * EXEMPLAR_BYTES


def smaller_videos(
    encoders: Sequence[ClassEncoder], kept: Mapping[int, int], spent: Mapping[int, int], left: int, amount: int
) -> dict[int, list[int]]:
    """Choose candidates beyond those kept that fit in the rest of a budget, until `FILLED` of it is used.

    The class that has spent least comes first. Of its candidates, that of the best rank is taken which fits. Each
    candidate is encoded once at most.

    Args:
        encoders: Encoders of the new classes, whose candidates are at hand.
        kept: Label id -> number of exemplars kept, of those that were encoded last.
        spent: Label id -> bytes on disk of the class so far.
        left: Bytes of the budget that are not used.
        amount: Bytes of the budget.

    Returns:
        label id -> places in the ranking of a class, of the candidates kept and those added, for each new class; empty
        where none is added.
    """
    places = {encoder.instances.label: encoder.places[: kept.get(encoder.instances.label, 0)] for encoder in encoders}
    n_added = 0
    with ExitStack() as stack:
        queue = []
        for order, encoder in enumerate(encoders):
            label = encoder.instances.label
            others = [place for place in range(len(encoder.instances.items)) if place not in {*places[label]}]
            sizes = stack.enter_context(closing(encoder.sizes(others)))
            queue.append((spent.get(label, 0), order, label, sizes))
        heapq.heapify(queue)
        while queue and left > (1 - FILLED) * amount:
            before, order, label, sizes = heapq.heappop(queue)
            name_bytes = len(json.dumps(encoders[order].instances.name))
            overhead = _ROW_BYTES + (0 if places[label] else encoders[order].class_bytes + 2 * name_bytes)
            for place, n_bytes in sizes:
                if (cost := overhead + n_bytes) <= left:
                    places[label].append(place)
                    n_added, left = n_added + 1, left - cost
                    heapq.heappush(queue, (before + cost, order, label, sizes))
                    break
    return places if n_added else {}
