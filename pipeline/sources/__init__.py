"""Sources: raw videos with their labels, in the layouts in which data sets are distributed.

To add a layout, write a file that defines `LAYOUT` and enter it here.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources import activitynet, folder, hmdb51, kinetics, ssv2, ucf101, user_table
from vclimb.pipeline.sources.annotations import TABLE_SUFFIXES, peek_table_columns
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.table import SourceTable, printable_path
from vclimb.pipeline.sources.tree import scan_videos
from vclimb.pipeline.suggestion import suggestion

LAYOUTS: dict[str, Layout] = {
    module.LAYOUT.name: module.LAYOUT for module in (folder, user_table, ucf101, hmdb51, kinetics, activitynet, ssv2)
}
AUTO = "auto"

__all__ = ["AUTO", "LAYOUTS", "read_source"]


def read_source(
    source: Path,
    layout: str = AUTO,
    *,
    annotations: Sequence[Path] = (),
    columns: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> SourceTable:
    """Read the videos and labels of a source, as the arguments of `vclimb.prepare` describe it. No video is opened.

    Raises a SourceError where the source can't be read in this layout: what was expected, and what is there.
    """
    if layout != AUTO and layout not in LAYOUTS:
        raise SourceError(f"layout {layout!r} is not known; {suggestion(layout, [AUTO, *LAYOUTS])}")
    request = SourceRequest(
        source=_existing_source(source),
        annotations=tuple(_existing_annotation(path, source) for path in annotations),
        columns=dict(columns or {}),
        allow_outside=allow_outside,
    )
    if layout == AUTO:
        detected, notes = _detect(request)
        table = detected.read(request)
        return replace(table, notes=(*notes, *table.notes))
    if layout == user_table.NAME:
        return user_table.read(request)
    if columns:
        pairs = ", ".join(f"{ours}={theirs}" for ours, theirs in columns.items())
        raise SourceError(
            f"layout {layout!r} takes no column names, but {pairs} was given; leave it out, or use --layout table"
        )
    if not os.path.isdir(request.source):
        raise SourceError(f"source {str(source)!r} is not a folder; the layout {layout!r} needs one")
    return LAYOUTS[layout].read(request)


def _existing_source(source: Path) -> Path:
    """The absolute path of a source: the real path of a folder, or of a table's folder with the table's name."""
    if not os.path.lexists(source):
        raise SourceError(f"source {str(source)!r} is not there")
    if not os.path.exists(source):
        raise SourceError(f"source {str(source)!r} is a broken symbolic link")
    return source.resolve() if os.path.isdir(source) else source.parent.resolve() / source.name


def _existing_annotation(path: Path, source: Path) -> Path:
    if os.path.exists(path):
        return path.absolute()
    hint = f"; did you mean {str(source / path)!r}?" if os.path.exists(source / path) else ""
    raise SourceError(f"annotations {str(path)!r} are not there{hint}")


def _detect(request: SourceRequest) -> tuple[Layout, list[str]]:
    """Return the only layout that recognises the source, and notes about the evidence.

    Class folders are the weakest evidence: they count only where there is no other.
    """
    if request.columns:
        return user_table.LAYOUT, ["layout auto: found column names (--columns), so reading as table"]
    candidates = [user_table.LAYOUT] if os.path.isfile(request.source) else LAYOUTS.values()
    marks = {layout.name: mark for layout in candidates if (mark := layout.recognise(request)) is not None}
    if len(marks) > 1:
        marks.pop(folder.NAME, None)
    if len(marks) == 1:
        name, mark = marks.popitem()
        notes = [f"layout auto: found {mark}, so reading as {name}"]
        return LAYOUTS[name], notes + (_notes_on_tables(request) if name == folder.NAME else [])
    if marks:
        ways = "; ".join(f"{mark}: {name}" for name, mark in marks.items())
        raise SourceError(f"{str(request.source)!r} may be read in several ways ({ways}); choose one by --layout")
    raise _nothing_recognised(request)


def _nothing_recognised(request: SourceRequest) -> SourceError:
    if not os.path.isdir(request.source):
        return SourceError(
            f"{str(request.source)!r} is neither a folder nor a table; give the folder that holds the videos, "
            f"or a table ({', '.join(TABLE_SUFFIXES)})"
        )
    if not request.annotations:
        scan_videos(request.source)
    tables = _tables(request)
    hint = f"; to read {tables[0][0]}: --layout table --annotations FILE --columns label=NAME" if tables else ""
    looked_for = "; ".join(f"{layout.looks_for} ({name})" for name, layout in LAYOUTS.items())
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
