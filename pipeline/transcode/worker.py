"""Start-up of a worker process that opens files nobody vouches for, and the probe of one file."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.sources.remote import RemoteFile, Source
from vclimb.pipeline.system.parent import STOPPED
from vclimb.pipeline.system.validation import first_problem
from vclimb.pipeline.transcode.ffmpeg import kill_running
from vclimb.pipeline.transcode.probe import Probe, probe_video

_PROBE = TypeAdapter(Probe)
WORKER_DATA_BYTES = 2 * 2**30
"""Memory that a worker may allocate. It bounds what a hostile file costs; an honest 4K source needs 300 MB."""


def start_worker() -> None:
    """Prepare a process for `probe_file` and `make_shard`: bound its memory, and let SIGTERM end its ffmpeg too."""
    signal.signal(signal.SIGTERM, _stop_at_once)
    resource.setrlimit(resource.RLIMIT_DATA, (WORKER_DATA_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _stop_at_once(_number: int, _frame: object) -> None:
    kill_running()
    os._exit(STOPPED)


def probe_file(source: Source) -> Probe | VideoError:
    """Probe one file. A file that can't be used gives its error, and so does one whose facts no plan can hold."""
    if isinstance(source, RemoteFile):
        try:
            with tempfile.TemporaryDirectory(prefix="vclimb-") as folder:
                copy = Path(folder, f"video{source.stand_in.suffix}")
                with source.fetched(copy):
                    return probe_file(copy)
        except VideoError as error:
            return error
    try:
        return _PROBE.validate_python(asdict(probe_video(source)))
    except VideoError as error:
        return error
    except ValidationError as error:
        return VideoError("probe", f"claims what no video has: {first_problem(error)}")
    except Exception as error:
        return unforeseen("probe", error)


def unforeseen(stage: str, error: Exception) -> VideoError:
    """The error of a video that is broken in a way nobody thought of. The other videos must not wait for it."""
    if isinstance(error, MemoryError):
        return VideoError(stage, f"takes more than the {WORKER_DATA_BYTES / 2**30:.0f} GiB of memory that a video may")
    return VideoError(stage, f"failed in an unforeseen way ({type(error).__name__}: {error})")
