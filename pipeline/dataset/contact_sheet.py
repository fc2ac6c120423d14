"""Contact sheets: a row for each class, with frames side by side."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.durable import replace_file

# Sizes in pixels. Two exemplars of eight frames of 4:3 fill a line.
MARGIN = 20
LABEL_WIDTH = 180
LINE_WIDTH = 1710
MIN_WIDTH = 900
CELL_WIDTH, CELL_HEIGHT = 160, 78
FRAME_GAP, STRIP_GAP = 2, 18
CAPTION_HEIGHT = 18
LINE_HEIGHT = CELL_HEIGHT + CAPTION_HEIGHT
ROW_PADDING = 8
HEADER_HEIGHT = 66

MAX_ROWS = 60
MAX_COLUMNS = 32

PAPER, INK, FAINT, RULE = (255, 255, 255), (24, 24, 27), (113, 113, 122), (228, 228, 231)
ALARM, PALE_ALARM = (185, 28, 28), (254, 242, 242)
_TITLE, _NAME, _NOTE, _CAPTION = (ImageFont.load_default(size) for size in (20, 15, 12, 11))

Item = TypeVar("Item")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Strip:
    """Frames that belong together, side by side.

    Attributes:
        note: Text below the frames, at the right; left out where the strip is too narrow.
    """

    frames: Sequence[Image.Image]
    caption: str = ""
    note: str = ""

    @property
    def width(self) -> int:
        return sum(frame.width + FRAME_GAP for frame in self.frames) - FRAME_GAP


@dataclass(frozen=True)
class Row:
    """A class of a contact sheet."""

    name: str
    notes: Sequence[str]
    strips: Sequence[Strip]
    is_damaged: bool = False


def draw_sheet(title: str, note: str, rows: Sequence[Row]) -> Image.Image:
    """Draw a contact sheet, at least `MIN_WIDTH` wide."""
    places = [flow(row.strips) for row in rows]
    heights = [(line_places[-1][0] + 1 if line_places else 1) * LINE_HEIGHT + 2 * ROW_PADDING for line_places in places]
    rights = [
        left + strip.width
        for row, line_places in zip(rows, places, strict=True)
        for strip, (_, left) in zip(row.strips, line_places, strict=True)
    ]
    width = max(MIN_WIDTH, max(rights, default=0) + LABEL_WIDTH + 2 * MARGIN)
    picture = Image.new("RGB", (width, HEADER_HEIGHT + sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    _write(draw, MARGIN, 14, title, _TITLE, INK, width - 2 * MARGIN)
    _write(draw, MARGIN, 42, note, _NOTE, FAINT, width - 2 * MARGIN)
    top = HEADER_HEIGHT
    for row, line_places, height in zip(rows, places, heights, strict=True):
        draw.line((MARGIN, top, width - MARGIN, top), RULE)
        _write(draw, MARGIN, top + ROW_PADDING, row.name, _NAME, INK, LABEL_WIDTH - STRIP_GAP)
        for number, text in enumerate(row.notes):
            colour, note_top = ALARM if row.is_damaged else FAINT, top + ROW_PADDING + 22 + 16 * number
            _write(draw, MARGIN, note_top, text, _NOTE, colour, LABEL_WIDTH - STRIP_GAP)
        for strip, (line, left) in zip(row.strips, line_places, strict=True):
            _draw_strip(picture, MARGIN + LABEL_WIDTH + left, top + ROW_PADDING + line * LINE_HEIGHT, strip)
        top += height
    return picture


def flow(strips: Sequence[Strip]) -> list[tuple[int, int]]:
    """Place strips one after the other in lines of `LINE_WIDTH`: the line and the left side of each."""
    places, line, left = [], 0, 0
    for strip in strips:
        if left and left + strip.width > LINE_WIDTH:
            line, left = line + 1, 0
        places.append((line, left))
        left += strip.width + STRIP_GAP
    return places


def cell(frame: Pixels) -> Image.Image:
    """Scale a frame (H, W, 3) to the size of a cell."""
    picture = Image.fromarray(frame)
    return picture.resize(cell_size(*picture.size), Image.Resampling.LANCZOS)


def cell_size(width: int, height: int) -> tuple[int, int]:
    """Scale a width and a height to the size of a cell, with the same aspect ratio."""
    scale = min(CELL_WIDTH / width, CELL_HEIGHT / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def damaged_cell(width: int, height: int) -> Image.Image:
    """Draw what stands for frames that can't be decoded."""
    picture = Image.new("RGB", (width, height), PALE_ALARM)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, height - 1), None, ALARM)
    _write(draw, 6, height // 2 - 7, "damaged", _NOTE, ALARM, width - 8)
    return picture


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Choose at most `most` items, evenly spaced from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[number] for number in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


def shown_of(n_shown: int, n_all: int, what: str) -> str:
    """Say how many of all are shown."""
    return f"all {n_all:,} {what} shown" if n_shown == n_all else f"{n_shown:,} of {n_all:,} {what} shown"


def contact_sheet(dataset: StoredDataset, columns: int = 8, max_rows: int = MAX_ROWS) -> Image.Image:
    """Draw the middle frames of some instances of each class; more than `max_rows` classes are sampled evenly."""
    by_class = dataset.by_class()
    rows = []
    for label in evenly(dataset.classes, max_rows):
        shown = evenly(by_class[label], columns)
        middles = [(instance.key, (instance.start_frame + instance.end_frame) // 2) for instance in shown]
        frames = [cell(dataset.decode_frame(dataset.by_key[key], middle)) for key, middle in middles]
        rows.append(Row(label, [f"{len(by_class[label]):,} instances"], [Strip(frames)]))
    title = f"{dataset.name}: {len(dataset.videos):,} videos as {dataset.settings.codec}"
    return draw_sheet(title, shown_of(len(rows), len(dataset.classes), "classes"), rows)


def write_contact_sheet(dataset: StoredDataset, path: Path, columns: int = 8) -> None:
    """Draw a data set's contact sheet into a PNG file, which is replaced whole or not at all.

    Raises:
        SettingsError: The path can't be written as a PNG, or `columns` is out of range.
        FrameDamagedError: A frame of the sheet doesn't decode.
    """
    check_png(path)
    if not 1 <= columns <= MAX_COLUMNS:
        raise SettingsError(f"columns {columns} is out of range; allowed: 1 to {MAX_COLUMNS}")
    write_png(contact_sheet(dataset, columns), path)


def check_png(path: Path) -> None:
    """Refuse a path that no PNG can be written to, before any work is done.

    Raises:
        SettingsError: The path doesn't end in `.png`, or its folder doesn't exist.
    """
    if path.suffix.lower() != ".png":
        raise SettingsError(f"picture {str(path)!r} must end in .png")
    if not path.parent.is_dir():
        raise SettingsError(f"picture {str(path)!r}: there is no folder {str(path.parent)!r}")


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, whole or not at all.

    Raises:
        SettingsError: The file can't be written.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        raise SettingsError(f"picture {str(path)!r} can't be written: {error.strerror}") from None


def _draw_strip(picture: Image.Image, left: int, top: int, strip: Strip) -> None:
    draw, frame_left = ImageDraw.Draw(picture), left
    for frame in strip.frames:
        picture.paste(frame, (frame_left, top))
        frame_left += frame.width + FRAME_GAP
    caption_top = top + max((frame.height for frame in strip.frames), default=0) + 3
    note_width = int(draw.textlength(strip.note, _CAPTION)) + 12
    if 3 * note_width <= strip.width:
        note_left = left + strip.width - note_width + 12
        _write(draw, note_left, caption_top, strip.note, _CAPTION, FAINT, note_width)
    else:
        note_width = 0
    _write(draw, left, caption_top, strip.caption, _CAPTION, INK, strip.width - note_width)


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
