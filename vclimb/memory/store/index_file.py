"""Writing the index of a memory: the metadata of all nodes, gathered in the root group."""

from __future__ import annotations

import warnings
from typing import Any

import zarr
from zarr.errors import ZarrUserWarning

from vclimb.memory.store.atomic_store import AtomicStore
from vclimb.memory.store.memory_index import FORMAT, FORMAT_VERSION, checksum


def writing_settings() -> Any:
    """Let zarr write metadata without indentation, for it counts against a budget in bytes: a context manager."""
    return zarr.config.set({"json_indent": None})


def write_index(store: AtomicStore, generation: int) -> None:
    """Gather the metadata of all nodes in the root group, without publishing it."""
    with warnings.catch_warnings():
        # "Consolidated metadata is currently not part in the Zarr format 3 specification": readers that don't know it
        # find the same metadata in the nodes.
        warnings.simplefilter("ignore", ZarrUserWarning)
        root = zarr.consolidate_metadata(store)
        root.attrs.put({"format": FORMAT, "format_version": FORMAT_VERSION, "generation": generation})
        root.attrs["checksum"] = checksum(root.metadata.to_dict())
