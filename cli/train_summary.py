"""A run's metrics, and the plan of a run, as tables."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

import vclimb
from vclimb.cli.console import brief, new_table, out, parts_text, plain, warn

_SHOWN_TASKS = 50

_FIGURES = {
    "Acc": "acc",
    "Acc, by classes": "acc_by_class",
    "BWF": "bwf",
    "BWF, by classes": "bwf_by_class",
    "average incremental": "average_incremental_accuracy",
}


def print_run(folder: Path, metrics: vclimb.RunMetrics) -> None:
    """Print the results of a run."""
    scenario = metrics.scenario
    state = "" if metrics.complete else f" [yellow](unfinished: {len(metrics.R)} of {scenario.n_tasks} tasks)[/]"
    out.print(
        f"[bold]{brief(metrics.method)}[/] on {brief(scenario.name)}: {scenario.n_tasks} tasks, "
        f"{len(scenario.classes)} classes, {brief(metrics.protocol)} protocol, seed {metrics.seed}{state}"
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    for _ in metrics.classifiers:
        grid.add_column(justify="right")
    names = [brief(name) if name != metrics.classifier else f"[bold]{brief(name)}[/]" for name in metrics.classifiers]
    grid.add_row("classifier", *names)
    for title, name in _FIGURES.items():
        grid.add_row(title, *(percent(getattr(accuracies, name)) for accuracies in metrics.classifiers.values()))
    if metrics.forward_transfer is not None:
        grid.add_row("forward transfer", percent(metrics.forward_transfer))
    out.print(grid)
    _print_matrix(metrics)
    if (memory := metrics.memory) is not None:
        frames = f", {memory.frames:,} of their {memory.source_frames:,} frames" if memory.frames else ""
        videos = f"{memory.videos:,} videos{frames} as {plain(str(metrics.codec))}, "
        per_frame = f" ({memory.bytes_per_frame or 0:,.0f} a frame)" if memory.frames else ""
        has_videos = metrics.codec is not None
        out.print(f"memory: {videos if has_videos else ''}{memory.bytes_on_disk:,} bytes on disk{per_frame}")
        if len(memory.parts) > 2:
            out.print(f"bytes of its parts: {parts_text(memory.parts)}")
    _print_pilot(metrics)
    parts = [f"{brief(name)} {value:.1f}" for name, value in sorted(metrics.seconds.items(), key=lambda kv: -kv[1])]
    out.print(f"time: {sum(metrics.seconds.values()):.1f} s ({', '.join(parts)}) on {brief(metrics.device)}")
    if skipped := sum(task.skipped_clips for task in metrics.tasks):
        out.print(f"[yellow]{skipped} clips were replaced by others, as their bytes are damaged[/] (events.jsonl)")
    out.print(f"run: [bold]{plain(str(folder))}[/]")


def _print_pilot(metrics: vclimb.RunMetrics) -> None:
    """Print what a pilot has compared and chosen, where there was one."""
    if metrics.pilot is None:
        return
    names = ("codec", "frames", "bytes a video", "videos a class", "read alike", "recall", "score")
    table = new_table(*names)
    for one in metrics.pilot.candidates:
        shares = [f"{100 * one.agreement:.0f} %", f"{100 * one.recall:.0f} %", f"{one.score:.2f}"]
        table.add_row(
            plain(one.codec), str(one.frames), f"{one.video_bytes:,.0f}", f"{one.videos_per_class:.1f}", *shares
        )
    out.print(table)
    out.print(plain(metrics.pilot.reason))


def _print_matrix(metrics: vclimb.RunMetrics) -> None:
    """Print R: a row for each task learned, a column for each task evaluated; of many, some that are spread evenly."""
    rows, columns = _spread(len(metrics.R)), _spread(metrics.scenario.n_tasks)
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), title_justify="left", title_style="dim")
    title = f"accuracy in % on each task (columns) after each task (rows), {brief(metrics.classifier)} classifier"
    left_out = metrics.scenario.n_tasks - len(columns)
    table.title = title + (f"; {left_out} tasks are left out here, --json prints all" if left_out else "")
    table.add_column("after", style="dim", justify="right")
    for task in columns:
        table.add_column(str(task + 1), justify="right")
    table.add_column("Acc", justify="right", style="bold")
    for number in rows:
        values, acc = metrics.R[number], metrics.acc_after_each_task[number]
        cells = ["" if (value := values[task]) is None else f"{100 * value:.1f}" for task in columns]
        table.add_row(str(number + 1), *cells, "-" if acc is None else f"{100 * acc:.1f}")
    out.print(table)


def _spread(count: int) -> list[int]:
    """Choose numbers below `count`: all, or `_SHOWN_TASKS` that are spread evenly, with the first and the last."""
    if count <= _SHOWN_TASKS:
        return list(range(count))
    return [number * (count - 1) // (_SHOWN_TASKS - 1) for number in range(_SHOWN_TASKS)]


def print_plan(plan: vclimb.RunPlan) -> None:
    """Print what a run would do."""
    out.print(
        f"[bold]{plain(plan.method)}[/] on {plain(plan.scenario.name)}: {plan.scenario.n_tasks} tasks, "
        f"{plan.scenario.n_classes} classes, data set {plain(plan.dataset)}"
    )
    names = ("task", "classes", "clips", "replayed", "steps", "evaluated", "memory: videos", "frames", "bytes")
    table = new_table(*names)
    for task in plan.tasks:
        memory = task.memory
        counts = (task.train_instances, task.replay_exemplars, task.steps, task.evaluation_instances)
        sizes = ["-"] * 3 if memory is None else [f"{n:,}" for n in (memory.videos, memory.frames, memory.bytes)]
        table.add_row(str(task.task + 1), str(task.classes), *(f"{count:,}" for count in counts), *sizes)
    out.print(table)
    out.print(f"{plan.steps:,} steps, {plan.training_clips:,} clips in all; nothing was trained")
    last = plan.tasks[-1].memory
    if last is not None and len(last.parts) > 2:
        out.print(f"bytes of the last memory's parts: {parts_text(last.parts)}")
    if plan.bytes_from:
        out.print(f"[dim]{plain(plan.bytes_from)}[/]")
    for warning in plan.warnings:
        warn(warning)


def percent(value: float | None) -> str:
    """Format a fraction in percent."""
    return "-" if value is None else f"{100 * value:.2f} %"
