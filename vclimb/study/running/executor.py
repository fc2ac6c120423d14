"""Jobs of a study, and the base of the executors that place them.

A job gives the command and the environment of a run. An executor starts the commands, on this machine or elsewhere, and
reports their exit statuses. Run folders lie on a file system that both sides see. `executors/local.py` is an example.
"""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vclimb.pipeline.system.plugins import Registry
from vclimb.study.folder import StudyFolder
from vclimb.study.running.places import AutoJobs, Places, fixed_jobs, gpu_variables
from vclimb.training.beginning_names import has_beginning

STOPPED = (130, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGINT)
"""Exit statuses of runs that were stopped by a signal, and go on another time."""


@dataclass(frozen=True)
class RunCommand:
    """Command that computes a run.

    Attributes:
        arguments: Program and its arguments.
        environment: Variables to set on top of those of the process that starts the program.
        log: File for what the program writes to stderr; a failure is explained by its last lines.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True)
class RunJob:
    """Run to be computed.

    Attributes:
        run_id: Name of the run.
        study: Folder of the study.
        threads: Number of processor cores for the run.
        beginning: Group of the runs that share the training of the first task; None: the run shares it with none.
    """

    run_id: str
    study: StudyFolder
    threads: int = 1
    beginning: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether a process trains in the run's folder, such as one of a study that was killed a moment ago."""
        return self.study.is_running(self.run_id)

    def waits_for(self, running: Iterable[RunJob]) -> bool:
        """Whether one of the jobs that run now is about to leave the training of the first task for this one.

        A job that is started all the same trains that task itself.
        """
        if self.beginning is None or not any(
            job.beginning == self.beginning and not job.study.has_ended_first_task(job.run_id) for job in running
        ):
            return False
        return not has_beginning(self.study.beginnings, self.beginning)

    def command(self, gpu: str | None = None) -> RunCommand:
        """Make the command that computes the run. A run that was begun goes on from its checkpoint.

        Exit status 0 means that the run is complete, 130 or 143 that it was stopped at a checkpoint by SIGINT or
        SIGTERM, and 3 that it found too little memory on its GPU.

        Args:
            gpu: GPU of the run, as CUDA_VISIBLE_DEVICES names it; None: those that the process sees.
        """
        folder = StudyFolder(self.study.path.absolute())
        paths = ["--config", str(folder.config(self.run_id)), "--out", str(folder.run(self.run_id))]
        if self.beginning is not None:
            paths += ["--beginnings", str(folder.beginnings)]
        arguments = (sys.executable, "-P", "-m", "vclimb.cli", "train", *paths, "--resume", "--json")
        package = Path(__file__).parents[3]  # the run imports the same vclimb, from whatever folder it is started
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        environment = {
            "PYTHONPATH": os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "NO_COLOR": "1",
            "COLUMNS": "500",
            **threads,
        }
        if gpu is not None:
            environment |= gpu_variables(gpu)
        return RunCommand(arguments, environment, folder.log(self.run_id))


class RunExecutor(ABC):
    """Places runs. Runs don't need each other, and may end in any order.

    Args:
        jobs: Number of runs at a time.
        gpus: GPUs to share out among them, as CUDA_VISIBLE_DEVICES names them; empty: those that a run sees.

    Attributes:
        note: Function that is told what the executor decides, as a line for the user.
    """

    note: Callable[[str], None] = staticmethod(lambda _line: None)

    def __init__(self, jobs: int = 1, gpus: Sequence[str] = ()) -> None:
        self.jobs = jobs
        self.gpus = tuple(gpus)

    @classmethod
    def for_study(cls, jobs: int | AutoJobs | None, gpus: str | Sequence[int | str], jobs_per_gpu: int | None) -> Self:
        """Make the executor for a study; the arguments are those of `vclimb.Study.run`.

        Raises:
            SettingsError: An argument isn't allowed, or the executor can't find the number of runs.
        """
        places = Places.find(fixed_jobs(jobs), gpus, jobs_per_gpu)
        return cls(places.jobs, places.gpus)

    @property
    def places(self) -> Places:
        """Places in which the runs are computed."""
        return Places(self.jobs, self.gpus)

    @abstractmethod
    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        """Run the command of each job, and yield the job and its exit status as soon as it has ended.

        Closing the generator must end the commands that still run, by SIGTERM and within seconds. A job that
        `is_running` already must not be started before that process has ended. A job that `waits_for` another should be
        started later, for it would train anew what it may soon take.
        """


EXECUTORS = Registry[RunExecutor](
    "executor",
    package="vclimb.study.running.executors",
    group="vclimb.run_executors",
    base="vclimb.study.running.executor:RunExecutor",
)
"""Executors of runs by name: files in `executors/`, and entry points of group `vclimb.run_executors`."""
