"""Names and values of the settings that a study varies, as files, flags and Python code give them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from vclimb.pipeline.errors import SettingsError
from vclimb.protocol import Differences
from vclimb.settings import Table, changes_no_result, merged, nested, parse_assignment, setting_names
from vclimb.training.config import SHORT_NAMES, RunConfig


@cache
def _known_settings() -> frozenset[str]:
    """List the dotted names of all settings of a run; `method.name` stands for the method."""
    names = {"method.name" if name == "method" else name for name in setting_names(RunConfig)} - {"differences"}
    return frozenset(names | {f"differences.{name}" for name in Differences.model_fields})


def setting_name(name: str) -> str:
    """Find the dotted name of a setting, which may be given by its short name.

    Raises:
        SettingsError: There is no such setting (the nearest name is suggested), or it changes no result.
    """
    full = SHORT_NAMES.get(name, name)
    if full not in _known_settings() and not full.startswith("method."):
        near = difflib.get_close_matches(name, [*SHORT_NAMES, *sorted(_known_settings())], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        short = [name for name, setting in SHORT_NAMES.items() if not changes_no_result(setting)]
        raise SettingsError(
            f"axis {name!r} is not known; {hint}allowed: {', '.join(short)}, and any other setting of a run "
            "by its dotted name, such as training.learning_rate"
        )
    if changes_no_result(full):
        raise SettingsError(f"axis {name!r} changes no result, so it can't be varied; set it in [base] or by --set")
    return full


def axis_values(name: str, values: Any) -> list[Any]:
    """Check the values of an axis.

    Raises:
        SettingsError: There is no list, or it is empty.
    """
    if not isinstance(values, list) or not values:
        raise SettingsError(f"axis {name!r} is {values!r}; it needs a list of values, such as [1, 8]")
    return values


def parse_axes(axes: Mapping[str, Sequence[Any]] | Sequence[str] | None) -> dict[str, list[Any]]:
    """Read axes: a table of values by name, or texts such as `frames=1,8,all`.

    Raises:
        SettingsError: A text has no `=` or lacks a value.
    """
    if isinstance(axes, Mapping):
        return {name: list(values) if isinstance(values, Sequence) else values for name, values in axes.items()}
    return dict(_parse_axis(text) for text in axes or ())


def parse_settings(settings: Mapping[str, Any] | Sequence[str] | None) -> Table:
    """Read settings: a table whose names may be dotted or short, or texts such as `training.epochs=10`.

    Raises:
        SettingsError: A text has no `=`, or no name before it.
    """
    if isinstance(settings, Mapping):
        return merged(*(nested(SHORT_NAMES.get(name, name), value) for name, value in settings.items()))
    return merged(*(parse_assignment(text) for text in settings or ()))


def parse_list(name: str, values: str | Sequence[str] | None, example: str) -> tuple[str, ...]:
    """Read values that are separated by commas, or given as a sequence; None is empty.

    Args:
        name: Name of the argument, for errors.
        example: Allowed text, for errors.

    Raises:
        SettingsError: A value is empty.
    """
    parts = tuple(part.strip() for part in values.split(",")) if isinstance(values, str) else tuple(values or ())
    if not all(parts):
        raise SettingsError(f"{name} {values!r} lacks a value; write values between commas, such as {example}")
    return parts


def nested_setting(name: str, value: Any) -> Table:
    """Make nested tables of a setting; a method with its own settings is a table."""
    return nested("method" if name == "method.name" and isinstance(value, Mapping) else name, value)


def _parse_axis(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise SettingsError(f"axis {text!r} has no values; write name=value,value, such as frames=1,8,all")
    parts = _split_values(values)
    if not all(parts):
        raise SettingsError(
            f"axis {text!r} lacks a value, or a quote or a bracket that closes; write name=value,value, such as "
            'frames=1,8,all or method=naive,{name="ewc", strength=3e3}'
        )
    return setting_name(name.strip()), [parse_assignment(f"value={part}")["value"] for part in parts]


def _split_values(text: str) -> list[str]:
    """Split at commas outside quotes, lists and tables; an unclosed one gives a single empty value."""
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
