"""Show what memories keep, as pictures small enough for a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from vclimb.memory.store.accounting import open_and_measure
from vclimb.memory.store.stored_class import INDEX_FILE
from vclimb.pipeline.errors import VclimbError
from vclimb.study.report.groups import Group, ReportLayout, best
from vclimb.study.report.results import RunResult
from vclimb.training.run_folder import MEMORY

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
    if not groups:
        return []
    at_hand = [group for group in groups if _run_with_memory(group) is not None]
    sheets = []
    for title, wanted, shown in (
        ("The smallest memory", _smallest(groups), _smallest(at_hand)),
        ("The best memory", best(groups), best(at_hand)),
    ):
        wanted_name = layout.name(wanted) if wanted else ""
        if shown is None:
            reason = "its run folder has no memory.zarr, as where only metrics were copied"
            sheets.append(Sheet(title, wanted_name, "", reason))
            continue
        note = "" if shown is wanted else f"of those whose memory.zarr is at hand; {wanted_name} isn't"
        sheets.append(_sheet(title, layout.name(shown), shown, note))
    return sheets


def _smallest(groups: list[Group]) -> Group | None:
    return min(groups, key=lambda group: group.bytes.mean, default=None)


def _run_with_memory(group: Group) -> RunResult | None:
    return next((run for run in group.runs if (run.path / MEMORY / INDEX_FILE).exists()), None)


def _sheet(title: str, name: str, group: Group, note: str) -> Sheet:
    run = _run_with_memory(group)
    assert run is not None, "groups without a memory are left out before"
    try:
        # Loads torch, which a report without memories at hand does without.
        from vclimb.memory.sheet import memory_sheet

        picture = memory_sheet(*open_and_measure(run.path / MEMORY), _MAX_CLASSES).picture
    except (VclimbError, OSError) as error:
        return Sheet(title, name, "", f"it can't be read: {error}")
    return Sheet(title, name, _data_address(picture), note)


def _data_address(picture: Image.Image) -> str:
    if picture.width > _MAX_WIDTH:
        height = round(picture.height * _MAX_WIDTH / picture.width)
        picture = picture.resize((_MAX_WIDTH, height), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.convert("RGB").save(sink, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
