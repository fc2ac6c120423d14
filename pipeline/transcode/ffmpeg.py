"""Finding an ffmpeg and running it: no shell, a time-out, a bounded part of stderr, no orphan.

The graph of a transcode is built in `encode.py`; here an argv is run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vclimb.pipeline.errors import FfmpegMissingError
from vclimb.pipeline.system.parent import die_with_parent

STDERR_TAIL_BYTES = 4096
_KINDS_OF_LINES = 64


@dataclass(frozen=True)
class Ffmpeg:
    """An ffmpeg binary and where it came from."""

    path: str
    version: str
    origin: str

    def __str__(self) -> str:
        return f"ffmpeg {self.version} ({self.origin}: {self.path})"


@dataclass(frozen=True)
class Finished:
    """How an ffmpeg process ended.

    Attributes:
        returncode: 0, a status, or minus the number of a signal.
        stderr: one line of each kind that it wrote, sorted; see `_Said`.
        timed_out: it was killed because its time was over.
    """

    returncode: int
    stderr: str
    timed_out: bool


class _Said:
    """What a process wrote to stderr, whittled down to what is the same on every run, within 4 KiB.

    Threads of ffmpeg write in any order, addresses of its objects change, and a damaged video repeats a message with
    other numbers a thousand times. So of all lines that differ in their numbers alone, the smallest is kept.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, bytes] = {}
        self._unfinished = b""

    def feed(self, chunk: bytes) -> None:
        *lines, unfinished = (self._unfinished + chunk).split(b"\n")
        self._unfinished = unfinished[:STDERR_TAIL_BYTES]
        for line in lines:
            self._keep(re.sub(rb" @ 0x[0-9a-f]+", b"", line[:STDERR_TAIL_BYTES]).strip())

    def _keep(self, line: bytes) -> None:
        kind = re.sub(rb"\d+", b"#", line)
        if line and (kind in self._lines or len(self._lines) < _KINDS_OF_LINES):
            self._lines[kind] = min(self._lines.get(kind, line), line)

    def text(self) -> str:
        self.feed(b"\n")
        return b"\n".join(sorted(self._lines.values()))[:STDERR_TAIL_BYTES].decode("utf-8", "replace")


@functools.cache
def find_ffmpeg() -> Ffmpeg:
    """The ffmpeg to use: `$VCLIMB_FFMPEG`, else the PATH's, else the one that imageio-ffmpeg ships.

    Raises:
        FfmpegMissingError: none is there, or the one found does not run.
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
    """Check that a binary can encode, before any work is planned.

    Raises:
        FfmpegMissingError: it was built without that encoder.
    """
    command = [ffmpeg.path, "-hide_banner", "-v", "error", "-h", f"encoder={encoder}"]
    help_text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    if not help_text.startswith(f"Encoder {encoder}"):
        raise FfmpegMissingError(
            f"{ffmpeg} has no {encoder} encoder; install a full build of ffmpeg, or set VCLIMB_FFMPEG to one"
        )


# The child of this process that must not outlive it; a worker runs one at a time.
_running: subprocess.Popen[bytes] | None = None


def kill_running() -> None:
    """Kill the ffmpeg that this process runs, if any. Safe in a signal handler."""
    if _running is not None:
        _kill(_running)


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # with its children: an ffmpeg may be a script around another


def run_ffmpeg(argv: Sequence[str], timeout_seconds: float, cwd: Path | None = None) -> Finished:
    """Run an argv to its end or to the time-out, keeping at most 4 KiB of stderr.

    The child gets a process group of its own, so that a Ctrl-C in the terminal reaches the run that
    owns it, not ffmpeg behind its back. It ends with the thread that called, even if that is killed.
    """
    global _running
    deadline = time.monotonic() + timeout_seconds
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
        cwd=cwd,
        preexec_fn=functools.partial(die_with_parent, signal.SIGKILL),
    ) as child:
        _running = child
        try:
            stderr, timed_out = _drain(child, deadline)
            if timed_out:
                _kill(child)
            returncode = child.wait()
        finally:
            _kill(child)
            _running = None
    return Finished(returncode, stderr, timed_out)


def _drain(child: subprocess.Popen[bytes], deadline: float) -> tuple[str, bool]:
    assert child.stderr is not None
    said = _Said()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stderr, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            chunk = os.read(child.stderr.fileno(), 65536)
            if not chunk:
                break
            said.feed(chunk)
    return said.text(), left <= 0
