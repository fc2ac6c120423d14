"""Ray: a cluster of several nodes on this machine, of which some are killed, gives what this machine gives alone."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import VCLIMB, command_environment, digests, make_source, shard_files
from training_cases import TINY_BACKBONE

import vclimb
from vclimb.pipeline.system.ray_cluster import connect
from vclimb.study.running.executors.ray import RayRunExecutor
from vclimb.training.run import train

ray = pytest.importorskip("ray", reason="needs the extra: pip install 'vclimb[ray]'")
N_NODES = 3
SHARD_SIZE = 25_000
STUDY: dict[str, Any] = {
    "name": "tiny",
    "base": {
        "method": "finetune",
        "scenario": {"tasks": 2},
        "model": {"backbone": TINY_BACKBONE, "weights": "none", "clip_frames": 2, "size": 32},
        "training": {"epochs": 1, "batch_size": 8},
        "compute": {"device": "cpu", "decoder": "cpu", "workers": 0, "checkpoint_seconds": 0},
    },
    "axes": {"seed": [0, 1, 2, 3]},
}


class Nodes:
    """A cluster whose head computes nothing, and nodes of one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # A node that is killed refuses connections: it counts as lost after ten refusals in a row, in 3 s instead of
        # half a minute. A node that is slow on a busy machine has a minute for each answer.
        settings = {
            "health_check_initial_delay_ms": 10_000,
            "health_check_timeout_ms": 60_000,
            "health_check_period_ms": 300,
            "health_check_failure_threshold": 10,
            "enable_worker_prestart": False,
        }
        head = {"num_cpus": 0, "include_dashboard": False, "no_monitor": True, "include_log_monitor": False}
        self._cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": settings})
        self.address: str = self._cluster.address
        self._workers: list[Any] = []
        self.fill_up()
        ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)

    def kill_one(self) -> None:
        """Kill a node with all its processes."""
        self._cluster.remove_node(self._workers.pop(0), allow_graceful=False)

    def fill_up(self) -> None:
        """Add nodes in place of those that were killed."""
        while len(self._workers) < N_NODES:
            node = self._cluster.add_node(wait=False, num_cpus=1, object_store_memory=80 * 2**20)
            self._workers.append(node)
        self._cluster.wait_for_nodes(timeout=120)

    def shutdown(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as environment:
        # Nodes import the same vclimb as this process.
        paths = [str(Path(vclimb.__file__).parents[1]), *sys.path]
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        # By default, Ray's workers give way to all other processes, and hardly run on a busy machine.
        environment.setenv("RAY_worker_niceness", "0")
        # A cluster that somebody started on this machine may have left a token in the home folder.
        environment.setenv("RAY_AUTH_MODE", "disabled")
        cluster = Nodes()
        yield cluster
        cluster.shutdown()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    cluster.fill_up()
    return cluster


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_source(tmp_path_factory.mktemp("raw") / "source", classes=4, videos_per_class=25)
    (folder / "class0" / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> vclimb.Dataset:
    out = tmp_path_factory.mktemp("local") / "data"
    return vclimb.prepare(source, out, shard_size=SHARD_SIZE, progress=False)


def when(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
    """Do something in another thread as soon as a condition holds."""

    def watch() -> None:
        while not condition():
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def recorded(out: Path) -> list[str]:
    """Numbers of the shards that count as published."""
    return [path.stem for path in (out / ".work" / "records").glob("*.json")]


@pytest.mark.timeout(230)
def test_shards_of_a_cluster_are_those_of_one_machine_though_the_driver_and_a_node_are_killed(
    nodes: Nodes, source: Path, local: vclimb.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    options = ["--shard-size", str(SHARD_SIZE), "--executor", "ray", "--ray-address", nodes.address]
    with subprocess.Popen(
        [VCLIMB, "prepare", source, "--out", out, *options, "--json"],
        env=command_environment(),
        stdout=subprocess.DEVNULL,
    ) as driver:
        when(lambda: len(recorded(out)) >= 2 or driver.poll() is not None, driver.kill).join()
        assert driver.wait() == -signal.SIGKILL
    numbers = recorded(out)
    before = {name: file for name, file in shard_files(out).items() if name.removeprefix("data-")[:6] in numbers}
    assert len(before) >= 6
    killer = when(lambda: len(recorded(out)) >= len(numbers) + 2, nodes.kill_one)
    made = vclimb.prepare(source, out, shard_size=SHARD_SIZE, executor="ray", by_node=True, progress=True)
    killer.join(timeout=30)
    assert len(made.catalog.shards) >= 10
    assert made.summary is not None
    assert (made.summary.prepared, len(made.summary.failed_now)) == (100, 1)
    assert digests(out) == digests(local.folder)
    after = shard_files(out)
    assert {name: after[name] for name in before} == before  # no shard is made twice
    assert len(set(re.findall(r"^node (\S+): \d+ shards running", capsys.readouterr().err, re.MULTILINE))) >= 2


def metrics(study: Path) -> dict[str, Any]:
    """The accuracies of each run of a study."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in study.glob("runs/*/metrics.json")}
    return {name: (run["complete"], run["R"], run["confusion"]) for name, run in runs.items()}


@pytest.fixture(scope="module")
def local_metrics(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("local_study")
    for cell in vclimb.Study(STUDY).cells(synth_shards):
        train(cell.config, out / "runs" / cell.run_id)
    return metrics(out)


@pytest.mark.timeout(230)
def test_a_study_on_a_cluster_has_the_metrics_of_one_machine_though_a_node_and_the_driver_are_killed(
    nodes: Nodes, synth_shards: Path, local_metrics: dict[str, Any], tmp_path: Path
) -> None:
    out, study = tmp_path / "study", tmp_path / "study.json"
    study.with_suffix(".toml").write_text(vclimb.Study(STUDY).definition.to_toml())
    command = [VCLIMB, "study", "run", study.with_suffix(".toml"), "--data", synth_shards, "--out", out, "--json"]
    command += ["--executor", "ray", "--ray-address", nodes.address]

    def begun() -> int:
        return len(list(out.glob("runs/*/events.jsonl")))

    with subprocess.Popen(command, env=command_environment(), stdout=subprocess.DEVNULL) as driver:
        when(lambda: begun() >= 2 or driver.poll() is not None, driver.kill).join()
        assert driver.wait() == -signal.SIGKILL
    killer = when(lambda: begun() >= 4, nodes.kill_one)
    result = vclimb.Study(STUDY).run(synth_shards, out, executor="ray", progress=False)
    killer.join(timeout=30)
    assert (result.is_complete, dict(result.failed)) == (True, {})
    assert metrics(out) == local_metrics
    assert len(local_metrics) == 4


def test_a_run_gets_its_share_of_the_cluster(nodes: Nodes) -> None:
    executor = RayRunExecutor()
    assert (executor.jobs, executor.places.cores, executor.places.gpus) == (3, 1, ())
    assert RayRunExecutor(1).places.cores == 1  # no more than a node has
    with pytest.raises(vclimb.SettingsError, match="jobs 2 and jobs_per_gpu 3 are both given"):
        RayRunExecutor.for_study(2, "auto", 3)


def test_a_task_that_fails_raises_its_own_error(nodes: Nodes, source: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text("#!/bin/sh\necho ffmpeg version 0.1\n")
    ffmpeg.chmod(0o755)
    from vclimb.pipeline.transcode.executors import ray as ray_executor

    job: Any = None
    with pytest.raises(vclimb.FfmpegMissingError, match=r"and this machine has version 0\.1; install the same"):
        ray_executor._make_shard(job, "0.1", None)


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(vclimb.SettingsError, match=r"which is not installed; pip install 'vclimb\[ray\]'"):
        connect()
