"""Say what a study ran: data, scenario, model and the settings that vary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vclimb.study.naming import shortened, title, value_text
from vclimb.study.report.groups import ReportLayout
from vclimb.study.report.results import StudyResults

# What is listed at most: values of a fact, tasks, classes of a task, characters of a text.
_MAX_VALUES, _MAX_TASKS, _MAX_CLASSES, _MAX_TEXT = 100, 100, 100, 300


def study_facts(results: StudyResults, layout: ReportLayout) -> list[tuple[str, str]]:
    """List what was run, as names and values; a value lists what differs between runs."""
    complete = results.complete
    metrics = [run.metrics for run in complete if run.metrics]
    scenarios = [content.scenario for content in metrics]
    clips = [f"{run.settings.get('model.size')}, {run.settings.get('model.clip_frames')}" for run in complete]
    values: dict[str, Iterable[object]] = {
        "data set": (content.dataset for content in metrics),
        "scenario": (scenario.name for scenario in scenarios),
        "how it came about": (scenario.origin for scenario in scenarios),
        "tasks": (scenario.n_tasks for scenario in scenarios),
        "classes": (len(scenario.classes) for scenario in scenarios),
        "reported split": (scenario.evaluation_split for scenario in scenarios),
        "protocol": (content.protocol for content in metrics),
        "network": (run.settings.get("model.network") for run in complete),
        "backbone": (run.settings.get("model.backbone") for run in complete),
        "pixels, frames of a clip": clips,
        "epochs of a task": (run.settings.get("training.epochs") for run in complete),
        "seeds": sorted({run.seed for run in complete}),
        "device": (content.device for content in metrics),
        "vclimb": (content.vclimb_version for content in metrics),
        "time of all runs": [f"{sum(run.seconds for run in complete) / 3600:.2f} h"],
    }
    groups = layout.every_group
    for name in layout.names:
        listed = [group.settings.get(name) for group in groups if name in layout.names_of(group)]
        values[f"varied: {title(name)}"] = [value_text(value) for value in listed if value is not None]
    texts = {term: dict.fromkeys(str(value) for value in v if value not in (None, "")) for term, v in values.items()}
    return [(term, _listed(list(listed), _MAX_VALUES) or "-") for term, listed in texts.items()]


def class_lists(results: StudyResults) -> list[str]:
    """List the class names of each task, from the first complete run; of many tasks and classes, the first ones."""
    first = next((run.metrics for run in results.complete if run.metrics), None)
    tasks = first.tasks if first else ()
    lines = [_listed(task.classes, _MAX_CLASSES) for task in tasks[:_MAX_TASKS]]
    more = [f"and {len(tasks) - _MAX_TASKS:,} tasks more, as metrics.json of each run lists them"]
    return lines + (more if len(tasks) > _MAX_TASKS else [])


def _listed(texts: Sequence[str], count: int) -> str:
    shown = [shortened(text, _MAX_TEXT) for text in texts[:count]]
    more = f", and {len(texts) - count:,} more" if len(texts) > count else ""
    return ", ".join(shown) + more
