"""Write the report of a study: one page that needs nothing else, tables for programs, and charts as files."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import writable
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.progress import progress_bar
from vclimb.study.report.answer import Answer, answer
from vclimb.study.report.areas import Areas, areas
from vclimb.study.report.chart_set import draw_charts
from vclimb.study.report.groups import ReportLayout
from vclimb.study.report.page import render_page
from vclimb.study.report.results import StudyResults, read_results
from vclimb.study.report.tables import CSV, PARQUET, write_tables

PAGE, PLOTS = "report.html", "plots"
# Names of charts of any report, by which stale ones are recognised.
_CHART_NAME = re.compile(
    r"bytes-by-part|(acc|bwf)-(bytes|frames)|((acc|bwf)-bytes|heat-(acc|bwf))-panel[0-9]+|(dots-(acc|bwf)|acc-tasks|forgetting)-[0-9]+"
)


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        page: Path of the page.
        tables: Paths of the tables with one row per run.
        plots: Paths of the charts, as SVG.
        results: Runs that the report is about.
        layout: Runs as groups, lines and panels.
        answer: Best cell of each budget, and what the next budget buys.
        areas: Mean accuracy of each kind of memory over the logarithm of the bytes kept.
        left_out: Sentences that say what the page leaves out because of its size.
    """

    page: Path
    tables: tuple[Path, ...]
    plots: tuple[Path, ...]
    results: StudyResults
    layout: ReportLayout
    answer: Answer
    areas: Areas
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for JSON; fractions are from 0 to 1."""
        best = {
            budget: {
                "cell": self.layout.name(group),
                "runs": [run.run_id for run in group.runs],
                "acc": asdict(group.acc),
                "bwf": asdict(group.bwf),
                "bytes": asdict(group.bytes),
                "bytes_by_part": group.parts,
            }
            for budget, group in self.answer.best.items()
        }
        return {
            "report": str(self.page),
            "tables": [str(path) for path in self.tables],
            "plots": len(self.plots),
            "complete": len(self.results.complete),
            "left_out": [run.run_id for run in self.results.set_aside],
            "not_on_page": list(self.left_out),
            "failed": {run_id: failure.error for run_id, failure in self.results.failures.items()},
            "damaged": dict(self.results.damaged),
            "unfinished": [run.run_id for run in self.results.unfinished],
            "not_begun": list(self.results.waiting),
            "best": best,
            "cells_without_exemplars": [
                {
                    "cell": self.layout.name(group),
                    "runs": [run.run_id for run in group.runs],
                    "acc": asdict(group.acc),
                    "bytes": asdict(group.bytes) if group.is_fixed else None,
                    "bytes_by_part": group.parts,
                }
                for group in self.layout.without_exemplars
            ],
            "mean_acc_over_log_bytes": self.areas.to_json(),
            "in_words": [asdict(row) for row in self.answer.rows],
            "without_exemplars": list(self.answer.without_exemplars),
            "smallest_as_good": self.answer.smallest_as_good or None,
        }


def write_report(folder: Path | str, out: Path | str | None = None, progress: bool | None = None) -> Report:
    """Read run folders, and write `report.html`, `results.parquet`, `results.csv` and `plots/`.

    Args:
        folder: Folder of a study, or any folder of run folders.
        out: Folder to write to; None: the study's folder.
        progress: False: print no progress.

    Raises:
        DatasetError: The folder holds no runs.
        TargetError: The report can't be written.
    """
    out = local_path(folder if out is None else out)
    with progress_bar("steps", progress) as bar:
        step = bar.add_task("reading runs", total=None, note="")
        results = read_results(folder)
        layout = ReportLayout.from_runs(results.complete)
        charts = draw_charts(layout)
        study_answer, study_areas = answer(layout), areas(layout)
        names = [chart.name for chart in charts]
        bar.update(step, description="drawing charts", total=len(names) + 1)
        page, page_left_out = render_page(results, layout, study_answer, study_areas, charts)
        bar.advance(step)
        with writable(out):
            (out / PLOTS).mkdir(parents=True, exist_ok=True)
            for chart in charts:
                replace_file(out / PLOTS / f"{chart.name}.svg", charts.to_svg(chart).encode())
                bar.advance(step)
            for path in (out / PLOTS).glob("*.svg"):  # charts of an earlier report that this one lacks, no other files
                if path.stem not in names and _CHART_NAME.fullmatch(path.stem):
                    path.unlink(missing_ok=True)
            write_tables(results, out)
            replace_file(out / PAGE, page.encode())
    return Report(
        page=out / PAGE,
        tables=(out / PARQUET, out / CSV),
        plots=tuple(out / PLOTS / f"{name}.svg" for name in names),
        results=results,
        layout=layout,
        answer=study_answer,
        areas=study_areas,
        left_out=(*charts.left_out, *page_left_out),
    )
