"""Say what a study ran: data, scenario, model and the settings that vary."""

from __future__ import annotations

from collections.abc import Iterable

from vclimb.study.naming import title, value_text
from vclimb.study.report.groups import ReportLayout
from vclimb.study.report.results import StudyResults


def study_facts(results: StudyResults, layout: ReportLayout) -> list[tuple[str, str]]:
    """List what was run, as names and values; a value lists what differs between runs."""
    complete = results.complete
    metrics = [run.metrics or {} for run in complete]
    scenarios = [content.get("scenario") or {} for content in metrics]
    clips = [f"{run.settings.get('model.size')}, {run.settings.get('model.clip_frames')}" for run in complete]
    facts = [
        ("data set", _joined(content.get("dataset") for content in metrics)),
        ("scenario", _joined(scenario.get("name") for scenario in scenarios)),
        ("how it came about", _joined(scenario.get("origin") for scenario in scenarios)),
        ("tasks", _joined(scenario.get("n_tasks") for scenario in scenarios)),
        ("classes", _joined(len(scenario.get("classes") or ()) for scenario in scenarios)),
        ("reported split", _joined(scenario.get("evaluation_split") for scenario in scenarios)),
        ("protocol", _joined(content.get("protocol") for content in metrics)),
        ("network", _joined(run.settings.get("model.network") for run in complete)),
        ("backbone", _joined(run.settings.get("model.backbone") for run in complete)),
        ("pixels, frames of a clip", _joined(clips)),
        ("epochs of a task", _joined(run.settings.get("training.epochs") for run in complete)),
        ("seeds", _joined(sorted({run.seed for run in complete}))),
        ("device", _joined(content.get("device") for content in metrics)),
        ("vclimb", _joined(content.get("vclimb_version") for content in metrics)),
        ("time of all runs", f"{sum(run.seconds for run in complete) / 3600:.2f} h"),
    ]
    groups = [*layout.groups, *layout.references]
    for name in layout.names:
        values = [group.settings.get(name) for group in groups if name in layout.names_of(group)]
        facts.append((f"varied: {title(name)}", _joined(value_text(value) for value in values if value is not None)))
    return facts


def class_lists(results: StudyResults) -> list[list[str]]:
    """List the class names of each task, from the first complete run."""
    for run in results.complete:
        tasks = (run.metrics or {}).get("tasks") or []
        return [[str(name) for name in task.get("classes", ())] for task in tasks]
    return []


def _joined(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, ""))) or "-"
