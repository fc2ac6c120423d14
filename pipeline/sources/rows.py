"""The rows of a user's table: csv, tsv, jsonl or parquet."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow
import pyarrow.parquet

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import expect, parse_json, peek_columns, read_csv, read_lines

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_rows(file: Path, wanted: Collection[str]) -> tuple[list[str], list[tuple[str, dict[str, object]]]]:
    """Read the names of all columns, and the wanted columns of each row with its place (file and row) for errors.

    Rows of csv, tsv and jsonl are numbered by line, so the first row below a header is 2. Rows of parquet count from 1.

    Raises:
        SourceError: The file's suffix is not known, or its content is malformed.
    """
    suffix = file.suffix.lower()
    if suffix in _DELIMITERS:
        columns, rows = read_csv(file, _DELIMITERS[suffix])
        return columns, [(f"{file} row {number}", dict(row)) for number, row in rows]
    if suffix == ".jsonl":
        return _read_jsonl(file)
    if suffix == ".parquet":
        return _read_parquet(file, wanted)
    raise SourceError(f"{file}: suffix {file.suffix!r} is not that of a table; allowed: {', '.join(TABLE_SUFFIXES)}")


def peek_table_columns(file: Path) -> list[str]:
    """Read the columns of a csv or tsv file from its first line; an empty list for other files."""
    suffix = file.suffix.lower()
    return peek_columns(file, _DELIMITERS[suffix]) if suffix in _DELIMITERS else []


def _read_jsonl(file: Path) -> tuple[list[str], list[tuple[str, dict[str, object]]]]:
    columns: dict[str, None] = {}
    rows: list[tuple[str, dict[str, object]]] = []
    for where, line in read_lines(file):
        row = expect(parse_json(line, where), dict, where, "a line")
        columns.update(dict.fromkeys(row))
        rows.append((where, row))
    if not rows:
        raise SourceError(f"{file}: empty; each line must be an object such as {{'path': ..., 'label': ...}}")
    return list(columns), rows


def _read_parquet(file: Path, wanted: Collection[str]) -> tuple[list[str], list[tuple[str, dict[str, object]]]]:
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            columns = list(parquet.schema_arrow.names)
            used = [name for name in columns if name in wanted]
            values = parquet.read(columns=used).to_pydict()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{file}: not a parquet file that can be read ({str(error)[:200]})") from None
    rows = [dict(zip(used, row, strict=True)) for row in zip(*(values[name] for name in used), strict=True)]
    return columns, [(f"{file} row {number}", row) for number, row in enumerate(rows, start=1)]
