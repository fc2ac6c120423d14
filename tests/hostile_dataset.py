"""Changes to a prepared data set: bits that flipped by accident, and contents that somebody made with right digests."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.header import HEADER, header_bytes
from vclimb.pipeline.errors import DatasetError

Content = dict[str, Any]


def accepted_flips(folder: Path, name: str, bits: Iterable[int] | None = None) -> list[int]:
    """Flip single bits of a file of a data set, and list those with which the data set opens.

    Args:
        bits: Numbers of the bits. None: all bits of the file.

    Raises:
        Exception: Any error that is not a DatasetError which names the file and a remedy.
    """
    whole = (folder / name).read_bytes()
    accepted = []
    try:
        for bit in range(8 * len(whole)) if bits is None else bits:
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(data)
            try:
                StoredDataset.open(folder)
            except DatasetError as error:
                message = str(error)
                if name not in message and "format version" not in message:
                    raise
                if not any(remedy in message for remedy in ("restore it from a copy", "this vclimb reads version")):
                    raise
            else:
                accepted.append(bit)
    finally:
        (folder / name).write_bytes(whole)
    return accepted


def sample_of_bits(path: Path, n: int, seed: int = 0) -> list[int]:
    """Choose some bits of a file at random."""
    return np.random.default_rng(seed).integers(0, 8 * path.stat().st_size, n).tolist()


def edit_header(folder: Path, change: Callable[[Content], object]) -> None:
    """Change the content of dataset.json, and give it the right digest again."""
    content = json.loads((folder / HEADER).read_bytes())
    del content["sha256"]
    change(content)
    (folder / HEADER).write_bytes(header_bytes(content))


def put_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a table or errors.jsonl, and record its digest."""
    (folder / name).write_bytes(data)
    edit_header(folder, lambda content: content["files"].update({name: hashlib.sha256(data).hexdigest()}))


def edit_rows(folder: Path, name: str, change: Callable[[list[Content]], object]) -> None:
    """Change the rows of a table, keep its columns, and record its digest."""
    table = pq.read_table(folder / name)
    rows = table.to_pylist()
    change(rows)
    put_file(folder, name, parquet_bytes(pa.Table.from_pylist(rows, table.schema)))


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def put_shard_file(folder: Path, suffix: str, data: bytes, number: int = 0) -> Path:
    """Replace a shard's tar, index or frame index, and record its digest."""
    path = dict(zip(("tar", "idx", "frames"), StoredDataset.open(folder).shard_paths(number), strict=True))[suffix]
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_header(folder, lambda content: content["shards"][number].update({f"{suffix}_sha256": digest}))
    return path


NO_FILES = ("pipe", "device", "folder", "gone")


def put_no_file(path: Path, kind: str) -> None:
    """Replace a file by something of the kind that is no file, or by nothing."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
