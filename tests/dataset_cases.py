"""Small prepared data sets for tests, and the real command in a separate process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from video_cases import make_video

from vclimb.pipeline.dataset.settings import CODECS, EncodeSettings
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance, SourceTable, SourceVideos
from vclimb.pipeline.transcode.executors.executor import Executor, MapExecutor
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.prepare import PrepareOptions, PrepareRun
from vclimb.pipeline.transcode.progress import PrepareProgress
from vclimb.pipeline.transcode.summary import PrepareSummary
from vclimb.pipeline.transcode.verify import verify

# Size of two or three videos of `make_source`.
SHARD_BYTES = 12_000
VCLIMB = Path(sysconfig.get_path("scripts")) / "vclimb"


class InlineExecutor(MapExecutor):
    """Everything in this process: there is no pool to wait for."""

    def map(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterable[Any]:
        return map(function, arguments)


def prepare_table(
    table: SourceTable, out: Path, *, executor: Executor | None = None, **settings: Any
) -> PrepareSummary:
    """Prepare a table in this process. `settings` are fields of `EncodeSettings` and `PrepareOptions`."""
    names = {field.name for field in fields(PrepareOptions)}
    options = PrepareOptions(**{name: value for name, value in settings.items() if name in names})
    encode = {name: value for name, value in settings.items() if name not in names}
    encode.setdefault("quality", CODECS[encode.get("codec", "jpeg")].default)
    encode.setdefault("b_frames", CODECS[encode.get("codec", "jpeg")].b_frames)
    progress = PrepareProgress(False)
    executor = executor or InlineExecutor()
    return PrepareRun(table, out, EncodeSettings(**encode), options, find_ffmpeg(), executor, progress).run()


def make_source(folder: Path, classes: int, videos_per_class: int, frames: int = 10) -> Path:
    """A folder of small videos: a folder for each class, and in each class the same few contents."""
    patterns = [
        make_video(folder.parent / f"pattern{i}.mp4", frames=frames + i) for i in range(min(3, videos_per_class))
    ]
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        for number in range(videos_per_class):
            shutil.copy(patterns[number % len(patterns)], folder / f"class{label}" / f"v{number:02d}.mp4")
    return folder


def with_instances(source: Path, by_path: dict[str, tuple[Instance, ...]]) -> SourceTable:
    """A folder's table in which some videos have other instances."""
    table = read_source(source)
    videos = [replace(v, instances=by_path.get(v.path, v.instances)) for v in table.videos]
    return replace(table, videos=SourceVideos.of(videos))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, hidden ones too, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


def shard_files(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every shard's files: both stay where a file is left alone."""
    files = [path for suffix in ("tar", "idx", "npy") for path in out.glob(f"*.{suffix}")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def is_clean(out: Path) -> bool:
    report = verify(out, decode=True, workers=1, progress=False)
    assert report.problems == []
    assert not report.unfinished
    return True


def command_environment() -> dict[str, str]:
    """The environment of a command under test: wide lines, no colours."""
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def vclimb(*arguments: str | Path, run_by: Sequence[str] = (), **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end. `run_by` goes before it, such as `OBEYING_PERMISSIONS`."""
    options = {"capture_output": True, "text": True, "timeout": 120, "env": command_environment(), **options}
    return subprocess.run([*run_by, VCLIMB, *map(str, arguments)], check=False, **options)


# Runs a command to which file permissions apply even as root: it gives up the two capabilities that override them.
# (In a separate process: code between fork and exec may wait for a lock of one of our threads.)
OBEYING_PERMISSIONS = (
    sys.executable,
    "-ISc",
    """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
        sys.exit(77)
os.execvp(sys.argv[1], sys.argv[1:])
""",
)


def require_permissions_to_count() -> None:
    """Skip the test if this root may not give up its right to read and write anything."""
    if subprocess.run([*OBEYING_PERMISSIONS, "true"], check=False).returncode:
        pytest.skip("root may not give up its right to read and write anything here")


def vclimb_json(*arguments: str | Path) -> Any:
    """What the real command prints with `--json`; it must succeed."""
    done = vclimb(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class RunningCommand:
    """The real command, started in a session of its own as a terminal would, and all processes it starts."""

    _started: ClassVar[list[RunningCommand]] = []

    def __init__(self, *arguments: str | Path) -> None:
        command = [str(VCLIMB), *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=command_environment(), start_new_session=True, **pipes)
        self._started.append(self)

    @classmethod
    def end_all(cls) -> None:
        """End what a test that failed has left running."""
        while cls._started:
            command = cls._started.pop()
            for process in command.family():
                with suppress(psutil.Error):
                    process.kill()
            command.process.communicate()

    def family(self) -> list[psutil.Process]:
        """The processes of the command's session that are still alive, itself included."""
        return [process for pid in psutil.pids() if (process := self._member(pid))]

    def _member(self, pid: int) -> psutil.Process | None:
        try:
            if os.getsid(pid) == self.process.pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return psutil.Process(pid)
        except (OSError, psutil.Error):  # it has ended by now
            pass
        return None

    def wait_until(self, is_so: Callable[[], bool], timeout_seconds: float = 120) -> bool:
        """Wait until something is so; whether it came to be before the command ended."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if is_so():
                return True
            if self.process.poll() is not None:
                return is_so()
            time.sleep(0.005)
        raise AssertionError(f"nothing came of it in {timeout_seconds} s")

    def wait_until_alone(self, timeout_seconds: float = 60) -> list[psutil.Process]:
        """Give the processes that lost their parent time to end; those that did not."""
        deadline = time.monotonic() + timeout_seconds
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left
