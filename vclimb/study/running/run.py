"""Running a study: the runs that it still needs, several at a time, whatever was killed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.transcode.target import writable
from vclimb.study.cells import Cell, settings_of
from vclimb.study.folder import Failure, StudyFolder
from vclimb.study.running.executor import Executor, RunJob, RunOutcome
from vclimb.training.config import RunConfig
from vclimb.training.run_folder import RunFolder

OnProgress = Callable[[dict[str, float]], None]
"""Called with the share that is done of each run that isn't complete yet."""

# Of a run that has said nothing yet: it counts as under way.
_BEGUN = 1e-9


@dataclass
class StudySummary:
    """What became of a study's runs, by their ids.

    Attributes:
        complete: before this command began.
        ran: completed by it.
        failed: by it, and why.
        failed_before: and not tried again.
        stopped: by something else than the study; to go on another time.
    """

    complete: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    failed_before: dict[str, Failure] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every run of the study is complete."""
        return not (self.failed or self.failed_before or self.stopped)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""

        def reasons(failures: dict[str, Failure]) -> dict[str, str]:
            return {run_id: failure.error for run_id, failure in failures.items()}

        return {
            "complete_before": self.complete,
            "ran": self.ran,
            "failed": reasons(self.failed),
            "failed_before": reasons(self.failed_before),
            "stopped": self.stopped,
            "is_complete": self.is_complete,
        }


def run_study(
    cells: Sequence[Cell],
    toml: str,
    folder: StudyFolder,
    executor: Executor,
    workers: int,
    retry_failed: bool = False,
    on_progress: OnProgress = lambda _: None,
    on_outcome: Callable[[Cell, RunOutcome], None] = lambda *_: None,
    on_gpu: bool = False,
) -> StudySummary:
    """Compute the runs that a study still needs. One that is complete is never computed again.

    Args:
        cells: of the study.
        toml: the study, to be written down.
        folder: of the study; must be held.
        executor: where runs are computed.
        workers: processes that decode, a run; no setting that the result depends on.
        retry_failed: try those again that failed before.
        on_outcome: called when a run has ended.
        on_gpu: each run is given a GPU, and fails rather than train on the CPU if it can't use it.

    Raises:
        KeyboardInterrupt: it was asked to stop; runs were stopped where they go on the next time.
    """
    folder.write_study(toml, {cell.run_id: dict(settings_of(cell)) for cell in cells})
    of_id = {cell.run_id: cell for cell in cells}
    complete = folder.complete(of_id)
    failures = folder.failures()
    for run_id in complete & failures.keys():  # the study was killed before it could forget that
        folder.forget_failure(run_id)
    skipped = {
        run_id: failures[run_id] for run_id in of_id if run_id in failures.keys() - complete and not retry_failed
    }
    summary = StudySummary(sorted(complete), failed_before=skipped)
    todo = [cell for cell in cells if cell.run_id not in complete and cell.run_id not in skipped]
    jobs = [RunJob(cell.run_id, folder.config(cell.run_id)) for cell in todo]
    for cell, job in zip(todo, jobs, strict=True):
        with writable(folder.path):
            replace_file(job.config, _placed(cell.config, workers, on_gpu).to_toml().encode())
        _follow_files(RunFolder(folder.run(cell.run_id)), cell.config)
    shares = dict.fromkeys((job.run_id for job in jobs), 0.0)

    def tell(job: RunJob, share: float) -> None:
        shares[job.run_id] = max(share, _BEGUN)
        on_progress(shares)

    outcomes = executor.run(jobs, tell)
    try:
        for outcome in outcomes:
            run_id = outcome.job.run_id
            if outcome.how == "complete":
                folder.forget_failure(run_id)
                summary.ran.append(run_id)
            elif outcome.how == "failed":
                settings = dict(settings_of(of_id[run_id]))
                summary.failed[run_id] = folder.record_failure(run_id, outcome.error, outcome.exit_status, settings)
            else:
                summary.stopped.append(run_id)
            tell(outcome.job, 1.0)
            on_outcome(of_id[run_id], outcome)
    finally:
        outcomes.close()  # stops what is running
    return summary


def shared_cores(jobs: int) -> int:
    """Processor cores for each of so many runs at a time: decoding processes, and threads of torch."""
    return max(1, available_cores() // jobs)


def _follow_files(begun: RunFolder, config: RunConfig) -> None:
    """A run that was begun goes on with its files where they lie now: its name says that their content is the same."""
    if begun.exists:
        with suppress(SettingsError):  # damaged settings: the run itself says so, and stops no other
            begun.follow_files(config)


def _placed(config: RunConfig, workers: int, on_gpu: bool) -> RunConfig:
    """With this machine's share of cores, and on the GPU that it is given, unless the study says otherwise."""
    compute = config.compute
    if compute.workers is None:
        compute = compute.replaced(workers=workers)
    if compute.device == "auto" and on_gpu:
        compute = compute.replaced(device="cuda")
    return config.replaced(compute=compute)
