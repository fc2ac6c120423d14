"""Executors: found by name, and the same bytes wherever shards are made."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import InlineExecutor, digests, make_source

import vclimb
from vclimb.pipeline.transcode.cluster_progress import ClusterProgress, ClusterStatus, Report
from vclimb.pipeline.transcode.executors.executor import EXECUTORS, make_shard
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.progress import PrepareProgress

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


def test_nodes_are_shown_where_there_are_some(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        vclimb.SettingsError, match="by_node shows the nodes of a cluster, and executor 'local' has none"
    ):
        vclimb.prepare(source, tmp_path / "data", by_node=True)
    assert not (tmp_path / "data").exists()


class Jobs(InlineExecutor):
    """Keeps the jobs that it makes."""

    def run(self, jobs: Any, on_video: Any) -> Any:
        self.jobs = list(jobs)
        return super().run(jobs, on_video)


def test_progress_of_a_cluster_counts_each_video_once(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = Jobs()
    vclimb.prepare(source, tmp_path / "data", executor=executor, shard_size=12_000, progress=False)
    first, second, *_ = executor.jobs
    a, b = (job.shard.number for job in (first, second))
    assert len(first.shard.videos) >= 2
    progress = ClusterProgress()
    progress.submit(first)
    progress.submit(second)
    assert progress.status() == ClusterStatus((), ())  # both wait
    assert progress.add([Report(a, "one"), Report(b, "two"), Report(a, "one", (1,))]) == [(first, 1)]
    status = progress.status()
    assert [(node.node, node.running, node.videos) for node in status.nodes] == [("one", 1, 1), ("two", 1, 0)]
    assert [shard.shard for shard in status.longest] == [a, b]
    assert (status.longest[0].done, status.longest[0].video) == (1, first.shard.videos[0].video.path)
    # Node `one` is lost: the shard begins again on `two`, whose task reports a video again.
    assert progress.add([Report(a, "two"), Report(a, "two", (0, 1))]) == [(first, 0)]
    left = [(first, index) for index in range(2, len(first.shard.videos))]
    assert progress.end(a) == left
    assert progress.add([Report(a, "two", (0, 1))]) == []  # a late report
    status = progress.status()
    assert [(node.node, node.running, node.shards) for node in status.nodes] == [("one", 0, 0), ("two", 1, 1)]
    PrepareProgress(True).show_nodes(status)
    shown = capsys.readouterr().err
    assert f"node two: 1 shards running, 1 done, {1 + len(left)} videos" in shown
    assert f"longest: shard {b} on two for 0 s, 0 of {len(second.shard.videos)} videos, next: class" in shown


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
