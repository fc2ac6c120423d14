"""benchmarks/motion.py compares networks by joint training, here on a drawn set that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results_cases import load_benchmark
from training_cases import read_metrics

from vclimb.training.config import read_config


def test_networks_are_compared_with_chance(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    motion = load_benchmark("motion", monkeypatch)
    monkeypatch.setattr(motion, "draw_videos", lambda options: synth_shards)
    options = ["--out", str(tmp_path), "--device", "cpu", "--tiny", "--epochs", "3", "--workers", "0"]
    options += ["--set", "model.clip_frames=2", "--set", "model.size=32", "--networks", "tsm", "tcn", "--json"]
    monkeypatch.setattr("sys.argv", ["motion.py", *options])
    assert motion.main() == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["network"] for row in rows] == ["tsm", "tcn"]
    assert {row["chance"] for row in rows} == {1 / 6}
    for row in rows:
        run = tmp_path / f"{row['network']}-s0"
        assert row["acc"] == [read_metrics(run).acc]
        config = read_config(run / "config.toml")
        assert (config.model.network, config.method["name"], config.scenario.tasks) == (row["network"], "joint", 1)
