"""Layout `auto`: detecting the layout of a source from its files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources import folder, user_table
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.rows import TABLE_SUFFIXES, peek_table_columns
from vclimb.pipeline.sources.table import printable_path
from vclimb.pipeline.sources.tree import scan_videos


def detect(request: SourceRequest, layouts: Mapping[str, Layout]) -> tuple[Layout, list[str]]:
    """Return the only layout that recognises the source, and notes about the evidence.

    Class folders are the weakest evidence: they count only where there is no other.

    Raises:
        SourceError: No layout recognises the source, or several do.
    """
    if request.columns:
        return user_table.LAYOUT, ["layout auto: found column names (--columns), so reading as table"]
    marks = {name: mark for name, layout in layouts.items() if (mark := _mark(layout, request)) is not None}
    if len(marks) > 1:
        marks.pop(folder.NAME, None)
    if len(marks) == 1:
        name, mark = marks.popitem()
        notes = [f"layout auto: found {mark}, so reading as {name}"]
        return layouts[name], notes + (_notes_on_tables(request) if name == folder.NAME else [])
    if marks:
        ways = "; ".join(f"{mark}: {name}" for name, mark in marks.items())
        raise SourceError(f"{str(request.source)!r} may be read in several ways ({ways}); choose one by --layout")
    raise _nothing_recognised(request, layouts)


def _mark(layout: Layout, request: SourceRequest) -> str | None:
    if os.path.isfile(request.source) and layout.name != user_table.NAME:
        return None
    return layout.recognise(request)


def _nothing_recognised(request: SourceRequest, layouts: Mapping[str, Layout]) -> SourceError:
    if not os.path.isdir(request.source):
        return SourceError(
            f"{str(request.source)!r} is neither a folder nor a table; give the folder that holds the videos, "
            f"or a table ({', '.join(TABLE_SUFFIXES)})"
        )
    if not request.annotations:
        scan_videos(request.source).require_videos()
    tables = _tables(request)
    hint = f"; to read {tables[0][0]}: --layout table --annotations FILE --columns label=NAME" if tables else ""
    looked_for = "; ".join(f"{layout.looks_for} ({name})" for name, layout in layouts.items())
    return SourceError(
        f"no layout is recognised in {request.places()}; name one by --layout{hint}. Looked for: {looked_for}"
    )


def _notes_on_tables(request: SourceRequest) -> list[str]:
    return [
        f"{what} lies there too and is not read; if it lists the videos: "
        f"--layout table --annotations {shlex.quote(printable_path(str(file)))} [--columns label=NAME]"
        for what, file in _tables(request)
    ]


def _tables(request: SourceRequest) -> list[tuple[str, Path]]:
    """The tables among the annotation files: the name with the columns, and the path of each."""
    tables = []
    for file in request.annotation_files(TABLE_SUFFIXES):
        names = ", ".join(peek_table_columns(file))
        tables.append((file.name + (f" (columns: {names})" if names else ""), file))
    return tables
