"""What a million texts have in common, by their hashes: a set of them takes ten times as long."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.arrays import Flags, Indices

Hashes = npt.NDArray[np.uint64]

_AT_ONCE = 2**14
_WORD = 8
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES = np.array([256**n_bytes - 1 for n_bytes in range(_WORD + 1)], np.uint64)
"""Masks that keep the first bytes of a word, by their number."""


def count_distinct(texts: pa.StringArray) -> int:
    """The number of different texts."""
    hashes = hashes_of(texts)
    order = np.argsort(hashes)
    repeats = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if not texts.take(pa.array(order[repeats])).equals(texts.take(pa.array(order[repeats + 1]))):
        return int(pc.count_distinct(texts).as_py())
    return len(texts) - len(repeats)


def are_among(texts: pa.StringArray, others: pa.StringArray) -> Flags:
    """Which texts are among some others."""
    if not len(others):
        return np.zeros(len(texts), np.bool_)
    of_others = hashes_of(others)
    rows = np.argsort(of_others)
    of_others, hashes = of_others[rows], hashes_of(texts)
    places = places_among(of_others, hashes)
    known: Flags = of_others[places] == hashes
    found = texts.filter(pa.array(known))
    if not others.take(pa.array(rows[places[known]])).equals(found):
        known[known] = pc.is_in(found, others).to_numpy(zero_copy_only=False)
    return known


def places_among(rising: Hashes, hashes: Hashes) -> Indices:
    """The first place of each hash among some in rising order, or of the next larger one, or the last place."""
    order = np.argsort(hashes)  # since a search for rising numbers stays in the cache
    places = np.empty(len(hashes), np.int64)
    places[order] = np.searchsorted(rising, hashes[order])
    return np.minimum(places, len(rising) - 1)


def hashes_of(texts: pa.StringArray) -> Hashes:
    """A hash of each text: its length and its bytes, eight at a time."""
    hashes = np.empty(len(texts), np.uint64)
    for start in range(0, len(texts), _AT_ONCE):
        part = texts.slice(start, _AT_ONCE)
        _, offsets, data = part.buffers()
        ends = np.frombuffer(offsets, np.int32)[part.offset : part.offset + len(part) + 1].astype(np.int64)
        bytes_ = np.zeros(ends[-1] - ends[0] + _WORD, np.uint8)
        if data is not None:
            bytes_[:-_WORD] = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
        words: Hashes = np.ndarray(len(bytes_) - _WORD + 1, np.uint64, bytes_.data, strides=(1,))
        hashes[start : start + len(part)] = _hashes_of_words(words, ends[:-1] - ends[0], np.diff(ends))
    return hashes


def _hashes_of_words(words: Hashes, places: Indices, lengths: Indices) -> Hashes:
    """The hashes of texts that begin at some bytes. `words` holds the eight bytes that begin at each byte."""
    hashes = lengths.astype(np.uint64)
    for done in range(0, int(lengths.max(initial=0)), _WORD):
        left = lengths - done
        word = words[np.minimum(places + done, len(words) - 1)] & _FIRST_BYTES[np.clip(left, 0, _WORD)]
        mixed = (hashes ^ word) * _FACTOR
        hashes = np.where(left > 0, mixed ^ (mixed >> np.uint64(29)), hashes)
    return hashes
