"""After a power cut, files that were written last may be there without their content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_cases import RunningCommand, digests, make_source, prepare_table, vclimb_json

from pipeline.sources import read_source
from pipeline.target import WORK


def cut_short(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut_short, zeroed, gone])
def test_parts_without_their_content_are_made_again(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    source = make_source(tmp_path / "raw" / "source", classes=3, videos_per_class=8)
    prepare_table(read_source(source), tmp_path / "undisturbed" / "data")
    out = tmp_path / "cut" / "data"
    arguments: list[str | Path] = ["prepare", source, "--out", out, "--workers", "2"]
    run = RunningCommand(*arguments)
    assert run.wait_until(lambda: len(list(out.glob(f"{WORK}/[0-9]*/*.json"))) >= 6)
    run.process.kill()
    run.process.communicate(timeout=30)
    assert run.wait_until_alone() == []
    stored = sorted(path for path in out.glob(f"{WORK}/[0-9]*/*.json") if "stored" in json.loads(path.read_text()))
    assert len(stored) >= 4
    damage(stored[0].with_suffix(".mp4"))
    damage(stored[1].with_suffix(".frames.npy"))
    if damage is not gone:
        damage(stored[2])
    assert vclimb_json(*arguments)["failed_now"] == []
    assert digests(out) == digests(tmp_path / "undisturbed" / "data")
