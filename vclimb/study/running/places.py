"""Share of this machine that each run of a study gets: GPUs and processor cores. Loads no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Self

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.cores import available_cores
from vclimb.training.config import RunConfig


@dataclass(frozen=True)
class Places:
    """Places in which a study's runs are computed at a time.

    Attributes:
        jobs: Number of runs at a time.
        gpus: GPUs that they share, as CUDA_VISIBLE_DEVICES names them; empty: no GPU.
        all_cores: Number of processor cores that they share.
    """

    jobs: int
    gpus: tuple[str, ...] = ()
    all_cores: int = field(default_factory=available_cores)

    @classmethod
    def find(
        cls, jobs: int | None = None, gpus: str | Sequence[int | str] = "auto", jobs_per_gpu: int | None = None
    ) -> Self:
        """Find the places: `jobs` of them, or `jobs_per_gpu` for each of the GPUs that `find_gpus` finds, or one.

        Raises:
            SettingsError: A GPU isn't visible, a number is below 1, or both numbers are given.
        """
        check_jobs(jobs, jobs_per_gpu)
        visible = find_gpus(gpus)
        return cls(jobs or max(1, len(visible) * (jobs_per_gpu or 1)), visible)

    @property
    def cores(self) -> int:
        """Number of processor cores for each run."""
        return max(1, self.all_cores // self.jobs)

    def place(self, config: RunConfig) -> RunConfig:
        """Give a run its share of the cores, and a GPU if there is one, unless its settings say otherwise."""
        compute = config.compute
        if compute.workers is None:
            compute = compute.replaced(workers=self.cores)
        if compute.device == "auto" and self.gpus:
            compute = compute.replaced(device="cuda")
        return config.replaced(compute=compute)


def check_jobs(jobs: int | None, jobs_per_gpu: int | None) -> None:
    """Refuse numbers of runs below 1, and two that may contradict each other."""
    for name, number in (("jobs", jobs), ("jobs_per_gpu", jobs_per_gpu)):
        if number is not None and number < 1:
            raise SettingsError(f"{name} {number} is out of range; allowed: 1 or more")
    if jobs is not None and jobs_per_gpu is not None:
        raise SettingsError(f"jobs {jobs} and jobs_per_gpu {jobs_per_gpu} are both given; leave one of them out")


def find_gpus(gpus: str | Sequence[int | str] = "auto") -> tuple[str, ...]:
    """Find GPUs, as CUDA_VISIBLE_DEVICES names them.

    Args:
        gpus: Numbers, as a list or as the text `0,1`; `auto`: all that are visible. Numbers count the visible GPUs, as
            torch does: where a scheduler has set CUDA_VISIBLE_DEVICES to `4,5`, 0 is 4. A GPU may also be given by its
            name in CUDA_VISIBLE_DEVICES, such as `GPU-8932f937`.

    Raises:
        SettingsError: There is no GPU in the list, or one isn't visible.
    """
    visible = visible_gpus()
    if gpus == "auto":
        return visible
    parts = gpus.split(",") if isinstance(gpus, str) else map(str, gpus)
    names = tuple(part.strip() for part in parts if part.strip())
    if not names:
        raise SettingsError(f"gpus {gpus!r} names no GPU; write their numbers, such as 0,1, or auto")
    known = {str(number): name for number, name in enumerate(visible)}
    known |= {name: name for name in visible if not name.isdecimal()}
    for name in names:
        if name not in known:
            raise SettingsError(f"gpus {gpus!r}: GPU {name!r} is not visible; {_allowed(visible)}")
    return tuple(known[name] for name in names)


def _allowed(visible: tuple[str, ...]) -> str:
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        counted = "" if inherited is None else f", which count CUDA_VISIBLE_DEVICES={inherited}"
        return f"allowed: {', '.join(map(str, range(len(visible))))}{counted}, or auto"
    reason = "nvidia-smi shows none" if inherited is None else f"CUDA_VISIBLE_DEVICES={inherited!r} hides all"
    return f"no GPU is: {reason}. Leave out gpus to run without one, or set CUDA_VISIBLE_DEVICES to those there are"


def visible_gpus() -> tuple[str, ...]:
    """Find the names of the GPUs that a process started now would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [part.strip() for part in visible.split(",")]
        return tuple(takewhile(lambda name: name not in ("", "-1"), names))  # CUDA ignores all after an invalid name
    if (tool := shutil.which("nvidia-smi")) is None:
        return ()
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU "))
