"""The report of a study: one page that needs nothing else, tables for programs, and plots as files."""

from __future__ import annotations

import math
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import writable
from vclimb.study.naming import SEED, head, label, title, value_text, varied
from vclimb.study.report.answer import Answer, answer, frugal_sentence, rows
from vclimb.study.report.groups import Group, Layout, budget_order
from vclimb.study.report.heat_map import heat_map
from vclimb.study.report.plots import ACC, BWF, BYTES, FRAMES, dots, scatter, series_lines, spread_text
from vclimb.study.report.published import published, source
from vclimb.study.report.results import RunResult, StudyResults, read_results
from vclimb.study.report.sheets import contact_sheets
from vclimb.study.report.svg import size_label
from vclimb.study.report.tables import write_tables
from vclimb.study.report.task_plots import over_tasks

PAGE, PLOTS = "report.html", "plots"
# Names that `_pictures` gives, of any report.
_OURS = re.compile(
    r"(acc|bwf)-(bytes|frames)|((acc|bwf)-bytes|heat-(acc|bwf))-panel[0-9]+|(dots-(acc|bwf)|acc-tasks|forgetting)-[0-9]+"
)


@dataclass(frozen=True)
class Picture:
    """A plot.

    Attributes:
        name: of its file.
        svg: that is drawn.
    """

    name: str
    svg: str


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        page: the file.
        results: what it tells of.
        layout: how runs were put together.
        answer: in short.
        n_plots: that were drawn.
    """

    page: Path
    results: StudyResults
    layout: Layout
    answer: Answer
    n_plots: int


def write_report(folder: Path | str, out: Path | str | None = None) -> Report:
    """Read run folders, and write `report.html`, `results.parquet`, `results.csv` and `plots/`.

    Args:
        folder: of the study.
        out: where to; None: into the study's folder.

    Raises:
        DatasetError: there is no run.
        TargetError: it can't be written.
    """
    results = read_results(folder)
    out = Path(folder if out is None else out)
    layout = Layout.of(results.complete)
    found = answer(layout)
    pictures = _pictures(layout)
    page = _page(results, layout, found, pictures)
    with writable(out):
        (out / PLOTS).mkdir(parents=True, exist_ok=True)
        for picture in (one for of in pictures.values() for one in of):
            replace_file(out / PLOTS / f"{picture.name}.svg", picture.svg.encode())
        _remove_stale({picture.name for of in pictures.values() for picture in of}, out / PLOTS)
        write_tables(results, out)
        replace_file(out / PAGE, page.encode())
    return Report(out / PAGE, results, layout, found, sum(map(len, pictures.values())))


def _remove_stale(names: set[str], folder: Path) -> None:
    """Remove plots that an earlier report drew and this one doesn't; what else lies there is somebody's own."""
    for path in folder.glob("*.svg"):
        if path.stem not in names and _OURS.fullmatch(path.stem):
            path.unlink(missing_ok=True)


def _pictures(layout: Layout) -> dict[str, list[Picture]]:
    """Section -> plots."""
    if not layout.groups:
        return {}
    pictures = {
        "front": [Picture("acc-bytes", scatter(layout, BYTES, ACC, with_front=True))],
        "others": [
            Picture("acc-frames", scatter(layout, FRAMES, ACC)),
            Picture("bwf-bytes", scatter(layout, BYTES, BWF)),
            Picture("bwf-frames", scatter(layout, FRAMES, BWF)),
        ],
    }
    panels = list(enumerate(layout.panel_names))
    if len(layout.budgets) > 1 and layout.series:
        lines = [
            Picture(f"acc-bytes-panel{n}", series_lines(layout, name, BYTES, ACC, layout.groups)) for n, name in panels
        ]
        lines += [
            Picture(f"bwf-bytes-panel{n}", series_lines(layout, name, BYTES, BWF, layout.groups)) for n, name in panels
        ]
        pictures["lines"] = lines
        for figure in (ACC, BWF):
            pictures[f"heat-{figure.name}"] = [
                Picture(f"heat-{figure.name}-panel{n}", heat_map(layout, name, figure)) for n, name in panels
            ]
    elif layout.series:
        pictures["dots"] = [
            Picture(f"dots-{figure.name}-{n}", dots(layout, budget, figure))
            for n, budget in enumerate(layout.budgets)
            for figure in (ACC, BWF)
        ]
    numbered = list(enumerate(layout.budgets))
    pictures["tasks"] = [
        Picture(
            f"acc-tasks-{n}",
            over_tasks(layout, b, "Acc after each task", lambda run: run.series("acc_after_each_task")),
        )
        for n, b in numbered
    ]
    pictures["forgetting"] = [
        Picture(
            f"forgetting-{n}", over_tasks(layout, b, "forgotten of each task", lambda run: run.forgetting, "points")
        )
        for n, b in numbered
    ]
    return pictures


def _page(results: StudyResults, layout: Layout, found: Answer, pictures: dict[str, list[Picture]]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    columns = layout.names or ("method.name",)
    files = resources.files("vclimb.study.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files.joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        style=Markup(files.joinpath("report.css").read_text("utf-8")),  # noqa: S704  # ours
        script=Markup(files.joinpath("report.js").read_text("utf-8")),  # noqa: S704  # ours
        name=results.name,
        facts=_facts(results, layout),
        classes=_classes(results),
        counts=_counts(results),
        answer=rows(layout, found),
        frugal=frugal_sentence(layout, found),
        pictures=defaultdict(list, {k: [Markup(one.svg) for one in v] for k, v in pictures.items()}),  # noqa: S704  # `Svg` escapes
        columns=[head(name) for name in columns],
        cells=[_cell(layout, group, found, columns) for group in [*layout.groups, *layout.references]],
        many_panels=len(layout.panel_names) > 1,
        series=title(layout.series) if layout.series else "",
        published=published([*layout.groups, *layout.references]),
        source=source(),
        sheets=contact_sheets(layout),
        failures=[
            {"run": run_id, "name": _named(results, failure.settings), "failure": failure}
            for run_id, failure in results.failures.items()
        ],
        unfinished=[(run.run_id, _named(results, run.settings), run.n_tasks_done) for run in results.unfinished],
        waiting=[(run_id, _named(results, settings)) for run_id, settings in results.waiting.items()],
        percent=spread_text,
    )


def _named(results: StudyResults, settings: Any) -> str:
    """A cell that has no results, by what sets it apart, and its seed."""
    everything = [run.settings for run in results.runs] + [one.settings for one in results.failures.values()]
    names = [name for name in varied([*everything, *results.waiting.values()]) if name != "dataset"]
    return label(settings, [*names, SEED])


def _facts(results: StudyResults, layout: Layout) -> list[tuple[str, str]]:
    """What was run, as name and value."""
    complete = results.complete
    metrics = [run.metrics or {} for run in complete]
    scenarios = [one.get("scenario") or {} for one in metrics]

    def all_of(values: Sequence[object]) -> str:
        return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, ""))) or "-"

    facts = [
        ("data set", all_of([one.get("dataset") for one in metrics])),
        ("scenario", all_of([one.get("name") for one in scenarios])),
        ("how it came about", all_of([one.get("origin") for one in scenarios])),
        ("tasks", all_of([one.get("n_tasks") for one in scenarios])),
        ("classes", all_of([len(one.get("classes") or ()) for one in scenarios])),
        ("reported split", all_of([one.get("evaluation_split") for one in scenarios])),
        ("protocol", all_of([one.get("protocol") for one in metrics])),
        ("backbone", all_of([run.settings.get("model.backbone") for run in complete])),
        (
            "pixels, frames of a clip",
            all_of([f"{r.settings.get('model.size')}, {r.settings.get('model.clip_frames')}" for r in complete]),
        ),
        ("epochs of a task", all_of([run.settings.get("training.epochs") for run in complete])),
        ("seeds", all_of(sorted({run.seed for run in complete}))),
        ("device", all_of([one.get("device") for one in metrics])),
        ("vclimb", all_of([one.get("vclimb_version") for one in metrics])),
        ("time of all runs", f"{sum(run.seconds for run in complete) / 3600:.2f} h"),
    ]
    for name in layout.names:
        values = [g.settings.get(name) for g in [*layout.groups, *layout.references] if name in layout.names_of(g)]
        facts.append(
            (f"varied: {title(name)}", ", ".join(dict.fromkeys(value_text(v) for v in values if v is not None)))
        )
    return facts


def _classes(results: StudyResults) -> list[list[str]]:
    """Names of each task's classes, of the first run that is complete."""
    for run in results.complete:
        tasks = (run.metrics or {}).get("tasks") or []
        return [[str(name) for name in task.get("classes", ())] for task in tasks]
    return []


def _counts(results: StudyResults) -> dict[str, int]:
    return {
        "complete": len(results.complete),
        "set_aside": len(results.set_aside),
        "failed": len(results.failures),
        "unfinished": len(results.unfinished),
        "waiting": len(results.waiting),
    }


def _cell(layout: Layout, group: Group, found: Answer, columns: Sequence[str]) -> dict[str, Any]:
    """A row of the table: what is shown, and what it is sorted by."""
    videos, per_frame = (group.of(partial(RunResult.memory, name=name)).mean for name in ("videos", "bytes_per_frame"))
    frames = group.frames.mean
    seconds = group.of(lambda run: run.seconds).mean
    average = group.of(lambda run: run.number("average_incremental_accuracy"))

    def number(value: float, text: str) -> tuple[str, float | str]:
        return ("-", "") if math.isnan(value) else (text, value)

    own = layout.names_of(group) or columns
    values = [group.settings.get(name) if name in own else None for name in columns]
    return {
        "anchor": group.anchor,
        "name": layout.name(group),
        "is_best": group in found.best.values(),
        "is_front": group in layout.front,
        "settings": [(value_text(v), _sort_key(v)) for v in values],
        "figures": [
            number(group.acc.mean, spread_text(group.acc, "")),
            number(group.bwf.mean, spread_text(group.bwf, "")),
            number(average.mean, spread_text(average, "")),
            number(videos, f"{videos:,.0f}"),
            number(frames, f"{frames:,.0f}"),
            number(group.bytes.mean, size_label(group.bytes.mean)),
            number(per_frame, f"{per_frame:,.0f}"),
            number(float(len(group.runs)), str(len(group.runs))),
            number(seconds, f"{seconds / 60:.1f}"),
        ],
        "runs": [
            {
                "id": run.run_id,
                "seed": run.seed,
                "toml": run.toml,
                "command": f"vclimb train --config {run.run_id}.toml --out {shlex.quote('runs/' + run.run_id)}",
            }
            for run in group.runs
        ],
    }


def _sort_key(value: Any) -> float | str:
    if value == "all":
        return 1e18
    if isinstance(value, str):
        kind, amount = budget_order(value)
        return float(amount) if kind else value
    return "" if value is None else float(value)
