"""Reading CSV files, whichever of the usual delimiters they have."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.text_file import encoding_of, read_text

DELIMITERS = (",", ";", "\t", "|")
_PEEK_BYTES = 1 << 16
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# Excel's way to name the delimiter, in a line above the header.
_NAMED_DELIMITER = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)


def read_csv(path: Path, usual: str = ",") -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Read the columns and rows of a CSV file that begins with a header. Rows are numbered by line, from 1.

    The delimiter is the one of `DELIMITERS` that cuts the header into most columns; of several, `usual`.
    """
    delimiter, lines_before, text = _delimiter(read_text(path), usual)
    # One line at a time: a file in memory takes 4 bytes a character more.
    lines = (match[0] for match in _LINE.finditer(text))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise _not_csv(path, 1 + lines_before, delimiter, error) from None
    if not any(columns):
        raise SourceError(f"{path}: empty; its first row must name the columns")
    twice = [name for name, times in Counter(columns).items() if times > 1]
    if twice:
        raise SourceError(f"{path}: column {twice[0]!r} stands more than once in the first row")

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        begins = reader.line_num + 1 + lines_before
        try:
            for fields in reader:
                if fields and len(fields) != len(columns):
                    raise SourceError(
                        f"{path} row {begins}: {len(fields)} fields, but there are {len(columns)} columns "
                        f"({', '.join(columns)}); quote fields that hold {delimiter!r}"
                    )
                if fields:
                    yield begins, dict(zip(columns, fields, strict=True))
                begins = reader.line_num + 1 + lines_before
        except csv.Error as error:
            raise _not_csv(path, begins, delimiter, error) from None

    return columns, rows()


def _not_csv(path: Path, row: int, delimiter: str, error: csv.Error) -> SourceError:
    return SourceError(f"{path} row {row}: not valid CSV with the delimiter {delimiter!r} ({error})")


def peek_columns(path: Path, usual: str = ",") -> list[str]:
    """Read the column names in the first line of a CSV file; an empty list if the line can't be read."""
    return peek_dialect(path, usual)[1]


def peek_dialect(path: Path, usual: str = ",") -> tuple[str, list[str]]:
    """Find the delimiter and the column names by the first line of a CSV file; no names if it can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PEEK_BYTES)
        delimiter, _, text = _delimiter(head.decode(encoding_of(head), "replace"), usual)
        first = text.partition("\n")[0].rstrip("\r")
        return delimiter, [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    except (OSError, ValueError, csv.Error):
        return usual, []


def _delimiter(text: str, usual: str) -> tuple[str, int, str]:
    """The delimiter of a text, the number of lines above its header, and the text from the header on."""
    if named := _NAMED_DELIMITER.match(text):
        return named[1], 1, text[named.end() :]
    first = text[:_PEEK_BYTES].partition("\n")[0].rstrip("\r")
    try:
        n_columns = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in (usual, *DELIMITERS)}
    except csv.Error:
        return usual, 0, text
    return max(n_columns, key=lambda mark: n_columns[mark]), 0, text
