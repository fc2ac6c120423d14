"""What a study may vary: settings of a run by their dotted names, with short ones for those that most studies vary."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, changes_no_result, nested, setting_names
from vclimb.training.config import SHORT_NAMES, RunConfig


def _known_settings() -> list[str]:
    """List the dotted names of all settings of a run, `method.name` for the method's."""
    return ["method.name" if name == "method" else name for name in setting_names(RunConfig)]


def setting_name(name: str) -> str:
    """The dotted name that a short or a dotted one means.

    Raises:
        SettingsError: there is no such setting (the nearest name is suggested), or it changes no result.
    """
    full = SHORT_NAMES.get(name, name)
    known = _known_settings()
    if full not in known and not full.startswith("method."):
        near = difflib.get_close_matches(name, [*SHORT_NAMES, *known], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        short = [name for name, setting in SHORT_NAMES.items() if not changes_no_result(setting)]
        raise SettingsError(
            f"axis {name!r} is not known; {hint}allowed: {', '.join(short)}, and any other setting of a run "
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


def nested_setting(name: str, value: Any) -> Table:
    """Make nested tables of a setting. A method that is a table has settings of its own."""
    return nested("method" if name == "method.name" and isinstance(value, Mapping) else name, value)
