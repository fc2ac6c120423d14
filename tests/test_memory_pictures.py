"""Pictures that `vclimb memory` draws, and where they may be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memory_cli_cases import explains, memory, pack, show
from PIL import Image

from vclimb.pipeline.dataset.contact_sheet import HEADER_HEIGHT, LINE_HEIGHT, MARGIN, MIN_WIDTH, ROW_PADDING

ROW_HEIGHT = LINE_HEIGHT + 2 * ROW_PADDING


def test_picture_has_a_row_for_each_class(jpeg_folder: Path, tmp_path: Path) -> None:
    path, png = tmp_path / "m.zarr", tmp_path / "sheet.PNG"
    pack(jpeg_folder, path, "--budget", "all", "--frames", "3", "--codec", "h264:10")
    result = memory("show", path, "--png", png)
    assert (result.exit_code, result.stderr) == (0, "")
    told = f"contact sheet: {png}, 3 classes, 12 exemplars"
    assert told in result.stdout
    with Image.open(png) as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        assert sheet.height == HEADER_HEIGHT + 3 * ROW_HEIGHT + MARGIN
        assert MIN_WIDTH < sheet.width <= 1930
        pixels = np.asarray(sheet)
    for row in range(3):
        top = HEADER_HEIGHT + row * ROW_HEIGHT + ROW_PADDING
        assert pixels[top : top + LINE_HEIGHT, 200:1000].std() > 20
        assert np.ptp(pixels[top : top + 20, MARGIN:180]) > 150  # the name
    picture = show(path, "--png", png)["png"]
    assert picture == {
        "path": str(png),
        "classes": 3,
        "exemplars": 12,
        "damaged": 0,
        "width": pixels.shape[1],
        "height": HEADER_HEIGHT + 3 * ROW_HEIGHT + MARGIN,
    }


def test_packing_draws_what_show_draws(jpeg_folder: Path, tmp_path: Path) -> None:
    figures = pack(jpeg_folder, tmp_path / "m.zarr", "--budget", "5v", "--frames", "3", "--png", tmp_path / "a.png")
    assert figures["png"]["exemplars"] == 5
    show(tmp_path / "m.zarr", "--png", tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))


BAD_PICTURES = {
    "not a png": ("sheet.jpg", "picture 'sheet.jpg' must end in .png"),
    "no such folder": ("no/sheet.png", "there is no folder 'no'"),
    "in the memory": ("m.zarr/sheet.png", "lies in the memory"),
    "a folder": ("folder.png", "can't be written: Is a directory"),
}


@pytest.mark.parametrize(("png", "message"), BAD_PICTURES.values(), ids=BAD_PICTURES.keys())
def test_bad_places_of_pictures_are_explained(
    jpeg_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, png: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    if png != "folder.png":  # that can only be seen when it is written
        explains(memory("pack", jpeg_folder, "--out", "m.zarr", "--budget", "3v", "--png", png), message)
        assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    pack(jpeg_folder, Path("m.zarr"), "--budget", "3v")
    explains(memory("show", "m.zarr", "--png", png), message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "m.zarr"]
    assert show(Path("m.zarr"), "--verify")["damaged"] == []
