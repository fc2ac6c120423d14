"""Executors: found by name, and the same bytes wherever shards are made."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import InlineExecutor, digests, make_source

import vclimb
from vclimb.pipeline.transcode.executors.executor import EXECUTORS, make_shard
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.jobs import ShardJob

ELSEWHERE = '''
import pickle
from vclimb.pipeline.transcode.executors.executor import MapExecutor

class Elsewhere(MapExecutor):
    """Runs in this process what another machine would be sent."""
    def map(self, function, arguments):
        return [pickle.loads(pickle.dumps((function)))(pickle.loads(pickle.dumps(job))) for job in arguments]
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_source(tmp_path_factory.mktemp("raw") / "source", classes=2, videos_per_class=3)
    (folder / "class0" / "bad.mp4").write_text("no video")
    return folder


def test_an_executor_of_one_file_outside_the_package_makes_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    options: dict[str, Any] = {"shard_size": 12_000, "workers": 2, "progress": False}
    here = vclimb.prepare(source, tmp_path / "local" / "data", **options)
    there = vclimb.prepare(source, tmp_path / "there" / "data", executor="elsewhere:Elsewhere", **options)
    assert len(here.catalog.shards) > 1
    assert digests(here.folder) == digests(there.folder)
    assert "elsewhere" in sys.modules


def test_a_repeated_job_returns_the_published_shard(source: Path, tmp_path: Path) -> None:
    class Twice(InlineExecutor):
        def map(self, function: Any, arguments: Any) -> Any:
            for argument in arguments:
                result = function(argument)
                if isinstance(argument, ShardJob):
                    assert make_shard(pickle.loads(pickle.dumps(argument))) == result
                yield result

    dataset = vclimb.prepare(source, tmp_path / "data", executor=Twice(), progress=False)
    assert dataset.verify(workers=1).problems == []


def test_executors_are_found_by_name() -> None:
    assert EXECUTORS.find("local") is LocalExecutor
    for name, message in {
        "slurm": r"executor 'slurm' is not known; allowed: local, ray, or a class as package.module:Class",
        "nowhere_at_all:Class": "executor 'nowhere_at_all:Class' can't be imported: No module named",
        "pathlib:Nothing": "executor 'pathlib:Nothing' can't be imported: module 'pathlib' has no attribute",
        "fractions:Fraction": "executor 'fractions:Fraction' is no executor: fractions:Fraction does not extend",
    }.items():
        with pytest.raises(vclimb.SettingsError, match=message):
            EXECUTORS.find(name)
