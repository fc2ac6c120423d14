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

_MOST_PER_GPU = 8
"""Largest number of runs of a GPU, where settings don't say how many cores they take; each has two at least."""


@dataclass(frozen=True)
class AutoJobs:
    """Number of runs at a time that is to be found.

    Attributes:
        runs: Number of runs of the study.
        workers: Largest number of decoding processes that the settings of a run ask for; None: one asks for none.
        on_cpu: Whether the settings of all runs leave GPUs alone.
    """

    runs: int
    workers: int | None = None
    on_cpu: bool = False

    @classmethod
    def of(cls, configs: Sequence[RunConfig]) -> Self:
        """Describe runs with some settings."""
        workers = [config.compute.workers for config in configs]
        known = [number for number in workers if number is not None]
        return cls(
            runs=len(configs),
            workers=max(known) if known and len(known) == len(workers) else None,
            on_cpu=all(config.compute.device == "cpu" for config in configs),
        )

    def most(self, n_gpus: int, cores: int) -> int:
        """Largest number of runs at a time that the cores and the number of runs allow, at least one on each GPU."""
        if not n_gpus or self.on_cpu:
            return max(1, min(self.runs, cores // (1 + (1 if self.workers is None else self.workers))))
        cores_of_gpu = cores // n_gpus
        by_cores = (
            min(_MOST_PER_GPU, cores_of_gpu // 2) if self.workers is None else cores_of_gpu // max(1, self.workers)
        )
        return n_gpus * max(1, min(by_cores, -(-self.runs // n_gpus)))

    def __str__(self) -> str:
        return "auto"


def fixed_jobs(jobs: int | AutoJobs | None) -> int | None:
    """Refuse to find the number of runs, for executors that don't."""
    if isinstance(jobs, AutoJobs):
        raise SettingsError("jobs auto is not possible with this executor; allowed: a number, or executor local")
    return jobs


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
        cls,
        jobs: int | AutoJobs | None = None,
        gpus: str | Sequence[int | str] = "auto",
        jobs_per_gpu: int | None = None,
    ) -> Self:
        """Find the places: `jobs` of them, or `jobs_per_gpu` for each of the GPUs that `find_gpus` finds, or one.

        Where the number is to be found, these are as many as there may be.

        Raises:
            SettingsError: A GPU isn't visible, a number is below 1, or both numbers are given.
        """
        check_jobs(jobs, jobs_per_gpu)
        visible = find_gpus(gpus)
        if isinstance(jobs, AutoJobs):
            return cls(jobs.most(len(visible), available_cores()), visible)
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


def gpu_variables(gpu: str) -> dict[str, str]:
    """Environment variables that give a process one GPU, as CUDA_VISIBLE_DEVICES names it."""
    # Numbers that `visible_gpus` counted are those of nvidia-smi.
    order = {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**order, "CUDA_VISIBLE_DEVICES": gpu}


def check_jobs(jobs: int | AutoJobs | None, jobs_per_gpu: int | None) -> None:
    """Refuse numbers of runs below 1, and two that may contradict each other."""
    for name, number in (("jobs", jobs), ("jobs_per_gpu", jobs_per_gpu)):
        if isinstance(number, int) and number < 1:
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
