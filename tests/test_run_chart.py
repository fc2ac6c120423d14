"""The picture of one run: its formats, and the files it must not replace."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sealed_cases import write_sealed
from study_cases import CLASSES_PER_TASK, N_TASKS, cells, made_metrics

from vclimb.pipeline.errors import TargetError
from vclimb.training.chart import plot_run
from vclimb.training.run_metrics import RunMetrics


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> RunMetrics:
    (cell,) = cells({"base": {"method": "naive", "memory": {"budget": "1MB"}}, "axes": {"seed": [0]}})
    names = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    path = tmp_path_factory.mktemp("metrics") / "metrics.json"
    write_sealed(path, made_metrics(cell, names, dataset="a $b$ c"))
    return RunMetrics.load(path)


@pytest.mark.parametrize(("name", "beginning"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_suffix_names_the_format_and_an_earlier_picture_is_replaced(
    metrics: RunMetrics, tmp_path: Path, name: str, beginning: bytes
) -> None:
    for _ in range(2):
        plot_run(metrics, str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(beginning)


def test_picture_is_not_blank(metrics: RunMetrics, tmp_path: Path) -> None:
    plot_run(metrics, tmp_path / "run.png")
    picture = Image.open(tmp_path / "run.png").convert("RGB")
    colours = picture.getcolors(2**24)
    assert picture.width > 1000
    assert colours is not None
    assert len(colours) > 200


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run.jpeg", r"allowed suffixes: \.png, \.svg, \.pdf"),
        ("run", "names no format of pictures"),
        ("notes.png", "is there and is no PNG"),
        ("folder.png", "is there and is no PNG"),
        ("nowhere/run.png", "is no folder"),
    ],
)
def test_other_targets_are_refused_and_left_alone(metrics: RunMetrics, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.png").write_text("notes", "utf-8")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(TargetError, match=message):
        plot_run(metrics, tmp_path / name)
    assert (tmp_path / "notes.png").read_text("utf-8") == "notes"
    assert len(list(tmp_path.iterdir())) == 2
