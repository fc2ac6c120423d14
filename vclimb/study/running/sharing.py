"""Runs of a study that share the training of the first task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vclimb.study.cells import Cell
from vclimb.study.folder import StudyFolder
from vclimb.study.running.places import Places
from vclimb.training.beginning_names import group_of, has_beginning


def shared_beginnings(cells: Sequence[Cell], places: Places) -> dict[str, str]:
    """Map each run that shares the training of the first task with another one to the name of their group."""
    groups = {cell.run_id: group_of(places.place(cell.config)) for cell in cells}
    sizes = Counter(groups.values())
    return {run_id: group for run_id, group in groups.items() if sizes[group] > 1}


def runs_that_take(shared: Mapping[str, str], run_ids: Sequence[str], folder: StudyFolder) -> set[str]:
    """Name those of some runs that will take the training of the first task, rather than train it.

    Args:
        shared: Run -> group, of `shared_beginnings`.
    """
    taking: set[str] = set()
    made: set[str] = set()
    for run_id in run_ids:
        if run_id not in shared or folder.has_ended_first_task(run_id):
            continue
        group = shared[run_id]
        if group in made or has_beginning(folder.beginnings, group):
            taking.add(run_id)
        made.add(group)
    return taking
