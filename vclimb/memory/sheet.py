"""A picture of a memory: a row for each class, with the frames of its first exemplars side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vclimb.memory.store.accounting import ClassUsage, MemoryUsage
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.errors import FrameDamagedError

# Sizes in pixels. Two exemplars of eight frames of 4:3 fill a line.
MARGIN = 20
LABEL_WIDTH = 180
LINE_WIDTH = 1710
MIN_WIDTH, MAX_WIDTH = 900, LABEL_WIDTH + LINE_WIDTH + 2 * MARGIN
CELL_WIDTH, CELL_HEIGHT = 160, 78
FRAME_GAP, STRIP_GAP = 2, 18
CAPTION_HEIGHT = 18
LINE_HEIGHT = CELL_HEIGHT + CAPTION_HEIGHT
ROW_PADDING = 8
HEADER_HEIGHT = 66

MAX_CLASSES = 40
MAX_FRAMES = 16
# A row has one line, or as many as it takes to show this many exemplars.
MIN_EXEMPLARS = 2

_PAPER, _INK, _FAINT, _RULE = (255, 255, 255), (24, 24, 27), (113, 113, 122), (228, 228, 231)
_ALARM, _PALE_ALARM = (185, 28, 28), (254, 242, 242)
_TITLE, _NAME, _NOTE, _CAPTION = (ImageFont.load_default(size) for size in (20, 15, 12, 11))

Item = TypeVar("Item")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class MemorySheet:
    """A picture of a memory.

    Attributes:
        picture: RGB picture, `MIN_WIDTH` to `MAX_WIDTH` wide; the number of classes bounds its height.
        n_classes: Number of classes shown.
        n_exemplars: Number of exemplars shown, damaged ones included.
        n_damaged: Number of exemplars that could not be drawn.
    """

    picture: Image.Image
    n_classes: int
    n_exemplars: int
    n_damaged: int


class _Strip(NamedTuple):
    """Place of an exemplar in the row of its class."""

    rank: int
    line: int
    left: int
    width: int
    frame_size: tuple[int, int]
    shown: list[int]


def memory_sheet(memory: MemoryStore, usage: MemoryUsage, max_classes: int = MAX_CLASSES) -> MemorySheet:
    """Draw a memory. Frames keep their aspect ratio, exemplars are in order of rank, and damaged ones are marked.

    Args:
        memory: Memory, opened for reading.
        usage: Usage of the memory.
        max_classes: Limit of the classes drawn; of more classes, evenly spaced ones are drawn.

    Raises:
        MemoryChangedError: an exemplar was dropped meanwhile.
    """
    labels = evenly(sorted(memory.classes), max_classes)
    rows = {label: _placed(memory, label) for label in labels}
    heights = [_row_height(strips) for strips in rows.values()]
    used = max((strip.left + strip.width for strips in rows.values() for strip in strips), default=0)
    width = max(MIN_WIDTH, used + LABEL_WIDTH + 2 * MARGIN)
    picture = Image.new("RGB", (width, HEADER_HEIGHT + sum(heights) + MARGIN), _PAPER)
    draw = ImageDraw.Draw(picture)
    n_exemplars = sum(map(len, rows.values()))
    notes = [
        f"{usage.files.apparent:,} bytes on disk, {usage.bytes_per_frame:,.0f} a frame",
        _shown_of(len(labels), len(usage.classes), "classes"),
        _shown_of(n_exemplars, usage.videos, "exemplars"),
    ]
    _write(draw, MARGIN, 14, _title(memory, usage), _TITLE, _INK, width - 2 * MARGIN)
    _write(draw, MARGIN, 42, "; ".join(notes), _NOTE, _FAINT, width - 2 * MARGIN)
    top, n_damaged = HEADER_HEIGHT, 0
    usages = {class_usage.label: class_usage for class_usage in usage.classes}
    for (label, strips), height in zip(rows.items(), heights, strict=True):
        draw.line((MARGIN, top, width - MARGIN, top), _RULE)
        _draw_label(draw, top + ROW_PADDING, usages[label], len(strips))
        n_damaged += sum(not _draw_strip(picture, top + ROW_PADDING, memory, label, strip) for strip in strips)
        top += height
    return MemorySheet(picture, len(labels), n_exemplars, n_damaged)


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Scale a width and a height to the size of a cell, with the same aspect ratio."""
    scale = min(CELL_WIDTH / width, CELL_HEIGHT / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Choose at most `most` items, evenly spaced from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[number] for number in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


def _placed(memory: MemoryStore, label: int) -> list[_Strip]:
    """Place the first exemplars of a class in its row."""
    try:
        table = memory.table(label)
    except FrameDamagedError:
        return []
    strips: list[_Strip] = []
    line, left = 0, 0
    for rank in range(len(table)):
        strip = _strip(table, rank)
        if left and left + strip.width > LINE_WIDTH:
            if rank >= MIN_EXEMPLARS:
                break
            line, left = line + 1, 0
        strips.append(strip._replace(line=line, left=left))
        left += strip.width + STRIP_GAP
    return strips


def _strip(table: ExemplarTable, rank: int) -> _Strip:
    size = frame_size(int(table.rows["width"][rank]), int(table.rows["height"][rank]))
    n_fitting = (LINE_WIDTH + FRAME_GAP) // (size[0] + FRAME_GAP)
    shown = evenly(range(int(table.n_frames[rank])), min(n_fitting, MAX_FRAMES))
    width = max(1, len(shown)) * (size[0] + FRAME_GAP) - FRAME_GAP
    return _Strip(rank, 0, 0, width, size, shown)


def _row_height(strips: Sequence[_Strip]) -> int:
    n_lines = strips[-1].line + 1 if strips else 1
    return n_lines * LINE_HEIGHT + 2 * ROW_PADDING


def _title(memory: MemoryStore, usage: MemoryUsage) -> str:
    encodings = ", ".join(sorted({stored.encoding for stored in memory.classes.values()}))
    name = f"{memory.path.parent.name}/{memory.path.name}"
    return f"{name}: {usage.videos:,} exemplars, {usage.frames:,} frames{encodings and f' as {encodings}'}"


def _shown_of(n_shown: int, n_all: int, what: str) -> str:
    return f"all {n_all:,} {what} shown" if n_shown == n_all else f"{n_shown:,} of {n_all:,} {what} shown"


def _draw_label(draw: ImageDraw.ImageDraw, top: int, usage: ClassUsage, n_shown: int) -> None:
    width = LABEL_WIDTH - STRIP_GAP
    _write(draw, MARGIN, top, usage.name, _NAME, _INK, width)
    if usage.is_damaged:
        _write(draw, MARGIN, top + 22, "its table is damaged", _NOTE, _ALARM, width)
        return
    more = f", {n_shown} shown" if n_shown < usage.videos else ""
    notes = (
        f"{usage.videos:,} exemplar{'s' * (usage.videos != 1)}{more}",
        f"{usage.frames:,} frame{'s' * (usage.frames != 1)}",
        f"{usage.bytes_per_frame:,.0f} bytes a frame",
    )
    for line, note in enumerate(notes):
        _write(draw, MARGIN, top + 22 + 16 * line, note, _NOTE, _FAINT, width)


def _draw_strip(picture: Image.Image, top: int, memory: MemoryStore, label: int, strip: _Strip) -> bool:
    """Draw an exemplar's frames and caption; return whether the frames could be drawn."""
    left, top = MARGIN + LABEL_WIDTH + strip.left, top + strip.line * LINE_HEIGHT
    draw, (width, height) = ImageDraw.Draw(picture), strip.frame_size
    try:
        frames = _frames(memory, label, strip)
    except FrameDamagedError:
        frames = []
        draw.rectangle((left, top, left + strip.width - 1, top + height - 1), _PALE_ALARM, _ALARM)
        _write(draw, left + 6, top + height // 2 - 7, "damaged", _NOTE, _ALARM, strip.width - 8)
    for number, frame in enumerate(frames):
        picture.paste(frame, (left + number * (width + FRAME_GAP), top))
    _draw_caption(draw, left, top + height + 3, memory.table(label), strip)
    return bool(frames)


def _draw_caption(draw: ImageDraw.ImageDraw, left: int, top: int, table: ExemplarTable, strip: _Strip) -> None:
    """Write rank and key and, where they fit to the right, the numbers of the kept frames."""
    n_kept = int(table.n_frames[strip.rank])
    numbers = table.rows["frames"][strip.rank, :n_kept].tolist()
    kept = f"frame {numbers[0]}" if n_kept == 1 else f"frames {numbers[0]}-{numbers[-1]}"
    if len(strip.shown) < n_kept:
        kept = f"{len(strip.shown)} of {n_kept} shown, {kept}"
    width = int(draw.textlength(kept, _CAPTION)) + 12
    if 3 * width <= strip.width:
        _write(draw, left + strip.width - width + 12, top, kept, _CAPTION, _FAINT, width)
    else:
        width = 0
    _write(draw, left, top, f"#{strip.rank}  {table.keys[strip.rank]}", _CAPTION, _INK, strip.width - width)


def _frames(memory: MemoryStore, label: int, strip: _Strip) -> list[Image.Image]:
    """Decode the frames of an exemplar that are shown, and scale them.

    Raises:
        FrameDamagedError: the frames can't be read or don't decode.
    """
    exemplar = memory.exemplar(label, strip.rank)
    clip = replace(exemplar.clip, unit=exemplar.clip.unit[strip.shown], position=exemplar.clip.position[strip.shown])
    where = memory.where(label, strip.rank)
    pixels = decode_clip(clip, exemplar.width, exemplar.height, lambda _: where)
    return [Image.fromarray(frame).resize(strip.frame_size, Image.Resampling.LANCZOS) for frame in pixels]


def _write(
    draw: ImageDraw.ImageDraw, left: int, top: int, text: str, font: Font, colour: tuple[int, int, int], width: int
) -> None:
    """Write one line of text, shortened in the middle where it is too long."""
    text = text.encode("ascii", "replace").decode()  # the built-in font has no other letters
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    draw.text((left, top), _shortened(text, lambda short: draw.textlength(short, font) <= width), colour, font)


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Leave out as little as needed of the middle of a text: names that begin alike often end differently."""
    if fits(text):
        return text
    for n_kept in range(len(text) - 1, 0, -1):
        n_head = (n_kept + 1) // 2
        short = f"{text[:n_head]}…{text[len(text) - (n_kept - n_head) :]}"
        if fits(short):
            return short
    return "…"
