"""Memory and idle time of GPUs, as nvidia-smi reports them: those of all processes, whatever they are."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vclimb.pipeline.errors import SettingsError

_FIELDS = "index,uuid,memory.used,memory.total,utilization.gpu"
_TIMEOUT_SECONDS = 20
_READ_EVERY = 1.0
"""Seconds; nvidia-smi reports the busy share of up to a second before it is asked."""


@dataclass(frozen=True)
class GpuReading:
    """State of a GPU at a time.

    Attributes:
        time: Time of the reading, in seconds since 1970.
        idle: Share of the last second, or less, in which no kernel ran.
    """

    time: float
    used_bytes: float
    total_bytes: float
    idle: float


class GpuWatch:
    """Reads the state of GPUs, once a second at most.

    Args:
        gpus: GPUs, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        SettingsError: nvidia-smi doesn't report one of them.
    """

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = gpus
        self._readings = _read(gpus)

    def reading(self, gpu: str) -> GpuReading:
        """Return the state of a GPU, at most a second old.

        Raises:
            SettingsError: nvidia-smi doesn't report it any more.
        """
        if time.time() - self._readings[gpu].time >= _READ_EVERY:
            self._readings = _read(self._gpus)
        return self._readings[gpu]


def _read(gpus: Sequence[str]) -> dict[str, GpuReading]:
    remedy = "jobs auto can't measure without it; write a number of jobs"
    if (tool := shutil.which("nvidia-smi")) is None:
        raise SettingsError(f"nvidia-smi is not found, and {remedy}")
    command = [tool, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingsError(f"nvidia-smi reports no GPU ({error}), and {remedy}") from None
    now, found = time.time(), {}
    for line in done.stdout.splitlines():
        index, uuid, *figures = (part.strip() for part in line.split(","))
        for gpu in gpus:
            if gpu == index or (not gpu.isdecimal() and uuid.startswith(gpu)):
                try:
                    used, total, busy = map(float, figures)
                except ValueError:
                    raise SettingsError(f"nvidia-smi reports {line!r} for GPU {gpu}, and {remedy}") from None
                found[gpu] = GpuReading(now, used * 2**20, total * 2**20, 1 - busy / 100)
    if missing := [gpu for gpu in gpus if gpu not in found]:
        raise SettingsError(f"nvidia-smi reports no GPU {missing[0]}, and {remedy}")
    return found
