"""Tasks of one class, from which a loss that compares the classes of a task with one another learns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vclimb.pipeline.errors import SettingsError

if TYPE_CHECKING:
    from vclimb.scenario import TaskSequence


def refuse_one_class_tasks(method: str, scenario: TaskSequence, instead: str) -> None:
    """Refuse a scenario for a method whose new clips compete among the classes of their task.

    Args:
        instead: What else may be taken, as the end of a sentence.

    Raises:
        SettingsError: a task has one class.
    """
    for number, task in enumerate(scenario, 1):
        if len(task.classes) == 1:
            raise SettingsError(
                f"method {method} learns to tell the classes of a task from one another, and task {number} of scenario "
                f"{scenario.name!r} has one class: nothing would be learned; take tasks of 2 or more classes, {instead}"
            )
