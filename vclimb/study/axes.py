"""What a study may vary: settings of a run by their dotted names, with short ones for those that most studies vary."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, changes_no_result

SHORT = {
    "method": "method.name",
    "frames": "memory.frames",
    "budget": "memory.budget",
    "codec": "memory.codec",
    "frame_choice": "memory.frame_choice",
    "video_choice": "memory.video_choice",
    "tc": "consistency.weight",
    "epochs": "training.epochs",
    "tasks": "scenario.tasks",
    "backbone": "model.backbone",
    "size": "model.size",
}
"""Short name -> setting."""


def setting_names(kind: Any = None, prefix: str = "") -> list[str]:
    """Dotted names of all settings of a run, `method.name` for the method's."""
    from vclimb.training.config import RunConfig  # loads torch

    kind = RunConfig if kind is None else kind
    hints = get_type_hints(kind)
    names: list[str] = []
    for field in fields(kind):
        full = prefix + field.name
        if is_dataclass(hints[field.name]):
            names += setting_names(hints[field.name], full + ".")
        else:
            names.append("method.name" if full == "method" else full)
    return names


def setting_name(name: str) -> str:
    """The dotted name that a short or a dotted one means.

    Raises:
        SettingsError: there is no such setting (the nearest name is suggested), or it changes no result.
    """
    full = SHORT.get(name, name)
    known = setting_names()
    if full not in known and not full.startswith("method."):
        near = difflib.get_close_matches(name, [*SHORT, *known], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(
            f"axis {name!r} is not known; {hint}allowed: {', '.join([*SHORT, 'seed'])}, and any other setting of a run "
            "by its dotted name, such as training.learning_rate"
        )
    if changes_no_result(full):
        raise SettingsError(f"axis {name!r} changes no result, so it can't be varied; set it in [base] or by --set")
    return full


def separated(text: str) -> list[str]:
    """Values between commas, but for those within quotes, a list or a table; an empty one for what is never closed."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (depth or not parts[-1].strip()):
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts] if not depth and not quote else [""]


def nested(name: str, value: Any) -> Table:
    """A setting by its dotted name as nested tables. A method that is a table has settings of its own."""
    if name == "method.name" and isinstance(value, Mapping):
        name = "method"
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)
