"""Sources: raw videos with their labels, in the layouts in which data sets are distributed.

To add a layout, write a file that defines `LAYOUT` and enter it here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources import activitynet, folder, hmdb51, kinetics, ssv2, ucf101, user_table
from vclimb.pipeline.sources.detect import detect
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.table import SourceTable

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
    """Read the videos and labels of a source. No video is opened.

    Args:
        source: Folder of the videos; for the layout `table` also the table itself.
        layout: A name of `LAYOUTS`, or `auto` to detect the layout.
        annotations: Annotation files, or folders that hold them, where they don't lie in the source.
        columns: For tables, names of our columns to names of theirs (`{"label": "class"}`).
        allow_outside: Whether a table may name files outside the source.

    Raises:
        SourceError: The source can't be read in this layout. The message says what was expected and what is there.
    """
    if layout != AUTO and layout not in LAYOUTS:
        allowed = [AUTO, *LAYOUTS]
        near = difflib.get_close_matches(layout, allowed, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SourceError(f"layout {layout!r} is not known; allowed: {', '.join(allowed)}{hint}")
    request = SourceRequest(
        source=_existing_source(source),
        annotations=tuple(_existing_annotation(path, source) for path in annotations),
        columns=dict(columns or {}),
        allow_outside=allow_outside,
    )
    if layout == AUTO:
        detected, notes = detect(request, LAYOUTS)
        table = detected.read(request)
        return replace(table, notes=(*notes, *table.notes))
    if not os.path.isdir(request.source) and layout != user_table.NAME:
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
