"""Reading text files in the encodings that spreadsheets and editors write."""

from __future__ import annotations

import codecs
from pathlib import Path

from vclimb.pipeline.errors import SourceError

# The mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(data: bytes) -> str:
    """The encoding that a byte order mark names; UTF-8 where there is none."""
    return next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), "utf-8")


def read_text(path: Path) -> str:
    """Read a whole file as UTF-8, or as UTF-16 or UTF-32 where it begins with their byte order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror}") from None
    encoding = encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise SourceError(f"{path}: not {name} text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise SourceError(
            f"{path}: holds zero bytes: it is no text, or UTF-16 without a byte order mark; save it as UTF-8"
        )
    return text
