"""Reading annotation files: text, JSON and CSV, and the tables of users.

Every defect raises a `SourceError` that names file and row, the value, and what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.csv_file import peek_columns, read_csv
from vclimb.pipeline.sources.text_file import read_text

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_BATCH_ROWS = 10_000
_NO_PARQUET = (pyarrow.ArrowException, OSError, ValueError)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}

Kind = TypeVar("Kind")


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Read the lines of a text file that aren't blank, each with its place for error messages."""
    lines = enumerate(read_text(path).split("\n"), start=1)  # splitlines also splits at characters that JSON allows
    return [(f"{path} row {number}", line.strip()) for number, line in lines if line.strip()]


def parse_json(text: str, where: str) -> Any:
    try:
        value = json.loads(text)
        if "\\u" in text:  # only an escape can give half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise SourceError(f"{where}: holds half a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: not valid JSON ({error})") from None
    return value


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Read a JSON file whose value is of a kind."""
    return expect(parse_json(read_text(path), str(path)), kind, str(path), "the content")


def peek_has(path: Path, word: bytes, limit_bytes: int = 1 << 20) -> bool:
    """Whether the first `limit_bytes` of a file contain a word."""
    try:
        with path.open("rb") as file:
            return word in file.read(limit_bytes)
    except OSError:
        return False


def expect(value: object, kind: type[Kind], where: str, what: str) -> Kind:
    """Return a JSON value that must be of a kind."""
    if not isinstance(value, kind):
        raise SourceError(f"{where}: {what} must be {_KINDS[kind]}, not {_shown(value)}")
    return value


_KINDS: dict[type, str] = {dict: "an object {...}", list: "a list [...]", str: "a text"}


def parse_label(value: object, where: str) -> str:
    """Parse a class name; white space around it is removed."""
    label = expect(value, str, where, "the label").strip()
    if not label:
        raise SourceError(f"{where}: the label is empty; name the class, or leave the row out")
    return label


def parse_seconds(value: object, where: str, name: str) -> float | None:
    """Parse a time in seconds; None where the field is empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise SourceError(f"{where}: {name} must be a number of seconds, not {_shown(value)}")
    return seconds


def parse_range(start: object, end: object, where: str, names: tuple[str, str]) -> tuple[float | None, float | None]:
    """Parse start and end in seconds, each None where the field is empty."""
    start_seconds, end_seconds = parse_seconds(start, where, names[0]), parse_seconds(end, where, names[1])
    for name, seconds in zip(names, (start_seconds, end_seconds), strict=True):
        if seconds is not None and seconds < 0:
            raise SourceError(f"{where}: {name} {seconds:g} is negative; times count from the start of the video")
    if end_seconds is not None and (start_seconds or 0.0) >= end_seconds:
        raise SourceError(f"{where}: {names[0]} {start_seconds or 0:g} is not before {names[1]} {end_seconds:g}")
    return start_seconds, end_seconds


def parse_video_id(value: object, where: str, name: str) -> str:
    """Parse a video's id, which is a file name and no path."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else expect(value, str, where, name)
    text = text.strip()
    if not text or text in (".", "..") or any(char in text for char in "/\\\0"):
        raise SourceError(f"{where}: {name} {text!r} is not a file name: it is empty or holds a path")
    return text


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)[:60]


def read_rows(file: Path, wanted: Collection[str]) -> tuple[list[str], Iterator[tuple[str, dict[str, object]]]]:
    """Read the names of all columns, and the wanted columns of each row with its place (file and row) for errors.

    Columns are wanted in upper and in lower case.

    Rows of csv, tsv and jsonl are numbered by line, so the first row below a header is 2. Rows of parquet count from 1.
    """
    suffix = file.suffix.lower()
    if suffix in _DELIMITERS:
        columns, rows = read_csv(file, _DELIMITERS[suffix])
        return columns, ((f"{file} row {number}", dict(row)) for number, row in rows)
    if suffix == ".jsonl":
        return _read_jsonl(file)
    if suffix == ".parquet":
        return _read_parquet(file, wanted)
    raise SourceError(f"{file}: suffix {file.suffix!r} is not that of a table; allowed: {', '.join(TABLE_SUFFIXES)}")


def peek_table_columns(file: Path) -> list[str]:
    """Read the columns of a csv or tsv file from its first line; an empty list for other files."""
    suffix = file.suffix.lower()
    return peek_columns(file, _DELIMITERS[suffix]) if suffix in _DELIMITERS else []


def _read_jsonl(file: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, object]]]]:
    columns: dict[str, None] = {}
    rows: list[tuple[str, dict[str, object]]] = []
    for where, line in read_lines(file):
        row = expect(parse_json(line, where), dict, where, "a line")
        columns.update(dict.fromkeys(row))
        rows.append((where, row))
    if not rows:
        raise SourceError(f"{file}: empty; each line must be an object such as {{'path': ..., 'label': ...}}")
    return list(columns), iter(rows)


def _read_parquet(file: Path, wanted: Collection[str]) -> tuple[list[str], Iterator[tuple[str, dict[str, object]]]]:
    names = {name.casefold() for name in wanted}
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            columns = list(parquet.schema_arrow.names)
            table = parquet.read(columns=[name for name in columns if name.casefold() in names])
    except _NO_PARQUET as error:
        raise _not_parquet(file, error) from None
    return columns, _parquet_rows(file, table)


def _parquet_rows(file: Path, table: pyarrow.Table) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        rows = (row for batch in table.to_batches(_BATCH_ROWS) for row in batch.to_pylist())
        yield from ((f"{file} row {number}", row) for number, row in enumerate(rows, start=1))
    except _NO_PARQUET as error:
        raise _not_parquet(file, error) from None


def _not_parquet(file: Path, error: Exception) -> SourceError:
    return SourceError(f"{file}: not a parquet file that can be read ({str(error)[:200]})")
