"""Columns of a table in a form that takes less memory: texts as numbers, digests as bytes."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.arrays import Indices

_DIGITS = 64
_NOT_IN_CAPITALS = 0x20  # The bit that is set in "0" to "9" and "a" to "f", and not in "A" to "F".


Values = TypeVar("Values", pa.Array, pa.ChunkedArray)
Pieces = Iterable[pa.Array]
"""The values of a column in one or more arrays, of which the last may still be in the file when the first is used."""


def single_array(pieces: Pieces) -> pa.Array:
    """The values of a column in one piece."""
    arrays = [*pieces]
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def digests_as_bytes(pieces: Pieces) -> pa.FixedSizeBinaryArray:
    """SHA-256s of 64 hexadecimal digits as 32 bytes each. Raises a ValueError where a text is no such digest."""
    packed = bytearray()
    for piece in pieces:
        if piece.null_count or pc.any(pc.not_equal(pc.binary_length(piece), _DIGITS)).as_py():
            raise ValueError("a digest has other than 64 digits")
        if not len(piece):
            continue
        first = np.frombuffer(piece.buffers()[1], np.int32)[piece.offset].item()
        text = np.frombuffer(piece.buffers()[2], np.uint8, len(piece) * _DIGITS, first)
        if not np.bitwise_and.reduce(text) & _NOT_IN_CAPITALS:
            raise ValueError("a digest has other than the digits 0 to 9 and a to f")
        packed += binascii.unhexlify(text.data)  # raises a ValueError of its own
    n_bytes = _DIGITS // 2
    return pa.Array.from_buffers(pa.binary(n_bytes), len(packed) // n_bytes, [None, pa.py_buffer(packed)])


def list_of_labels(labels: pa.ListArray) -> pa.ListArray:
    """Lists of texts as lists of places in a list of different texts."""
    offsets = labels.offsets  # those of a slice
    start = offsets[0].as_py() if len(offsets) else 0
    values = labels.values.slice(start, (offsets[-1].as_py() if len(offsets) else 0) - start)
    mask = labels.is_null() if labels.null_count else None
    return pa.ListArray.from_arrays(pc.subtract(offsets, start), values.dictionary_encode(), mask=mask)


def packed(pieces: Pieces, *, encode: bool) -> pa.Array:
    """The values of a column: whole numbers of as few bytes as they need, and texts as codes if `encode` is set."""
    if encode:
        encoded = pa.chunked_array([*pieces]).dictionary_encode().combine_chunks()
        return pa.DictionaryArray.from_arrays(_narrowed(encoded.indices), encoded.dictionary)
    column = pa.chunked_array([*pieces])
    return (_narrowed(column) if pa.types.is_integer(column.type) else column).combine_chunks()


def _narrowed(numbers: Values) -> Values:
    ends = pc.min_max(numbers).as_py()
    least, most = ends["min"] or 0, ends["max"] or 0
    for kind, limit in ((pa.int8(), 2**7), (pa.int16(), 2**15), (pa.int32(), 2**31)):
        if kind.bit_width < numbers.type.bit_width and -limit <= least and most < limit:
            return numbers.cast(kind)
    return numbers


def exact_sum(numbers: Indices) -> int:
    """The sum of whole numbers, of any size."""
    return (int((numbers >> 32).sum()) << 32) + int((numbers & 0xFFFFFFFF).sum())


def label_codes(column: pa.DictionaryArray) -> Indices:
    """Places in the dictionary of a column's values; -1: null."""
    codes: Indices = pc.fill_null(column.indices, -1).to_numpy().astype(np.int64)
    return codes


def values_of(column: pa.Array) -> list[Any]:
    """The values of a column as objects, as `to_pylist` makes them, in a tenth of the time."""
    if isinstance(column, pa.DictionaryArray):
        texts = [*column.dictionary.to_pylist(), None]  # -1: null
        return [texts[code] for code in label_codes(column).tolist()]
    if isinstance(column, pa.ListArray) and isinstance(column.values, pa.DictionaryArray) and not column.null_count:
        texts = values_of(column.flatten())
        ends = np.cumsum(pc.list_value_length(column).to_numpy()).tolist()
        return [texts[start:end] for start, end in pairwise([0, *ends])]
    if pa.types.is_integer(column.type) and not column.null_count:
        numbers: list[Any] = column.to_numpy().tolist()
        return numbers
    values: list[Any] = [None] * len(column) if column.null_count == len(column) else column.to_pylist()
    return values
