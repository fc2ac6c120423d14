"""Streams that are stopped: by Ctrl-C, by a worker that dies in an answer, by a lost disk, or closed."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import psutil
import pytest
from stream_cases import JpegsInMemory, provider_of, script_environment, settings_of

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.stream.dali import DaliClipStream
from vclimb.pipeline.stream.dali_pipeline import DaliSettings
from vclimb.pipeline.stream.workers import BatchWorkers, WorkerDiedError

_ENDLESS = """
import sys
from stream_cases import provider_of, settings_of
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.dali import DaliClipStream
from vclimb.pipeline.stream.dali_pipeline import DaliSettings

if __name__ == "__main__":
    provider = provider_of(sys.argv[1])
    if sys.argv[2] == "cpu":
        stream = CpuClipStream(provider, settings_of(), workers=2)
    else:
        stream = DaliClipStream(provider, settings_of(), "cpu", DaliSettings(threads=1, readers=2))
    list(stream)
    print("streaming", flush=True)
    while True:
        for batch in stream:
            pass
"""


@pytest.mark.parametrize("decoder", ["cpu", "dali"])
def test_ctrl_c_leaves_no_processes(jpeg_folder: Path, tmp_path: Path, decoder: str) -> None:
    script = tmp_path / "endless.py"
    script.write_text(_ENDLESS)
    process = subprocess.Popen(
        [sys.executable, script, jpeg_folder, decoder],
        env=script_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "streaming\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3  # two workers and the fork server
        os.killpg(process.pid, signal.SIGINT)  # to the workers too, as a terminal does
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, stderr
    assert stderr.rstrip().endswith("KeyboardInterrupt"), stderr
    _, left = psutil.wait_procs(family, timeout=120)
    assert left == []


def test_workers_get_no_ctrl_c_from_their_first_moment(tmp_path: Path) -> None:
    """Neither does the fork server, which takes a second to import torch, and would print a traceback."""
    script = tmp_path / "masks.py"
    script.write_text(_MASKS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    masks = done.stdout.split()
    assert len(masks) == 2
    assert all(int(mask, 16) >> (signal.SIGINT - 1) & 1 for mask in masks)


_MASKS = """
import re
from multiprocessing import forkserver
from pathlib import Path
from vclimb.pipeline.stream.workers import BatchWorkers

def blocked_signals(pid):
    return re.search(r"SigBlk:\\s*(\\w+)", Path(f"/proc/{pid}/status").read_text())[1]

if __name__ == "__main__":
    workers = BatchWorkers(blocked_signals, 1)
    print(*workers.run(iter(["self"])), blocked_signals(forkserver._forkserver._forkserver_pid))
    workers.close()
"""


@pytest.mark.parametrize("n_more", [1, 9], ids=["last", "others follow"])
def test_a_worker_that_dies_in_the_middle_of_an_answer_is_explained(n_more: int) -> None:
    before = set(multiprocessing.active_children())
    workers = BatchWorkers(bytes, 1)
    answers = workers.run(
        iter([1, *[100_000_000] * n_more])
    )  # more than the pipe holds: the worker waits in the middle of an answer
    assert next(answers) == bytes(1)
    for process in set(multiprocessing.active_children()) - before:
        assert process.pid is not None
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            pass
        process.kill()
    with pytest.raises(WorkerDiedError, match="died; is the machine out of memory"):
        list(answers)
    assert set(multiprocessing.active_children()) == before


def test_ctrl_c_while_the_thread_of_dali_starts_leaves_no_thread(
    jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "dali":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with DaliClipStream(provider_of(jpeg_folder), settings_of(), "cpu", DaliSettings(threads=1, readers=0)) as stream:
        with pytest.raises(KeyboardInterrupt):
            next(iter(stream))
        assert "dali" not in {thread.name for thread in threading.enumerate()}
        monkeypatch.undo()
        assert len(list(stream)) == len(stream)


class GoneJpegs(JpegsInMemory):
    """A provider whose disk is lost after six reads."""

    def __init__(self) -> None:
        super().__init__(9)
        self.left = 6

    def read(self, item: int, frames: Indices) -> EncodedClip:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().read(item, frames)


def test_any_error_reaches_the_caller() -> None:
    """DALI's thread searches for the damaged frame, and the search fails too."""
    settings, dali = settings_of(batch_size=2), DaliSettings(threads=1, readers=0)
    with DaliClipStream(GoneJpegs(), settings, "cpu", dali) as stream, pytest.raises(Exception, match="Stale file"):
        list(stream)


def test_closing_releases_dalis_threads_and_buffers_at_once(jpeg_folder: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        with DaliClipStream(
            provider_of(jpeg_folder), settings_of(), "cpu", DaliSettings(threads=1, readers=0)
        ) as stream:
            list(stream)
            assert stream._pipelines is not None
            pipelines = [weakref.ref(part._pipeline) for part in stream._pipelines]
            assert all(pipeline() is not None for pipeline in pipelines)
        assert [pipeline() for pipeline in pipelines] == [None] * len(pipelines)
    finally:
        gc.enable()
