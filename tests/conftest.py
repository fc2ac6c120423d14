"""Fixtures shared by all tests: the real ffmpeg, small videos, and a whole prepare run in one call."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.testing
from dataset_cases import RunningCommand
from processes_left import processes_of_run
from video_cases import make_video as _make_video
from video_cases import run_ffmpeg_tool as _run_ffmpeg_tool

from vclimb.pipeline.dataset.settings import CODECS, EncodeSettings
from vclimb.pipeline.sources.keys import keys_of_paths
from vclimb.pipeline.sources.table import Instance, SourceTable, SourceVideo, SourceVideos
from vclimb.pipeline.transcode.executors.executor import Executor
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.ffmpeg import Ffmpeg, find_ffmpeg
from vclimb.pipeline.transcode.prepare import PrepareOptions, PrepareRun
from vclimb.pipeline.transcode.progress import PrepareProgress
from vclimb.pipeline.transcode.summary import PrepareSummary

# Set in the environment of every process that a run of the tests starts, so that processes left behind are found.
RUN = "VCLIMB_TEST_RUN"
# Test files of 10 seconds and more, longest first.
LONGEST = (
    *("ray", "study_run", "train_resume", "train_processes", "study_warm", "prepare_stopped", "bad_videos"),
    *("quickstart", "streams", "train_methods", "prepare_kill", "bad_processes", "study_report", "scaling", "advise"),
    *("bench", "plugins", "stopped_streams", "study_page", "study_browser", "cluster_page", "bucket_target"),
    *("train_disk_full", "memory_kill", "train_rough", "memory_provider", "scenario_matching", "prepare"),
    *("memory_pilot", "synth", "resume_misfit", "train_cli", "scripts", "fuzz", "bucket"),
)


def pytest_configure(config: pytest.Config) -> None:
    """See that commands can be stopped by Ctrl-C, and that each process can be told to be of this run."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell does for background processes
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes share the cores; read when torch is loaded
    if not Path("/dev/nvidiactl").exists():  # read when kernels are first imported
        os.environ.setdefault("TRITON_INTERPRET", "1")
    os.environ.pop("COLUMNS", None)
    importlib.import_module("vclimb.cli.console")  # its consoles keep a width that COLUMNS has when they are made
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = f"{os.getpid()}-{time.time_ns()}"
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # xdist would begin with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with a long one at the end."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a process outlives the tests: it may hold their output open, and readers of the output would wait."""
    if hasattr(session.config, "workerinput") or not session.config.pluginmanager.hasplugin("dsession"):
        return  # without xdist this process itself is the parent of what a stream keeps, such as the fork server
    left = processes_of_run(f"{RUN}={os.environ[RUN]}", patience_seconds=15)
    for process, command in left:
        print(f"\nstill running after the tests: {process.pid} {command}")
        process.kill()
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out syncs in this process: they change nothing that a test can see, and each waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_command_line() -> Iterator[None]:
    """Build the command line once: each call of a `CliRunner` builds all commands anew, in a tenth of a second."""
    once = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", once)
        patch.setattr(typer.testing, "_get_command", once)
        yield


@pytest.fixture(autouse=True)
def _commands_end_with_their_test() -> Iterator[None]:
    """End the processes of commands, and take back what a command that ran in this process set for its process.

    Fixtures of several tests run commands too, before this one begins.
    """
    logger = logging.getLogger("vclimb")
    logger.handlers, logger.propagate = [], True
    yield
    logger.handlers, logger.propagate = [], True
    RunningCommand.end_all()


def table_of(folder: Path) -> SourceTable:
    """A table of all files, and folders with a suffix, below a folder, without hidden ones. The folder is the label."""
    paths = []
    for place, folders, files in os.walk(folder):
        names = [name for name in files if not name.startswith(".")]
        names += [name for name in folders if os.path.splitext(name)[1]]
        paths += [os.path.relpath(os.path.join(place, name), folder) for name in names]
    videos = [
        SourceVideo(path, key, (Instance(Path(path).parent.name or "all"),))
        for path, key in zip(paths, keys_of_paths(paths), strict=True)
    ]
    return SourceTable("test", folder.absolute(), SourceVideos.of(videos).in_order())


def prepare_videos(
    folder: Path, out: Path, *, ffmpeg: Ffmpeg | None = None, executor: Executor | None = None, **settings: Any
) -> PrepareSummary:
    """Prepare a folder of videos in one run.

    Args:
        folder: see `table_of`.
        out: the data set.
        ffmpeg: default: the real one.
        executor: default: two local processes.
        settings: fields of `EncodeSettings` and `PrepareOptions`.
    """
    names = {field.name for field in fields(PrepareOptions)}
    options = {name: value for name, value in settings.items() if name in names}
    encode = {name: value for name, value in settings.items() if name not in names}
    encode.setdefault("quality", CODECS[encode.get("codec", "jpeg")].default)
    encode.setdefault("b_frames", CODECS[encode.get("codec", "jpeg")].b_frames)
    return PrepareRun(
        table_of(folder),
        out,
        EncodeSettings(**encode),
        PrepareOptions(**options),
        ffmpeg or find_ffmpeg(),
        executor or LocalExecutor(2),
        PrepareProgress(False),
    ).run()


@pytest.fixture(scope="session")
def prepare_folder() -> Callable[..., PrepareSummary]:
    """`prepare_folder(folder, out, **settings) -> PrepareSummary`."""
    return prepare_videos


@pytest.fixture(scope="session")
def ffmpeg_path() -> str:
    """Path of the real ffmpeg."""
    return find_ffmpeg().path


@pytest.fixture(scope="session")
def run_ffmpeg_tool() -> Callable[..., None]:
    """`run_ffmpeg_tool(args)`."""
    return _run_ffmpeg_tool


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """`make_video(path, *output_arguments, frames=12, size="64x48", fps=25) -> path`."""
    return _make_video


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 short videos of 3 classes; nobody may change them."""
    from stream_cases import make_tiny_videos  # it needs this module

    return make_tiny_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def jpeg_folder(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny videos prepared as JPEG frames; damage a copy."""
    from stream_cases import prepare_tiny

    return prepare_tiny(tiny_videos, tmp_path_factory.mktemp("jpeg") / "tiny", "jpeg")


@pytest.fixture(scope="session")
def h264_folder(tiny_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny videos prepared as H.264; damage a copy."""
    from stream_cases import prepare_tiny

    return prepare_tiny(tiny_videos, tmp_path_factory.mktemp("h264") / "tiny", "h264")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server on the loopback; yields its address. See `s3_bucket`."""
    from moto.server import ThreadedMotoServer  # takes a second

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """URL of a new, empty bucket, which this process and those that it starts can read and write."""
    import uuid

    import fsspec

    values = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**values, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def memory_path(tmp_path: Path) -> Path:
    """A memory of classes 0, 1 and 2 with three exemplars each."""
    from memory_store_cases import new_class, update

    from vclimb.memory.store.writer import MemoryWriter

    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        update(writer, [new_class(label, 3) for label in range(3)])
    return path


@pytest.fixture(scope="session")
def synth_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set that a tiny network can train on; see `training_cases`."""
    from training_cases import make_synth_shards  # loads torch, which most tests don't need

    return make_synth_shards(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="session")
def synth_in_shards(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set in shards of a few videos each."""
    import vclimb

    out = tmp_path_factory.mktemp("in-shards") / "synth"
    vclimb.prepare(synth_shards.parent / "videos", out, short_side=48, shard_size=60_000, workers=2, progress=False)
    return out
