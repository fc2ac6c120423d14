"""Which row has which key, for a million keys, in 12 bytes a key where a dictionary takes 150."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.dataset.packing import Pieces

_AT_ONCE = 2**14
_WORD = 8
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES = np.array([256**n_bytes - 1 for n_bytes in range(_WORD + 1)], np.uint64)
"""Masks that keep the first bytes of a word, by their number."""


class KeyIndex:
    """Row numbers by key. Keys are looked up by their hashes and then compared.

    Attributes:
        distinct: Whether no two rows have the same key.
    """

    def __init__(self, keys: pa.StringArray) -> None:
        self._keys = keys
        hashes = _hashes(keys)
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
        hashes = _hashes(keys)
        order = np.argsort(hashes)  # since a search for rising numbers stays in the cache
        places = np.empty(len(keys), np.int64)
        places[order] = np.searchsorted(self._hashes, hashes[order])
        rows = self._order[np.minimum(places, len(self._order) - 1)].astype(np.int64)
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


def _hashes(texts: pa.StringArray) -> npt.NDArray[np.uint64]:
    """A hash of each text: its length and its bytes, eight at a time."""
    hashes = np.empty(len(texts), np.uint64)
    for start in range(0, len(texts), _AT_ONCE):
        part = texts.slice(start, _AT_ONCE)
        _, offsets, data = part.buffers()
        ends = np.frombuffer(offsets, np.int32)[part.offset : part.offset + len(part) + 1].astype(np.int64)
        bytes_ = np.zeros(ends[-1] - ends[0] + _WORD, np.uint8)
        if data is not None:
            bytes_[:-_WORD] = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
        words: npt.NDArray[np.uint64] = np.ndarray(len(bytes_) - _WORD + 1, np.uint64, bytes_.data, strides=(1,))
        hashes[start : start + len(part)] = _hashes_of_words(words, ends[:-1] - ends[0], np.diff(ends))
    return hashes


def _hashes_of_words(words: npt.NDArray[np.uint64], places: Indices, lengths: Indices) -> npt.NDArray[np.uint64]:
    """The hashes of texts that begin at some bytes. `words` holds the eight bytes that begin at each byte."""
    hashes = lengths.astype(np.uint64)
    for done in range(0, int(lengths.max(initial=0)), _WORD):
        left = lengths - done
        word = words[np.minimum(places + done, len(words) - 1)] & _FIRST_BYTES[np.clip(left, 0, _WORD)]
        mixed = (hashes ^ word) * _FACTOR
        hashes = np.where(left > 0, mixed ^ (mixed >> np.uint64(29)), hashes)
    return hashes
