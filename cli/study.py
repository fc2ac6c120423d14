"""`vclimb study`: many runs that differ in a few settings, and one report of what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from vclimb.cli.console import EXIT_FAILED, err, explain_errors, plain, print_json, progress, warn
from vclimb.cli.study_answer import print_capacities, print_report, report_json
from vclimb.cli.study_table import duration, print_estimate, print_summary

if TYPE_CHECKING:  # torch takes seconds to import
    from vclimb.study.cells import Cell
    from vclimb.study.definition import Study
    from vclimb.study.planning.capacity import Capacity
    from vclimb.study.planning.estimate import Estimate
    from vclimb.study.report.page import Report
    from vclimb.study.running.executor import RunOutcome
    from vclimb.study.running.run import StudySummary

app = typer.Typer(
    name="study",
    no_args_is_help=True,
    help="What does each byte of memory buy? Run many settings, and read one report.",
)


@app.command("run")
def run(
    study: Annotated[
        str,
        typer.Argument(
            help="A study as TOML, or a preset: memory-vs-frames, codecs, paper-table-a, paper-table-b, paper-table-c."
        ),
    ],
    data: Annotated[str, typer.Option(help="A prepared data set, e.g. shards/NAME.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="The study's folder, e.g. studies/NAME.")],
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", metavar="NAME=V,V", help="Vary a setting, e.g. frames=1,8,all; may be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of all runs, e.g. model.size=112; may be repeated."),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Budgets that all cells share, in place of all others: 1MB,2MB or 2%,5% of the training data."
        ),
    ] = None,
    equal: Annotated[
        str | None, typer.Option(help="What budgets count, the same in all cells: bytes, videos, frames, or several.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time, also on one GPU. Default: one for each GPU.")
    ] = None,
    gpus: Annotated[
        str, typer.Option(help="GPUs to spread runs over, e.g. 0,1, of those that are visible; auto: all.")
    ] = "auto",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try runs again that failed before.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, their expected time and bytes; run nothing.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="For --dry-run: training clips a second of one run, as `vclimb bench` measures."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what became of each run (or the plan) as JSON.")
    ] = False,
) -> None:
    """Run what a study still needs. A run that is complete is never run again, whatever was killed when.

    Runs that fail are named, and don't stop the others. The exit status is 1 if one failed.
    """

    def work() -> Estimate | tuple[list[Cell], StudySummary]:
        from vclimb.pipeline.dataset.dataset import StoredDataset
        from vclimb.study.definition import read_study
        from vclimb.study.folder import StudyFolder
        from vclimb.study.planning.estimate import estimate
        from vclimb.study.running.executor import LocalExecutor
        from vclimb.study.running.gpus import gpus_of
        from vclimb.study.running.preflight import ScenarioTotals, data_content, preflight
        from vclimb.study.running.run import run_study, shared_cores

        asked: Study = read_study(study).with_flags(
            axis or (), set_ or (), _listed(budgets, "--budgets"), _listed(equal, "--equal")
        )
        dataset = StoredDataset.open(data)
        where = os.path.abspath(data) if os.path.exists(data) else data
        cells = asked.expand(where, ScenarioTotals(dataset))
        used = gpus_of(gpus)
        n_jobs = jobs or max(1, len(used))
        folder = StudyFolder(target)
        content = data_content(dataset)
        folder.check_data(dataset.name, content)
        if dry_run:
            return estimate(cells, folder, n_jobs, rate, retry_failed)
        for warning in preflight(cells, dataset):
            warn(warning)
        if not as_json:
            on = f"{len(used)} GPUs" if used else "the CPU"
            err.print(f"study [bold]{plain(asked.name)}[/]: {len(cells)} runs, {n_jobs} at a time on {on}")
        each = shared_cores(n_jobs)
        with folder.held(), _Progress(cells, quiet=as_json) as bar:
            folder.keep_data(dataset.name, content)
            executor = LocalExecutor(folder, n_jobs, used, each, bar.waits)
            return cells, run_study(
                cells, asked.to_toml(), folder, executor, each, retry_failed, bar.shows, bar.ended, bool(used)
            )

    result = explain_errors(work, f"Runs go on where they were: run the same command again. Folder: {target}")
    if not isinstance(result, tuple):
        print_json(result.to_json()) if as_json else print_estimate(result)
        return
    cells, summary = result
    if as_json:
        print_json(summary.to_json())
    else:
        print_summary(target, cells, summary)
    if not summary.is_complete:
        raise typer.Exit(EXIT_FAILED)


@app.command("report")
def report(
    study: Annotated[Path, typer.Argument(help="The study's folder, e.g. studies/NAME, or any folder of run folders.")],
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write to. Default: the study's folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Read run folders, and write report.html (which needs no network), results.parquet, results.csv and plots.

    It prints the best cell for each budget, and what the next doubling of bytes buys.
    """

    def work() -> Report:
        from vclimb.study.report.page import write_report

        return write_report(study, target)

    written = explain_errors(work, "Nothing is half written.")
    if as_json:
        print_json(report_json(written))
    else:
        print_report(written)


@app.command("plan")
def plan(
    budget: Annotated[str, typer.Option(help="E.g. 64MB (on disk), 2020v (videos), 16160f (frames).")],
    data: Annotated[str, typer.Option(help="A prepared data set, e.g. shards/NAME.")],
    codecs: Annotated[
        str | None, typer.Option(help="Codecs to compare, e.g. copy,jpeg:75@128. Default: eight.")
    ] = None,
    frames: Annotated[str, typer.Option(help="Frames of a video to compare.")] = "1,2,4,8,16,all",
    rebalance: Annotated[
        bool, typer.Option("--rebalance", help="Give others what a class can't use of its share.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="Videos that are encoded to measure bytes a frame.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Without training: how many videos and frames a budget holds, for each codec and number of frames.

    Bytes a frame are measured on a sample of the training videos.
    """

    def work() -> list[Capacity]:
        from vclimb.memory.choice.budget import MemoryBudget
        from vclimb.memory.choice.frames import parse_frame_count
        from vclimb.pipeline.dataset.dataset import StoredDataset
        from vclimb.study.planning.capacity import CODECS, capacities

        counts = [parse_frame_count(text) for text in _listed(frames, "--frames")]
        names = CODECS if codecs is None else _listed(codecs, "--codecs")
        with progress("choices", quiet=as_json) as bar:
            task = bar.add_task("encoding a sample", total=len(counts) * len(names), note="")
            parsed = MemoryBudget.parse(budget)
            dataset = StoredDataset.open(data)
            return capacities(dataset, parsed, names, counts, sample, rebalance, lambda: bar.advance(task))

    found = explain_errors(work, "Nothing was changed.")
    if as_json:
        print_json({"budget": budget, "data": data, "sample": sample, "choices": [one.to_json() for one in found]})
    else:
        print_capacities(budget, found)


class _Progress:
    """All runs as one bar on stderr, and a line for each that has ended."""

    def __init__(self, cells: list[Cell], quiet: bool) -> None:
        from vclimb.study.cells import settings_of
        from vclimb.study.naming import label, varied
        from vclimb.study.running.events import TimeLeft

        settings = [settings_of(cell) for cell in cells]
        names = [*varied(settings), "seed"]
        self._labels = {cell.run_id: label(one, names) for cell, one in zip(cells, settings, strict=True)}
        self._quiet = quiet
        columns = ("{task.description}", "{task.fields[note]}")
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn(columns[0]),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(columns[1], style="dim"),
            console=err,
            disable=quiet or not err.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("running", total=len(cells), note="runs")
        self._left = TimeLeft()

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def shows(self, shares: dict[str, float]) -> None:
        n_running = sum(0 < share < 1 for share in shares.values())
        left = self._left.seconds(shares)
        told = "" if left is None else f", about {duration(left)} left"
        self._bar.update(
            self._task, completed=sum(shares.values()), total=len(shares), note=f"runs, {n_running} under way{told}"
        )

    def waits(self, job: Any) -> None:
        if not self._quiet:
            err.print(
                f"[yellow]waiting[/] for {self._named(job.run_id)}: a process of an earlier study is still ending"
            )

    def ended(self, cell: Cell, outcome: RunOutcome) -> None:
        if self._quiet:
            return
        name = self._named(cell.run_id)
        if outcome.how == "failed":
            err.print(f"[red]failed[/]   {name}: {plain(outcome.error)}")
        else:
            err.print(f"{outcome.how} {name}")

    def _named(self, run_id: str) -> str:
        return f"{run_id} ({plain(self._labels[run_id])})"


_LISTS = {"--budgets": "1MB,2MB", "--equal": "bytes,videos", "--frames": "1,8,all", "--codecs": "copy,jpeg:75"}


def _listed(text: str | None, flag: str) -> tuple[str, ...]:
    """Values between commas; none where the flag wasn't given."""
    from vclimb.pipeline.errors import SettingsError

    if text is None:
        return ()
    values = tuple(part.strip() for part in text.split(","))
    if not all(values):
        raise SettingsError(f"{flag} {text!r} lacks a value; write values between commas, such as {_LISTS[flag]}")
    return values
