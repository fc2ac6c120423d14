"""Bytes on disk of the nodes of a memory, counted before they are published."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from vclimb.memory.store.index_nodes import Node
from vclimb.memory.store.memory_index import entry_bytes, files_of
from vclimb.memory.store.stored_class import INDEX_FILE, StoredClass


def nodes_bytes(nodes: Mapping[str, Node], sizes: Mapping[str, int]) -> int:
    """Count the bytes on disk of nodes, their entries in the index included, from the sizes of files."""
    return sum(
        entry_bytes(place, node) + sum(sizes.get(file, 0) for file in files_of(place, node))
        for place, node in nodes.items()
    )


def class_totals(stored: StoredClass, nodes: Mapping[str, Node], sizes: Mapping[str, int]) -> list[int]:
    """Count the bytes on disk of a class, its entries in the index included, for its first 0, 1, ... exemplars."""
    places = [stored.folder, *stored.places]
    metadata = sum(sizes.get(f"{place}/{INDEX_FILE}", 0) + entry_bytes(place, nodes[place]) for place in places)
    # Bytes of the first 0, 1, ... chunks of each array.
    arrays = [(rows, [*accumulate((sizes.get(file, 0) for file in files), initial=0)]) for rows, files in stored.chunks]
    totals, n = [0], stored.n_exemplars  # a class without exemplars is dropped
    for kept in range(1, n + 1):
        # The metadata has the number of exemplars twice for each array: in the array's own, and in the index.
        fewer_digits = 2 * len(arrays) * (len(str(n)) - len(str(kept)))
        totals.append(metadata - fewer_digits + sum(n_bytes[-(-kept // rows)] for rows, n_bytes in arrays))
    return totals
