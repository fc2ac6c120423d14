"""After a power cut, the files written last may lack their content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dataset_cases import RunningCommand, digests, make_source, prepare_table

from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.part import read_part
from vclimb.pipeline.transcode.target import WORK


def cut_short(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def gone(path: Path) -> None:
    path.unlink()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("raw") / "source", classes=3, videos_per_class=8)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    prepare_table(read_source(source), out)
    return digests(out)


@pytest.fixture(scope="module")
def killed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed after some parts."""
    out = tmp_path_factory.mktemp("killed") / "data"
    run = RunningCommand("prepare", source, "--out", out, "--workers", "2")
    assert run.wait_until(lambda: len(list(out.glob(f"{WORK}/[0-9]*/*.json"))) >= 6)
    run.process.kill()
    run.process.communicate(timeout=120)
    assert run.wait_until_alone() == []
    return out


@pytest.mark.parametrize("damage", [cut_short, zeroed, gone])
def test_parts_without_their_content_are_made_again(
    source: Path, undisturbed: dict[str, str], killed: Path, tmp_path: Path, damage: object
) -> None:
    assert callable(damage)
    out = shutil.copytree(killed, tmp_path / "data")
    stored = sorted(path for path in out.glob(f"{WORK}/[0-9]*/*.json") if read_part(path).stored)
    assert len(stored) >= 4
    damage(stored[0].with_suffix(".mp4"))
    damage(stored[1].with_suffix(".frames.npy"))
    if damage is not gone:
        damage(stored[2])
    assert prepare_table(read_source(source), out, executor=LocalExecutor(2)).failed_now == []
    assert digests(out) == undisturbed
