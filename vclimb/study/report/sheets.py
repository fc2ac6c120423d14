"""Show what memories keep, as pictures small enough for a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from vclimb.memory.store.accounting import open_and_measure
from vclimb.memory.store.stored_class import INDEX_FILE, MEMORY_NAME
from vclimb.pipeline.errors import VclimbError
from vclimb.study.report.group import Group
from vclimb.study.report.groups import ReportLayout, best
from vclimb.study.report.results import RunResult

_MAX_CLASSES = 6
_MAX_WIDTH = 1300


@dataclass(frozen=True)
class Sheet:
    """Contact sheet of a memory.

    Attributes:
        title: Reason for showing this memory.
        name: Name of the cell.
        data: Picture as a `data:` address; empty where there is none.
        note: What can't be shown, and why; may be empty.
    """

    title: str
    name: str
    data: str
    note: str


def contact_sheets(layout: ReportLayout) -> list[Sheet]:
    """Show what the smallest and the best memories keep, of those whose files are at hand."""
    groups = [group for group in layout.groups if group.bytes.mean > 0 and group.frames.mean > 0]
    at_hand = {id(group): run for group in groups if (run := _run_with_memory(group)) is not None}
    shown = [group for group in groups if id(group) in at_hand]
    sheets = []
    for title, choose in (("The smallest memory", _smallest), ("The best memory", best)):
        if (wanted := choose(groups)) is None:
            continue
        if (group := choose(shown)) is None:
            reason = "its run folder has no memory.zarr, as where only metrics were copied"
            sheets.append(Sheet(title, layout.name(wanted), "", reason))
        else:
            note = "" if group is wanted else f"of those whose memory.zarr is at hand; {layout.name(wanted)} isn't"
            sheets.append(Sheet(title, layout.name(group), *_picture(at_hand[id(group)], note)))
    return sheets


def _smallest(groups: list[Group]) -> Group | None:
    return min(groups, key=lambda group: group.bytes.mean, default=None)


def _run_with_memory(group: Group) -> RunResult | None:
    return next((run for run in group.runs if (run.path / MEMORY_NAME / INDEX_FILE).exists()), None)


def _picture(run: RunResult, note: str) -> tuple[str, str]:
    """Draw the memory of a run as a `data:` address, with a note; the address is empty where it can't be read."""
    try:
        # Loads torch, which a report without memories at hand does without.
        from vclimb.memory.sheet import memory_sheet

        picture = memory_sheet(*open_and_measure(run.path / MEMORY_NAME), _MAX_CLASSES).picture
        if picture.width > _MAX_WIDTH:
            height = round(picture.height * _MAX_WIDTH / picture.width)
            picture = picture.resize((_MAX_WIDTH, height), Image.Resampling.LANCZOS)
        sink = io.BytesIO()
        picture.convert("RGB").save(sink, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode(), note
    except (VclimbError, OSError) as error:
        return "", f"it can't be read: {error}"
