"""The contact sheet of a data set: a row for each class, with the middle frames of some of its videos."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.durable import replace_file

CELL_HEIGHT = 96
CELL_WIDTH = 128
LABEL_WIDTH = 190
HEADER_HEIGHT = 34
GAP = 3
MAX_ROWS = 60
MAX_COLUMNS = 32
Item = TypeVar("Item")
_BACKGROUND, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def contact_sheet(dataset: StoredDataset, columns: int = 8, max_rows: int = MAX_ROWS) -> Image.Image:
    """Draw a data set. Frames keep their aspect ratio; more than `max_rows` classes are sampled evenly.

    Raises:
        FrameDamagedError: A frame of the sheet doesn't decode.
    """
    by_class: dict[str, list[StoredInstance]] = {label: [] for label in dataset.classes}
    for instance in dataset.instances:
        by_class[instance.label].append(instance)
    labels = _evenly(dataset.classes, max_rows)
    width = LABEL_WIDTH + columns * (CELL_WIDTH + GAP) + GAP
    height = HEADER_HEIGHT + len(labels) * (CELL_HEIGHT + GAP) + GAP
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    shown = f"{len(labels)} of {len(dataset.classes)}" if len(labels) < len(dataset.classes) else f"{len(labels)}"
    title = f"{dataset.name}: {shown} classes, {len(dataset.videos)} videos, {dataset.settings.codec}"
    draw.text((GAP * 2, 8), title, _INK, ImageFont.load_default(16))
    for row, label in enumerate(labels):
        top = HEADER_HEIGHT + row * (CELL_HEIGHT + GAP)
        draw.text((GAP * 2, top + 28), _fitted(label, draw), _INK, ImageFont.load_default(14))
        count = f"{len(by_class[label])} instances"
        draw.text((GAP * 2, top + 50), count, _FAINT, ImageFont.load_default(12))
        for column, instance in enumerate(_evenly(by_class[label], columns)):
            middle = (instance.start_frame + instance.end_frame) // 2
            cell = _cell(dataset.decode_frame(dataset.by_key[instance.key], middle))
            left = LABEL_WIDTH + column * (CELL_WIDTH + GAP)
            sheet.paste(cell, (left + (CELL_WIDTH - cell.width) // 2, top + (CELL_HEIGHT - cell.height) // 2))
    return sheet


def write_contact_sheet(dataset: StoredDataset, path: Path, columns: int = 8) -> None:
    """Draw a data set's contact sheet into a PNG file, which is replaced whole or not at all.

    Raises:
        SettingsError: The path can't be written as a PNG, or `columns` is out of range.
        FrameDamagedError: A frame of the sheet doesn't decode.
    """
    if path.suffix.lower() != ".png":
        raise SettingsError(f"contact sheet {str(path)!r} must end in .png")
    if not path.parent.is_dir():
        raise SettingsError(f"contact sheet {str(path)!r}: there is no folder {str(path.parent)!r}")
    if not 1 <= columns <= MAX_COLUMNS:
        raise SettingsError(f"columns {columns} is out of range; allowed: 1 to {MAX_COLUMNS}")
    sheet = contact_sheet(dataset, columns)
    try:
        write_png(sheet, path)
    except OSError as error:
        raise SettingsError(f"contact sheet {str(path)!r} can't be written: {error.strerror}") from None


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    replace_file(path, buffer.getvalue())


def _cell(frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    picture = Image.fromarray(frame)
    scale = min(CELL_WIDTH / picture.width, CELL_HEIGHT / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _fitted(label: str, draw: ImageDraw.ImageDraw) -> str:
    font = ImageFont.load_default(14)
    label = label.encode("latin-1", "replace").decode("latin-1")  # the built-in font has no other letters
    label = "".join(letter if letter.isprintable() else "?" for letter in label)
    while label and draw.textlength(label, font) > LABEL_WIDTH - 4 * GAP:
        label = label.removesuffix("..")[:-1] + ".."
        if len(label) <= 3:
            break
    return label


def _evenly(items: list[Item], most: int) -> list[Item]:
    """Choose at most `most` items, evenly spaced."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]
