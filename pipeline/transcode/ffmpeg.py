"""Finding an ffmpeg and running an argv: no shell, a time-out, bounded stderr, no process left behind."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vclimb.pipeline.errors import FfmpegMissingError
from vclimb.pipeline.system.parent import die_with_parent

STDERR_TAIL_BYTES = 4096
_KINDS_OF_LINES = 64


@dataclass(frozen=True)
class Ffmpeg:
    path: str  # Path of the binary.
    version: str  # Version that the binary prints.
    origin: str  # How the binary was found.

    def __str__(self) -> str:
        return f"ffmpeg {self.version} ({self.origin}: {self.path})"


@dataclass(frozen=True)
class Finished:
    returncode: int  # 0, an exit status, or minus the number of a signal.
    stderr: str  # Messages, one line of each kind, sorted; see `_Messages`.
    timed_out: bool  # Whether the process was killed because its time was over.


class _Messages:
    """The messages of a process on stderr, reduced to what is the same in every run, within 4 KiB.

    Threads of ffmpeg write in any order, addresses of objects change, and a damaged video repeats a message a thousand
    times with other numbers. So of all lines that differ in numbers alone, the smallest is kept.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, bytes] = {}
        self._unfinished = b""

    def feed(self, chunk: bytes) -> None:
        *lines, unfinished = (self._unfinished + chunk).split(b"\n")
        self._unfinished = unfinished[:STDERR_TAIL_BYTES]
        for whole in lines:
            line = re.sub(rb" @ 0x[0-9a-f]+", b"", whole[:STDERR_TAIL_BYTES]).strip()
            kind = re.sub(rb"\d+", b"#", line)
            if line and (kind in self._lines or len(self._lines) < _KINDS_OF_LINES):
                self._lines[kind] = min(self._lines.get(kind, line), line)

    def text(self) -> str:
        self.feed(b"\n")
        return b"\n".join(sorted(self._lines.values()))[:STDERR_TAIL_BYTES].decode("utf-8", "replace")


@functools.cache
def find_ffmpeg() -> Ffmpeg:
    """Find the ffmpeg to use: `$VCLIMB_FFMPEG`, else the one on the PATH, else the one that imageio-ffmpeg ships.

    Raises a FfmpegMissingError where there is no ffmpeg, or it does not run.
    """
    if named := os.environ.get("VCLIMB_FFMPEG"):
        return Ffmpeg(named, _version(named), "$VCLIMB_FFMPEG")
    if on_path := shutil.which("ffmpeg"):
        return Ffmpeg(on_path, _version(on_path), "on the PATH")
    import imageio_ffmpeg

    try:
        shipped = str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise FfmpegMissingError(
            f"no ffmpeg: none on the PATH, and imageio-ffmpeg has none for this machine ({error}); "
            "install ffmpeg, or set VCLIMB_FFMPEG to its path"
        ) from None
    return Ffmpeg(shipped, _version(shipped), "from imageio-ffmpeg")


def _version(binary: str) -> str:
    try:
        out = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=30, check=True).stdout
        return out.split()[2]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise FfmpegMissingError(
            f"{binary!r} does not run as an ffmpeg ({error}); install ffmpeg, or set VCLIMB_FFMPEG to its path"
        ) from None


def require_encoder(ffmpeg: Ffmpeg, encoder: str) -> None:
    """Raise a FfmpegMissingError unless a binary has an encoder, before any work is planned."""
    command = [ffmpeg.path, "-hide_banner", "-v", "error", "-h", f"encoder={encoder}"]
    help_text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    if not help_text.startswith(f"Encoder {encoder}"):
        raise FfmpegMissingError(
            f"{ffmpeg} has no {encoder} encoder; install a full build of ffmpeg, or set VCLIMB_FFMPEG to one"
        )


# The ffmpeg of this process, which must not outlive it. A worker runs one at a time.
_running: subprocess.Popen[bytes] | None = None


def kill_running() -> None:
    """Kill the ffmpeg that this process runs, if there is one. Safe in a signal handler."""
    if _running is not None:
        _kill(_running)


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # with its children: an ffmpeg may be a script around another


def run_ffmpeg(
    argv: Sequence[str], timeout_seconds: float, cwd: Path | None = None, stdout: IO[bytes] | None = None
) -> Finished:
    """Run an argv to its end or to the time-out, keeping at most 4 KiB of stderr. `stdout` is a file for its output.

    The child has a separate process group, so that a Ctrl-C in the terminal reaches the run alone, which then ends
    ffmpeg. The child ends with the calling thread, even if that is killed.
    """
    global _running
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.PIPE,
        process_group=0,
        cwd=cwd,
        preexec_fn=functools.partial(die_with_parent, signal.SIGKILL),
    ) as child:
        assert child.stderr is not None
        _running = child
        messages, timed_out = _Messages(), threading.Event()

        def stop() -> None:
            timed_out.set()
            _kill(child)

        timer = threading.Timer(timeout_seconds, stop)
        timer.start()
        try:
            while chunk := os.read(child.stderr.fileno(), 65536):
                messages.feed(chunk)
            returncode = child.wait()
        finally:
            timer.cancel()
            _kill(child)
            _running = None
    return Finished(returncode, messages.text(), timed_out.is_set())
