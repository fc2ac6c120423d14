"""Render the page of a report: one HTML file that needs no network, with every name escaped."""

from __future__ import annotations

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from vclimb.study.naming import SEED, head, label, parts_label, size_label, title, value_text, varied
from vclimb.study.report.answer import Answer
from vclimb.study.report.areas import Areas
from vclimb.study.report.chart_set import ChartSet
from vclimb.study.report.figures import printable, spread_text
from vclimb.study.report.group import Group
from vclimb.study.report.groups import MAX_NAMES, ReportLayout, budget_order, evenly
from vclimb.study.report.published import SOURCE, published
from vclimb.study.report.results import StudyResults
from vclimb.study.report.sheets import contact_sheets
from vclimb.study.report.study_facts import class_lists, study_facts

# What the page lists at most; the tables and the run folders hold everything.
MAX_CELLS, MAX_SETTINGS, MAX_LISTED, MAX_FAILURES = 2000, 200, 200, 100
MAX_ANSWERS, MAX_COLUMNS, MAX_SEEDS, MAX_TEXT = 100, 30, 20, 20_000


def render_page(
    results: StudyResults, layout: ReportLayout, answer: Answer, areas: Areas, charts: ChartSet
) -> tuple[str, list[str]]:
    """Render the page.

    Returns:
        The page as HTML, and sentences that say what it leaves out because of its size.
    """
    groups = layout.every_group
    columns = (layout.names or ("method.name",))[:MAX_COLUMNS]
    front, best = ({id(group) for group in selected} for selected in (layout.front, answer.best.values()))
    # Settings of the cells that readers ask for first, then of others as long as there is room.
    wanted = sorted(groups, key=lambda group: id(group) not in front | best)[:MAX_SETTINGS]
    with_settings = {id(group) for group in wanted}
    failures = list(results.failures.items())
    begun = [run.settings for run in results.runs] + [failure.settings for _, failure in failures]
    names = [name for name in varied([*begun, *results.waiting.values()]) if name != "dataset"][:MAX_NAMES]

    def name_cell(settings: Mapping[str, Any]) -> str:
        return label(settings, [*names, SEED])

    unlisted = {
        "cells in the table": len(groups) - MAX_CELLS,
        "cells' settings (they are in config.toml of each run folder)": len(groups) - MAX_SETTINGS,
        "budgets in the first table": len(answer.rows) - MAX_ANSWERS,
        "kinds in the table of mean accuracies": len(areas.rows) - MAX_ANSWERS,
        "columns of settings in the table": len(layout.names) - MAX_COLUMNS,
        "failed runs": len(failures) - MAX_FAILURES,
        "runs that can't be read": len(results.damaged) - MAX_FAILURES,
        "unfinished runs": len(results.unfinished) - MAX_LISTED,
        "runs that were not begun": len(results.waiting) - MAX_LISTED,
    }
    left_out = [f"{n:,} {what}" for what, n in unlisted.items() if n > 0]
    files = resources.files("vclimb.study.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    template = environment.from_string(files.joinpath("report.html.j2").read_text("utf-8"))
    page = template.render(
        style=Markup(files.joinpath("report.css").read_text("utf-8")),  # noqa: S704  # ours
        script=Markup(files.joinpath("report.js").read_text("utf-8")),  # noqa: S704  # ours
        library=Markup(_chart_library()) if charts.sections else "",  # noqa: S704  # Vega-Lite, from vl-convert
        charts=script_json({chart.name: chart.spec for chart in charts}),
        tables=script_json(charts.tables),
        sections=defaultdict(list, charts.sections),
        name=results.name,
        facts=study_facts(results, layout),
        classes=class_lists(results),
        results=results,
        answer=answer,
        areas=areas,
        area_rows=areas.rows[:MAX_ANSWERS],
        size=size_label,
        answer_rows=evenly(answer.rows, MAX_ANSWERS),
        left_out=[*charts.left_out, *left_out],
        columns=[head(name) for name in columns],
        cells=[_table_row(layout, group, columns, best, front, with_settings) for group in groups[:MAX_CELLS]],
        settings=[_settings(layout, group) for group in groups if id(group) in with_settings],
        many_panels=len(layout.panel_names) > 1,
        series=title(layout.series) if layout.series else "",
        published=published(groups),
        source=SOURCE,
        sheets=contact_sheets(layout),
        failures=[
            {"run": run_id, "name": name_cell(failure.settings), "failure": failure}
            for run_id, failure in failures[:MAX_FAILURES]
        ],
        damaged=list(results.damaged.items())[:MAX_FAILURES],
        unfinished=[(run.run_id, name_cell(run.settings), run.n_tasks_done) for run in results.unfinished[:MAX_LISTED]],
        waiting=[(run_id, name_cell(settings)) for run_id, settings in list(results.waiting.items())[:MAX_LISTED]],
        percent=spread_text,
    )
    return page, left_out


def _shown(value: object) -> object:
    """Prepare any value that the template writes: texts are cut, and hold only characters that a page can."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    cut = f"\n... (cut; {len(value):,} characters)" if len(value) > MAX_TEXT else ""
    return printable(value[:MAX_TEXT]) + cut


def script_json(value: object) -> Markup:
    """Write JSON for an inline script: no text in it can end the script or begin a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704  # escaped above


@cache  # bundling takes seconds
def _chart_library() -> str:
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _table_row(
    layout: ReportLayout,
    group: Group,
    columns: Sequence[str],
    best: set[int],
    front: set[int],
    with_settings: set[int],
) -> dict[str, Any]:
    """Make a row of the table of cells: each entry as text, and the value that it is sorted by."""
    videos = group.spread(lambda run: run.memory("videos")).mean
    per_frame = group.spread(lambda run: run.memory("bytes_per_frame")).mean
    seconds = group.spread(lambda run: run.seconds).mean
    average = group.spread(lambda run: run.number("average_incremental_accuracy"))

    def number(value: float, text: str) -> tuple[str, float | str]:
        return ("-", "") if math.isnan(value) else (text, value)

    described = layout.names_of(group) or columns
    values = [group.settings.get(name) if name in described else None for name in columns]
    return {
        "anchor": group.anchor,
        "is_best": id(group) in best,
        "is_front": id(group) in front,
        "has_settings": id(group) in with_settings,
        "runs": group.run_ids,
        "settings": [(value_text(value), _sort_key(value)) for value in values],
        "figures": [
            number(group.acc.mean, spread_text(group.acc, "")),
            number(group.bwf.mean, spread_text(group.bwf, "")),
            number(average.mean, spread_text(average, "")),
            number(videos, f"{videos:,.0f}"),
            number(group.frames.mean, f"{group.frames.mean:,.0f}"),
            number(group.bytes.mean, size_label(group.bytes.mean)),
            (parts_label(group.parts) or "-", ""),
            number(per_frame, f"{per_frame:,.0f}"),
            number(float(len(group.runs)), str(len(group.runs))),
            number(seconds, f"{seconds / 60:.1f}"),
        ],
    }


def _settings(layout: ReportLayout, group: Group) -> dict[str, Any]:
    """Make an entry that says how to reproduce a cell."""
    runs = [
        {
            "seed": run.seed,
            "toml": run.toml,
            "command": f"vclimb train --config {run.run_id}.toml --out {shlex.quote('runs/' + run.run_id)}",
        }
        for run in group.runs[:MAX_SEEDS]
    ]
    more = len(group.runs) - len(runs)
    return {"anchor": group.anchor, "name": layout.name(group), "runs": runs, "more": more}


def _sort_key(value: Any) -> float | str:
    if value == "all":
        return 1e18
    if isinstance(value, str):
        kind, amount = budget_order(value)
        return float(amount) if kind else value_text(value)
    return "" if value is None else float(value)
