"""`vclimb bench --peers`: each loader reads the clips of the CPU stream, and what isn't there or fails is said."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_cases import make_source, prepare_table
from typer.testing import CliRunner

import vclimb
from vclimb.benchmark.peers import compare
from vclimb.benchmark.peers.compare import PeersReport, clips_of
from vclimb.benchmark.peers.registry import PEERS, Peer
from vclimb.cli.main import app
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.stream.batches import StreamSettings

SETTINGS = StreamSettings(2, (View(n_frames=2),), Augmentation(32), drop_last=True, across_epochs=True)
PRESENT = {name: peer for name, peer in PEERS.items() if peer.lacking() is None}


@pytest.fixture(scope="module", params=["jpeg", "h264"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StoredDataset:
    folder = tmp_path_factory.mktemp(request.param)
    source = make_source(folder / "source", classes=2, videos_per_class=1)
    prepare_table(read_source(source), folder / "shards", codec=request.param)
    return StoredDataset.open(folder / "shards")


def test_peers_load_the_clips_of_the_stream(prepared: StoredDataset, tmp_path: Path) -> None:
    clips = clips_of(prepared, SETTINGS)
    with clips.stream(0) as stream:
        ours = next(iter(stream)).frames.float()
    assert clips.drawn() == dict(next(iter(clips)))
    for name, peer in PRESENT.items():
        if peer.codec != prepared.settings.codec:
            continue
        peer.write(prepared, clips, tmp_path / name)
        theirs = torch.as_tensor(np.asarray(next(peer.batches(tmp_path / name, clips, 0)))).float()
        assert theirs.shape == (2, 2, 3, 32, 32)
        if peer.files == "tars":  # in an order of its own, in which a clip may come twice
            nearest = [min(ours, key=lambda clip, other=other: (clip - other).abs().mean()) for other in theirs]
        else:
            nearest = list(ours)
        for clip, other in zip(nearest, theirs, strict=True):
            assert (clip - other).abs().mean() <= (1 if prepared.settings.codec == "jpeg" else 4), name


def test_a_report_has_all_peers(prepared: StoredDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = prepared.settings.codec
    usable = next(peer for peer in PRESENT.values() if peer.codec == codec)

    def fail(*_: object) -> Any:
        raise RuntimeError("out of\norder [bold]")

    peers = {name: peer for name, peer in PRESENT.items() if peer.codec == codec}
    peers |= {"broken": replace(usable, batches=fail), "absent": replace(usable, module="no_such_module")}
    peers["other"] = Peer("raw", "json", "none", fail, fail)
    monkeypatch.setattr(compare, "PEERS", peers)
    arguments = ["bench", prepared_path(prepared), "--peers", "--workers", "0", "--seconds", "0.01"]
    arguments += ["--size", "32", "--clip-frames", "2", "--batch-size", "2"]
    result = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert "broken: failed: RuntimeError: out of order [bold]\n" in result.stdout
    assert "absent: skipped: No module named 'no_such_module'\n" in result.stdout
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert report.keys() == {*(field.name for field in fields(PeersReport)), "clips_per_second", "ratios"}
    assert report["rates"].keys() == report["ratios"].keys() == {"vclimb", *peers} - {"broken", "absent", "other"}
    assert all(len(rates) == 3 and min(rates) > 0 for rates in report["rates"].values())
    assert report["ratios"]["vclimb"] == 1
    assert (report["codec"], report["n_videos"], report["n_workers"]) == (codec, 2, 0)


def prepared_path(dataset: StoredDataset) -> str:
    return str(dataset.storage)


@pytest.mark.parametrize("seconds", [0, float("nan")])
def test_no_time_is_refused(prepared: StoredDataset, seconds: float) -> None:
    with pytest.raises(SettingsError, match="out of range; allowed: above 0, up to 3600"):
        vclimb.bench_peers(prepared, seconds=seconds)
