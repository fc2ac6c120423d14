"""Settings as plain values: dataclasses from nested tables and back, with errors that say what was meant."""

from __future__ import annotations

import difflib
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vclimb.pipeline.errors import SettingsError

Settings = TypeVar("Settings")
Table = dict[str, Any]


def from_table(kind: type[Settings], table: Mapping[str, Any], where: str = "") -> Settings:
    """A dataclass from a table of plain values; what the table lacks keeps its default.

    Args:
        where: the table's own name, for errors; empty at the top.

    Raises:
        SettingsError: a name is unknown (the nearest one is suggested), a value has another type or is missing.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            raise SettingsError(f"setting {_full(where, name)!r} is not known; {suggestion(name, known)}")
    values = {name: _value(hints[name], value, _full(where, name)) for name, value in table.items()}
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(f"setting {_full(where, name)!r} is missing; give it a value")
    return kind(**values)


def to_table(settings: Any) -> Table:
    """A dataclass as nested tables; what is None is left out, as TOML has no word for it."""
    table: Table = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            table[field.name] = to_table(value)
        elif isinstance(value, Mapping):
            table[field.name] = dict(value)
        elif value is not None:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def merged(*tables: Mapping[str, Any]) -> Table:
    """Tables laid over one another, the later ones on top, name by name at every depth."""
    result: Table = {}
    for table in tables:
        for name, value in table.items():
            below = result.get(name)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def parse_assignment(text: str) -> Table:
    """`a.b=value` as a nested table. The value is TOML (3, 0.5, true, "x"), or else a text without quotes.

    Raises:
        SettingsError: there is no `=`, or no name before it.
    """
    name, equals, value = text.partition("=")
    parts = [part.strip() for part in name.split(".")]
    if not equals or not all(parts):
        raise SettingsError(f"--set {text!r} is no assignment; write key=value, such as training.epochs=30")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    return dict(parsed)


def changes_no_result(setting: str) -> bool:
    """Whether a setting is about where a run is computed, not what: it may differ when the run is resumed."""
    return setting == "data" or setting.startswith(("compute.", "log."))


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested table as `a.b` -> value."""
    result: dict[str, Any] = {}
    for name, value in table.items():
        full = _full(prefix, name)
        result |= flat(value, full) if isinstance(value, Mapping) else {full: value}
    return result


def suggestion(name: str, known: Mapping[str, Any]) -> str:
    """What may have been meant by an unknown name, and what is allowed."""
    near = difflib.get_close_matches(name, known, 1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {', '.join(known) or 'none'}"


def _full(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value as a type hint has it.

    Raises:
        SettingsError: it doesn't fit.
    """
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"setting {where!r} is {value!r}; it needs a table of settings, [{where}]")
        return from_table(hint, value, where)  # type: ignore[arg-type]
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        fits, result = _fit(option, value)
        if fits:
            return result
    raise SettingsError(f"setting {where!r} is {value!r}; allowed: {' or '.join(map(_wording, options))}")


def _fit(option: Any, value: Any) -> tuple[bool, Any]:
    if get_origin(option) is Literal:
        return value in get_args(option) and not isinstance(value, bool), value
    if get_origin(option) is tuple:
        (kind, _) = get_args(option)
        parts = [_fit(kind, one) for one in value] if isinstance(value, list | tuple) else [(False, None)]
        return all(fits for fits, _ in parts), tuple(part for _, part in parts)
    if option is float and isinstance(value, int | float) and not isinstance(value, bool):
        return math.isfinite(value), float(value)
    if option in (int, str, bool):
        return type(value) is option, value
    if option is type(None):
        return value is None, None
    if get_origin(option) is dict:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else value
    return False, value


def _wording(option: Any) -> str:
    if get_origin(option) is Literal:
        return ", ".join(map(str, get_args(option)))
    if get_origin(option) is tuple:
        return "a list"
    if get_origin(option) is dict:
        return "a table"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(option, "nothing")
