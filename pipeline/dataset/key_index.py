"""Which row has which key, for a million keys, in 12 bytes a key where a dictionary takes 150."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.dataset.packing import Pieces
from vclimb.pipeline.dataset.text_hashes import hashes_of, places_among


class KeyIndex:
    """Row numbers by key. Keys are looked up by their hashes and then compared.

    Attributes:
        distinct: Whether no two rows have the same key.
    """

    def __init__(self, keys: pa.StringArray) -> None:
        self._keys = keys
        hashes = hashes_of(keys)
        self._order = np.argsort(hashes).astype(np.uint32)
        self._hashes = hashes[self._order]
        self._hashes_differ = not (self._hashes[1:] == self._hashes[:-1]).any()
        self.distinct = self._hashes_differ or pc.count_distinct(keys).as_py() == len(keys)

    def rows_of(self, keys: pa.StringArray) -> Indices:
        """The row number of each key; -1: no row has that key."""
        if not self._hashes_differ:
            first: Indices = pc.fill_null(pc.index_in(keys, self._keys), -1).to_numpy().astype(np.int64)
            return first
        if not len(self._keys):
            return np.full(len(keys), -1)
        rows = self._order[places_among(self._hashes, hashes_of(keys))].astype(np.int64)
        same = pc.equal(self._keys.take(pa.array(rows)), keys)
        return np.where(pc.fill_null(same, False).to_numpy(zero_copy_only=False), rows, -1)


def rows_in_order(keys: Pieces, of_rows: pa.StringArray) -> npt.NDArray[np.int32] | None:
    """The row of each key, where each row's key comes once or several times in a row, in the rows' order; else None."""
    rows, row, before = [np.empty(0, np.int32)], -1, None
    for part in keys:
        if part.null_count:
            return None
        if len(part):
            is_next = pc.not_equal(part[1:], part[:-1]).to_numpy(zero_copy_only=False)
            found = np.cumsum(np.concatenate([[part[0] != before], is_next]), dtype=np.int32) + np.int32(row)
            row, before = int(found[-1]), part[-1]
            if row >= len(of_rows) or not of_rows.take(pa.array(found)).equals(part):
                return None
            rows.append(found)
    return np.concatenate(rows) if row + 1 == len(of_rows) else None
