"""A picture of a memory: a row for each class, with the frames of its first exemplars side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image

from vclimb.memory.store.accounting import ClassUsage, MemoryUsage
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.dataset.contact_sheet import (
    FRAME_GAP,
    LINE_WIDTH,
    Row,
    Strip,
    cell,
    cell_size,
    damaged_cell,
    draw_sheet,
    evenly,
    flow,
    shown_of,
)
from vclimb.pipeline.errors import FrameDamagedError

MAX_CLASSES = 40
MAX_FRAMES = 16
# A row has one line, or as many as it takes to show this many exemplars.
MIN_EXEMPLARS = 2


@dataclass(frozen=True)
class MemorySheet:
    """An RGB picture of a memory, and what it shows; damaged exemplars, which can't be drawn, count as shown too."""

    picture: Image.Image
    n_classes: int
    n_exemplars: int
    n_damaged: int


def memory_sheet(memory: MemoryStore, usage: MemoryUsage, max_classes: int = MAX_CLASSES) -> MemorySheet:
    """Draw a memory. Frames keep their aspect ratio, exemplars are in order of rank, and damaged ones are marked.

    Args:
        max_classes: Limit of the classes drawn; of more classes, evenly spaced ones are drawn.

    Raises:
        MemoryChangedError: an exemplar was dropped meanwhile.
    """
    damaged: list[int] = []
    rows = [_row(memory, class_usage, damaged) for class_usage in evenly(usage.classes, max_classes)]
    n_exemplars = sum(len(row.strips) for row in rows)
    encodings = ", ".join(sorted({stored.encoding for stored in memory.classes.values()}))
    name = f"{memory.path.parent.name}/{memory.path.name}"
    title = f"{name}: {usage.videos:,} exemplars, {usage.frames:,} frames{encodings and f' as {encodings}'}"
    notes = [
        f"{usage.files.apparent:,} bytes on disk, {usage.bytes_per_frame:,.0f} a frame",
        shown_of(len(rows), len(usage.classes), "classes"),
        shown_of(n_exemplars, usage.videos, "exemplars"),
    ]
    return MemorySheet(draw_sheet(title, "; ".join(notes), rows), len(rows), n_exemplars, len(damaged))


def _row(memory: MemoryStore, usage: ClassUsage, damaged: list[int]) -> Row:
    """Draw the first exemplars of a class, and add the ranks of damaged ones to a list."""
    if usage.is_damaged:
        return Row(usage.name, ["its table is damaged"], [], is_damaged=True)
    if not memory.classes[usage.label].frames.files:
        return Row(usage.name, [f"{usage.videos:,} exemplars of features: no frames"], [])
    table = memory.table(usage.label)
    strips: list[Strip] = []
    for rank in range(len(table)):
        width, height = cell_size(int(table.rows["width"][rank]), int(table.rows["height"][rank]))
        n_fitting = (LINE_WIDTH + FRAME_GAP) // (width + FRAME_GAP)
        shown = evenly(range(int(table.n_frames[rank])), min(n_fitting, MAX_FRAMES))
        placeholder = damaged_cell(len(shown) * (width + FRAME_GAP) - FRAME_GAP, height)
        caption = f"#{rank}  {table.keys[rank]}", _kept(table, rank, len(shown))
        if rank >= MIN_EXEMPLARS and flow([*strips, Strip([placeholder])])[-1][1] == 0:
            break
        try:
            strips.append(Strip(_frames(memory, usage.label, rank, shown), *caption))
        except FrameDamagedError:
            damaged.append(rank)
            strips.append(Strip([placeholder], *caption))
    more = f", {len(strips)} shown" if len(strips) < usage.videos else ""
    notes = (
        f"{usage.videos:,} exemplar{'s' * (usage.videos != 1)}{more}",
        f"{usage.frames:,} frame{'s' * (usage.frames != 1)}",
        f"{usage.bytes_per_frame:,.0f} bytes a frame",
    )
    return Row(usage.name, notes, strips)


def _kept(table: ExemplarTable, rank: int, n_shown: int) -> str:
    """Name the frames that an exemplar keeps."""
    n_kept = int(table.n_frames[rank])
    numbers = table.rows["frames"][rank, :n_kept].tolist()
    kept = f"frame {numbers[0]}" if n_kept == 1 else f"frames {numbers[0]}-{numbers[-1]}"
    return f"{n_shown} of {n_kept} shown, {kept}" if n_shown < n_kept else kept


def _frames(memory: MemoryStore, label: int, rank: int, shown: list[int]) -> list[Image.Image]:
    """Decode the frames of an exemplar that are shown, and scale them."""
    exemplar, where = memory.encoded(label, rank), memory.where(label, rank)
    clip = replace(exemplar.clip, unit=exemplar.clip.unit[shown], position=exemplar.clip.position[shown])
    return [cell(frame) for frame in decode_clip(clip, exemplar.width, exemplar.height, lambda _: where)]
