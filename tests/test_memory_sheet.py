"""The contact sheet of a memory: every shown frame is where it should be, in its own aspect, and the rest is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from memory_store_cases import new_class, update

from vclimb.memory.sheet import MAX_CLASSES, MAX_FRAMES, MemorySheet, memory_sheet
from vclimb.memory.store.accounting import measure
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs import jpeg, raw, video_codecs
from vclimb.pipeline.codecs.exemplar import scaled_down
from vclimb.pipeline.dataset.contact_sheet import (
    CELL_HEIGHT,
    CELL_WIDTH,
    FRAME_GAP,
    HEADER_HEIGHT,
    LABEL_WIDTH,
    LINE_HEIGHT,
    LINE_WIDTH,
    MARGIN,
    MIN_WIDTH,
    ROW_PADDING,
    STRIP_GAP,
    cell_size,
    evenly,
)

LEFT = MARGIN + LABEL_WIDTH
MAX_WIDTH = LEFT + LINE_WIDTH + MARGIN
ROW_HEIGHT = LINE_HEIGHT + 2 * ROW_PADDING
WHITE = (255, 255, 255)


def colour(label: int, rank: int, frame: int) -> tuple[int, int, int]:
    """A dark colour of its own for each frame."""
    return 40 * (label % 5), 20 + 50 * (rank % 4), 10 * (frame % 18)


def exemplar(label: int, rank: int, n_frames: int, width: int = 64, height: int = 48, codec: str = "ppm") -> Exemplar:
    """Frames that are each of one colour."""
    pixels: Pixels = np.empty((n_frames, height, width, 3), np.uint8)
    for frame in range(n_frames):
        pixels[frame] = colour(label, rank, frame)
    encoder, number = {"ppm": (raw.Raw(), 0), "jpeg": (jpeg.Jpeg(), 95), "h264": (video_codecs.H264(), 4)}[codec]
    clip = encoder.encode(pixels, number)
    frames = 5 + 2 * np.arange(n_frames)
    return Exemplar(f"video {label}.{rank}", 4, 8 + 2 * n_frames, frames, clip, width, height)


def make_class(label: int, exemplars: Sequence[Exemplar], name: str | None = None) -> NewClass:
    return NewClass(label, f"class {label}" if name is None else name, "raw", exemplars)


def draw(path: Path, classes: Sequence[NewClass], **options: int) -> tuple[MemorySheet, npt.NDArray[np.uint8]]:
    with MemoryWriter.open(path) as writer:
        update(writer, classes)
    return drawn(path, **options)


def drawn(path: Path, **options: int) -> tuple[MemorySheet, npt.NDArray[np.uint8]]:
    sheet = memory_sheet(MemoryStore.open(path), measure(path), **options)
    assert sheet.picture.mode == "RGB"
    return sheet, np.asarray(sheet.picture)


def cell(sheet: npt.NDArray[np.uint8], left: int, top: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return sheet[top : top + size[1], left : left + size[0]]


def is_all(pixels: npt.NDArray[np.uint8], expected: tuple[int, int, int], tolerance: int = 0) -> bool:
    assert pixels.size
    return bool((np.abs(pixels.astype(int) - expected) <= tolerance).all())


@pytest.mark.parametrize("codec", ["ppm", "jpeg", "h264"])
def test_frames_stand_by_class_rank_and_time(tmp_path: Path, codec: str) -> None:
    classes = [make_class(label, [exemplar(label, rank, 4, codec=codec) for rank in range(3)]) for label in (2, 9)]
    sheet, pixels = draw(tmp_path / "m.zarr", classes)
    size = cell_size(64, 48)
    assert size == (104, 78)
    assert (sheet.n_classes, sheet.n_exemplars, sheet.n_damaged) == (2, 6, 0)
    three = 3 * 4 * (size[0] + FRAME_GAP) - 3 * FRAME_GAP + 2 * STRIP_GAP
    assert sheet.picture.size == (LEFT + three + MARGIN, HEADER_HEIGHT + 2 * ROW_HEIGHT + MARGIN)
    for row, label in enumerate((2, 9)):
        top = HEADER_HEIGHT + row * ROW_HEIGHT + ROW_PADDING
        assert cell(pixels, MARGIN, top, (LABEL_WIDTH - STRIP_GAP, 20)).min() < 60  # the name
        left = LEFT
        for rank in range(3):
            for frame in range(4):
                tolerance = {"ppm": 0, "jpeg": 4, "h264": 8}[codec]
                assert is_all(cell(pixels, left, top, size), colour(label, rank, frame), tolerance)
                assert is_all(cell(pixels, left + size[0], top, (FRAME_GAP, size[1])), WHITE)
                left += size[0] + FRAME_GAP
            assert (
                cell(pixels, left - 100, top + CELL_HEIGHT, (100, LINE_HEIGHT - CELL_HEIGHT)).min() < 160
            )  # the caption
            left += STRIP_GAP - FRAME_GAP
        assert left - STRIP_GAP + MARGIN == sheet.picture.width


@pytest.mark.parametrize(
    ("width", "height"), [(320, 240), (240, 320), (427, 240), (64, 48), (16, 16), (1000, 20), (20, 1000), (341, 256)]
)
def test_aspect_is_kept(tmp_path: Path, width: int, height: int) -> None:
    shown_width, shown_height = cell_size(width, height)
    assert shown_width <= CELL_WIDTH
    assert shown_height <= CELL_HEIGHT
    assert shown_width == CELL_WIDTH or shown_height == CELL_HEIGHT
    assert abs(shown_width * height - shown_height * width) <= max(width, height)  # within a pixel
    sheet, pixels = draw(tmp_path / "m.zarr", [make_class(3, [exemplar(3, 0, 2, width, height)])])
    top = HEADER_HEIGHT + ROW_PADDING
    assert is_all(cell(pixels, LEFT, top, (shown_width, shown_height)), colour(3, 0, 0))
    for frame in range(2):
        assert (pixels == colour(3, 0, frame)).all(axis=2).sum() == shown_width * shown_height
    assert sheet.n_exemplars == 1


def test_a_picture_is_the_frame_scaled_down(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 30, 40, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    one = Exemplar("v", 0, 9, np.array([4]), raw.Raw().encode(noise, 0), 320, 240)
    _, pixels = draw(tmp_path / "m.zarr", [make_class(0, [one])])
    shown = cell(pixels, LEFT, HEADER_HEIGHT + ROW_PADDING, cell_size(320, 240))
    expected = scaled_down(noise, CELL_HEIGHT)[0]  # with another filter
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 25
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.9


def test_long_rows_break_and_say_what_is_left_out(tmp_path: Path) -> None:
    """16 frames of 4:3 fill a line: two exemplars take two, of six."""
    sheet, pixels = draw(tmp_path / "m.zarr", [make_class(1, [exemplar(1, rank, 40) for rank in range(6)])])
    assert (sheet.n_classes, sheet.n_exemplars) == (1, 2)
    assert sheet.picture.height == HEADER_HEIGHT + 2 * LINE_HEIGHT + 2 * ROW_PADDING + MARGIN
    size, shown = cell_size(64, 48), evenly(range(40), MAX_FRAMES)
    assert (shown[0], shown[-1], len(shown)) == (0, 39, 16)
    for rank in range(2):
        top = HEADER_HEIGHT + ROW_PADDING + rank * LINE_HEIGHT
        for place, frame in enumerate(shown):
            left = LEFT + place * (size[0] + FRAME_GAP)
            assert is_all(cell(pixels, left, top, size), colour(1, rank, frame))
            assert left + size[0] <= LEFT + LINE_WIDTH


def test_wide_frames_stay_within_the_sheet(tmp_path: Path) -> None:
    sheet, pixels = draw(tmp_path / "m.zarr", [make_class(1, [exemplar(1, rank, 30, 200, 50) for rank in range(2)])])
    assert sheet.n_exemplars == 2
    assert MAX_WIDTH - 200 < sheet.picture.width <= MAX_WIDTH
    assert is_all(pixels[:, -MARGIN + 1 :], WHITE)


def test_many_classes_are_bounded(tmp_path: Path) -> None:
    classes = [make_class(label, [exemplar(label, rank, 8, 32, 24) for rank in range(5)]) for label in range(60)]
    sheet, pixels = draw(tmp_path / "m.zarr", classes)
    assert (sheet.n_classes, sheet.n_exemplars) == (MAX_CLASSES, 2 * MAX_CLASSES)
    assert sheet.picture.width == MAX_WIDTH
    assert sheet.picture.height == HEADER_HEIGHT + MAX_CLASSES * ROW_HEIGHT + MARGIN
    for row, label in enumerate(evenly(range(60), MAX_CLASSES)):
        top = HEADER_HEIGHT + row * ROW_HEIGHT + ROW_PADDING
        assert is_all(cell(pixels, LEFT, top, cell_size(32, 24)), colour(label, 0, 0))
    fewer, _ = drawn(tmp_path / "m.zarr", max_classes=3)
    assert (fewer.n_classes, fewer.picture.height) == (3, HEADER_HEIGHT + 3 * ROW_HEIGHT + MARGIN)


def test_damage_is_marked_and_the_rest_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    whole, _ = draw(path, [make_class(label, [exemplar(label, rank, 3) for rank in range(3)]) for label in range(3)])
    chunk = path / MemoryStore.open(path).classes[0].frames.files[1]
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    (path / MemoryStore.open(path).classes[2].folder / "table" / "c.0.0").unlink()
    sheet, pixels = drawn(path)
    assert (sheet.n_classes, sheet.n_exemplars, sheet.n_damaged) == (3, 6, 1)
    assert sheet.picture.size == whole.picture.size
    size, top = cell_size(64, 48), HEADER_HEIGHT + ROW_PADDING
    step = 3 * (size[0] + FRAME_GAP) - FRAME_GAP + STRIP_GAP
    assert is_all(cell(pixels, LEFT, top, size), colour(0, 0, 0))
    assert is_all(cell(pixels, LEFT + 2 * step, top, size), colour(0, 2, 0))
    box = cell(pixels, LEFT + step, top, (step - STRIP_GAP, size[1]))
    assert is_all(box[0], (185, 28, 28))
    assert np.median(box[..., 0]) > np.median(box[..., 1]) > 200  # pale red
    assert is_all(cell(pixels, LEFT, top + ROW_HEIGHT, size), colour(1, 0, 0))
    assert is_all(cell(pixels, LEFT, top + 2 * ROW_HEIGHT, (LINE_WIDTH, LINE_HEIGHT)), WHITE)
    red = cell(pixels, MARGIN, top + 2 * ROW_HEIGHT + 20, (LABEL_WIDTH, 20)).astype(int)
    assert (red[..., 0] - red[..., 1]).max() > 100


def test_frames_that_do_not_decode_are_damaged_too(tmp_path: Path) -> None:
    sheet, _ = draw(tmp_path / "m.zarr", [new_class(0, 2, n_frames=3)])  # sound chunks of bytes that are no pictures
    assert (sheet.n_exemplars, sheet.n_damaged) == (2, 2)


@pytest.mark.parametrize("name", ["x" * 500, "走る", "new\nline\x1b[31m", ""])
def test_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    sheet, pixels = draw(tmp_path / "m.zarr", [make_class(0, [exemplar(0, 0, 1)], name)])
    assert sheet.n_exemplars == 1
    assert is_all(pixels[HEADER_HEIGHT + 1 :, LEFT - STRIP_GAP + 1 : LEFT], WHITE)
    assert is_all(cell(pixels, LEFT, HEADER_HEIGHT + ROW_PADDING, cell_size(64, 48)), colour(0, 0, 0))


def test_an_empty_memory_has_a_title_alone(tmp_path: Path) -> None:
    with MemoryWriter.open(tmp_path / "m.zarr"):
        pass
    sheet, pixels = drawn(tmp_path / "m.zarr")
    assert (sheet.n_classes, sheet.n_exemplars) == (0, 0)
    assert sheet.picture.size == (MIN_WIDTH, HEADER_HEIGHT + MARGIN)
    assert pixels.min() < 60


def test_evenly() -> None:
    assert evenly(range(5), 5) == evenly(range(5), 9) == [0, 1, 2, 3, 4]
    assert evenly(range(10), 2) == [0, 9]
    assert evenly(range(10), 1) == [0]
    assert evenly([], 3) == []
