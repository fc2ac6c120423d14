"""The public calls of `import vclimb`, as a notebook makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dataset_cases import make_source
from PIL import Image

import vclimb


def test_prepare_returns_the_data_set_and_what_it_did(tmp_path: Path) -> None:
    source = make_source(tmp_path / "raw" / "source", classes=2, videos_per_class=1)
    (source / "class0" / "bad.mp4").write_text("no video")
    dataset = vclimb.prepare(str(source), str(tmp_path / "data"), fps=12.5, shard_size=10**6, workers=1, progress=False)
    summary = dataset.summary
    assert isinstance(summary, vclimb.PrepareSummary)
    assert (summary.prepared, len(summary.failed_now), summary.totals["classes"]) == (2, 1, 2)
    assert any("layout folder" in note for note in summary.notes)
    assert {float(video.fps_fraction) for video in dataset.videos} == {12.5}
    opened = vclimb.open(tmp_path / "data")
    assert (opened.summary, opened.videos) == (None, dataset.videos)
    assert opened.verify(decode=True, workers=1, progress=False).problems == []
    assert vclimb.verify(str(tmp_path / "data"), workers=1).n_videos == 2
    assert opened.statistics().totals == summary.totals
    opened.contact_sheet(tmp_path / "sheet.png", columns=2)
    assert Image.open(tmp_path / "sheet.png").format == "PNG"


def test_bad_values_are_errors_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(vclimb.SettingsError, match="workers 0 is out of range; allowed: 1 or more"):
        vclimb.prepare(tmp_path / "source", tmp_path / "data", workers=0)
    with pytest.raises(vclimb.SourceError):
        vclimb.prepare(tmp_path / "source", tmp_path / "data")
    with pytest.raises(vclimb.DatasetError):
        vclimb.open(tmp_path / "source")
    assert not (tmp_path / "data").exists()


def test_importing_vclimb_loads_nothing_heavy() -> None:
    program = "import sys, vclimb; print(sorted({'torch', 'av', 'numpy', 'pyarrow'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
