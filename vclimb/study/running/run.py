"""Computation of a study's runs: those that are not complete yet, several at a time."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import writable
from vclimb.study.cells import Cell
from vclimb.study.folder import StudyFolder
from vclimb.study.result import StudyResult
from vclimb.study.running.executor import STOPPED, RunExecutor, RunJob
from vclimb.study.running.progress import StudyProgress
from vclimb.training.run_folder import RunFolder


def run_cells(
    cells: Sequence[Cell],
    folder: StudyFolder,
    executor: RunExecutor,
    retry_failed: bool = False,
    progress: bool | None = None,
    shared: Mapping[str, str] | None = None,
) -> StudyResult:
    """Compute the runs that are not complete yet, as `Study.run` describes. This process holds the folder.

    Args:
        shared: Run -> group of the runs that share the training of the first task, where the run shares it.
    """
    places = executor.places
    complete = {cell.run_id for cell in cells if folder.is_complete(cell.run_id)}
    failures = folder.failures()
    for run_id in complete & failures.keys():  # the study was killed before it could remove the record
        folder.forget_failure(run_id)
    left = [cell for cell in cells if cell.run_id not in complete]
    skipped = [cell.run_id for cell in left if cell.run_id in failures and not retry_failed]
    todo = [cell for cell in left if cell.run_id not in failures or retry_failed]
    for cell in todo:
        with writable(folder.path):
            replace_file(folder.config(cell.run_id), places.place(cell.config).to_toml().encode())
        if (
            begun := RunFolder(folder.run(cell.run_id))
        ).exists:  # its files may have moved; their contents are the same
            with suppress(SettingsError):  # the run itself reports damaged settings, and stops no other
                begun.follow_files(cell.config)
    settings = {cell.run_id: cell.settings for cell in todo}
    jobs = [RunJob(cell.run_id, folder, places.cores, (shared or {}).get(cell.run_id)) for cell in todo]
    ran, unfinished, failed = [], [], {}
    with StudyProgress(cells, list(settings), folder, progress) as shown, closing(executor.run(jobs)) as ends:

        def note(line: str) -> None:
            folder.note(line)
            shown.says(line)

        executor.note = note
        for job in jobs:
            if job.is_running:
                shown.waits(job.run_id)
        for job, status in ends:
            run_id = job.run_id
            if status == 0 and folder.is_complete(run_id):
                folder.forget_failure(run_id)
                ran.append(run_id)
                shown.ended(run_id, "complete")
            elif status in STOPPED:
                unfinished.append(run_id)
                shown.ended(run_id, "stopped")
            else:
                reason = _reason(status, folder.tail(run_id))
                failed[run_id] = folder.record_failure(run_id, reason, status, settings[run_id])
                shown.ended(run_id, "failed", reason)
    return StudyResult(
        folder=folder.path,
        complete=tuple(sorted(complete)),
        ran=tuple(ran),
        failed=failed,
        failed_before={run_id: failures[run_id] for run_id in skipped},
        unfinished=tuple(unfinished),
    )


def _reason(status: int, tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; is the machine out of memory?" if -status == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"
    if status == 0:
        return "its process ended without completing the run"
    return lines[-1] if lines else f"its process ended with status {status} and without a message"
