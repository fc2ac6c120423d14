"""Mutations of files: of their bytes, and of the values that files of a known format hold."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
import random
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

DEEP = "a value that is nested 10,000 deep"
"""Stands for such a value, which writers of JSON refuse, until the text is written."""

VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 255, 2**31, 2**53 + 1, 2**63, 2**64, 10**40, -(2**63), -(10**400)),
    *(0.5, -0.5, 1.5, 1e300, 1e308, float("nan"), float("inf"), -float("inf"), DEEP, DEEP),
    *("", " ", ".", "..", "/", "../../x", "/etc/passwd", "a\nb", "\0", "é", "\ud800", "\u202e", "1", "nan", "1/0"),
    *("x" * 300, "x" * 20_000, "9" * 5000, "train", "jpeg", "text:x", "tensor:000000", "tensor:9", "float:x", "<i8"),
    *([], {}, [[]], [1], [0, 0], [2**40, 2**40], [1, 1, 1], {"a": {}}, {"dict": [[1, 2]]}, {"dict": 3}, [None] * 2000),
]
_NUMBERS = [b"-1", b"0", b"1e308", b"NaN", b"99999999999999999999", b"1" * 5000, b'""', b"null", b"[" * 10_000, b"1.5"]
_MAX_BYTES = 2**22


def mutated_bytes(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """Mutate bytes once to three times.

    Args:
        others: Contents of other files, for splices and exchanges.
    """
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        data = dice.choice(_BYTE_MUTATIONS)(data, others, dice)[:_MAX_BYTES]
    return data


def _span(data: bytes, dice: random.Random, longest: int = 64) -> tuple[int, int]:
    start = dice.randrange(len(data) + 1)
    return start, min(len(data), start + dice.randint(1, dice.choice([1, 4, longest, 10 * longest])))


def _flip(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _number in range(dice.choice([1, 1, 1, 2, 8]) if data else 0):
        bit = dice.randrange(8 * len(data))
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _overwrite(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    n = end - start
    return data[:start] + dice.choice([dice.randbytes(n), b"\0" * n, b"\xff" * n, b"9" * n]) + data[end:]


def _truncate(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    return data[: dice.choice([0, 1, dice.randrange(len(data) + 1), max(0, len(data) - dice.randint(1, 40))])]


def _extend(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    n = dice.choice([1, 8, 512, 4096])
    return data + dice.choice([dice.randbytes(n), b"\0" * n, b"\n" * n, data, dice.choice(others)])


def _remove(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + data[end:]


def _repeat(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:end] + data[start:end] * dice.choice([1, 1, 2, 1000]) + data[end:]


def _splice(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    other = dice.choice(others)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def _exchange(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    return dice.choice(others)


def _number(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    """Replace a number of a text, or of bytes that look like one."""
    places = [match.span() for match in re.finditer(rb"\d+", data[:100_000])]
    start, end = dice.choice(places) if places else (0, 0)
    return data[:start] + dice.choice(_NUMBERS) + data[end:]


def _line(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    """Move, repeat or remove a line."""
    lines = data.splitlines(keepends=True) or [b""]
    place = dice.randrange(len(lines))
    line = lines[place]
    if dice.random() < 0.6:
        del lines[place]
    if dice.random() < 0.7:
        lines.insert(dice.randrange(len(lines) + 1), line)
    return b"".join(lines)


_BYTE_MUTATIONS: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    *(_flip, _flip, _flip, _overwrite, _overwrite, _truncate, _extend, _remove, _repeat, _splice, _exchange),
    *(_number, _number, _line),
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*place, name)
        yield from _places(inner, (*place, name))


def mutated_values(document: Any, dice: random.Random) -> Any:
    """Replace, remove, rename, repeat or exchange values within dicts and lists, once to three times."""
    document = copy.deepcopy(document)
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        places = [*_places(document)]
        if not places or dice.random() < 0.02:
            return dice.choice(VALUES)
        *path, name = dice.choice(places)
        parent = document
        for step in path:
            parent = parent[step]
        kind = dice.choice(["replace"] * 5 + ["remove", "rename", "repeat", "exchange"])
        if kind == "remove":
            del parent[name]
        elif kind == "rename" and isinstance(parent, dict):
            parent[str(dice.choice(VALUES))[:200]] = parent.pop(name)
        elif kind == "repeat" and isinstance(parent, list):
            parent.insert(dice.randrange(len(parent) + 1), parent[name])
        elif kind == "exchange":
            other = dice.choice([*parent] if isinstance(parent, dict) else range(len(parent)))
            parent[name], parent[other] = parent[other], parent[name]
        else:
            parent[name] = copy.deepcopy(dice.choice(VALUES))
    return document


def _written(text: str) -> bytes:
    return text.replace(f'"{DEEP}"', "[" * 10_000 + "]" * 10_000).encode("utf-8", "surrogatepass")


def _json(data: bytes, dice: random.Random) -> bytes:
    text = json.dumps(mutated_values(json.loads(data), dice), indent=dice.choice([None, 1]))
    if dice.random() < 0.15 and (keys := [*re.finditer(r'"(\w+)": ', text)]):  # a key that is there twice
        key = dice.choice(keys)
        text = text[: key.start()] + f'"{key[1]}": {json.dumps(dice.choice(VALUES))}, ' + text[key.start() :]
    return _written(text)


def _jsonl(data: bytes, dice: random.Random) -> bytes:
    rows = mutated_values([json.loads(line) for line in data.splitlines()], dice)
    return b"".join(_written(json.dumps(row)) + b"\n" for row in (rows if isinstance(rows, list) else [rows]))


def _toml(data: bytes, dice: random.Random) -> bytes:
    return _written(tomli_w.dumps(mutated_values(tomllib.loads(data.decode()), dice)))


def _csv(data: bytes, dice: random.Random) -> bytes:
    rows = mutated_values([*csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))], dice)
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=dice.choice([",", ",", ",", ";", "\t"])).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _parquet(data: bytes, dice: random.Random) -> bytes:
    table = pq.read_table(pa.BufferReader(data))
    rows = mutated_values(table.to_pylist(), dice)
    try:
        table = pa.Table.from_pylist(rows, table.schema if dice.random() < 0.8 else None)
    except (pa.ArrowException, AttributeError, TypeError, ValueError, OverflowError):
        place = dice.randrange(table.num_columns)
        column = dice.choice([table.column(place).cast(pa.large_string()), pa.nulls(table.num_rows)])
        table = table.set_column(place, table.column_names[place], column)
    if dice.random() < 0.2:
        names = table.column_names
        names[dice.randrange(len(names))] = dice.choice([*names, "x", ""])
        table = table.rename_columns(names)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=dice.choice(["snappy", "zstd", "none"]))
    return buffer.getvalue()


def _pickle(data: bytes, dice: random.Random) -> bytes:
    return pickle.dumps(mutated_values(pickle.loads(data), dice), dice.choice([0, 1, 2, 3, 4, 5]))


def _npy(data: bytes, dice: random.Random) -> bytes:
    table = np.load(io.BytesIO(data))
    row = dice.randrange(len(table))
    table[row, dice.randrange(table.shape[1])] = dice.choice([-1, 0, 1, 100, 2**31, 2**40, 2**62, -(2**63)])
    table = dice.choice([table, table, table, table[row:], table.T, table.astype(np.float64), table.astype(">i8")])
    buffer = io.BytesIO()
    np.save(buffer, table)
    return buffer.getvalue()


def mutated_content(data: bytes, file_format: str, others: Sequence[bytes], dice: random.Random) -> bytes:
    """Mutate the values that a file holds; its bytes where it holds none, or where no writer takes the values."""
    mutate = {"json": _json, "jsonl": _jsonl, "toml": _toml, "csv": _csv, "parquet": _parquet, "pickle": _pickle}
    try:
        return {**mutate, "npy": _npy}[file_format](data, dice)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, csv.Error, pa.ArrowException):
        return mutated_bytes(data, others, dice)
