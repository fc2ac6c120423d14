"""Settings: typed, frozen, checked when they are read, with errors that say what was allowed.

A component declares its settings as a subclass of `Settings`, beside its own code:

    class BiCConfig(Settings):
        hold_out: float = Field(default=0.1, gt=0, lt=1)

`from_table` reads them from the tables of a TOML file; `to_table` converts them back. Importing this module loads no
torch.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError

from vclimb.pipeline.errors import SettingsError

Table = dict[str, Any]
MoreSettings = Mapping[str, Any] | Iterable[str]
"""Settings as nested tables, as dotted names (`{"model.size": 112}`), or as assignments (`["model.size=112"]`)."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, and without unknown names.

    A float may be given as a whole number, and a tuple as a list, since TOML has no tuples. Numbers are finite.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _lists_to_tuples(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        tuples = {name for name, field in cls.model_fields.items() if _holds_tuple(field.annotation)}
        return {
            name: tuple(value) if isinstance(value, list) and name in tuples else value for name, value in table.items()
        }

    def replaced(self, **changes: Any) -> Self:
        """Copy the settings with some of them changed, and check the result.

        Raises:
            SettingsError: a value isn't allowed.
        """
        return from_table(type(self), {**dict(self), **changes})

    def to_table(self) -> Table:
        """Convert to nested tables of plain values; settings that are None are left out, as TOML has no word for it."""
        table: Table = {}
        for name, value in self:
            if isinstance(value, Settings):
                table[name] = value.to_table()
            elif isinstance(value, Mapping):
                table[name] = dict(value)
            elif value is not None:
                table[name] = list(value) if isinstance(value, tuple) else value
        return table


SettingsT = TypeVar("SettingsT", bound=Settings)


def from_table(kind: type[SettingsT], table: Mapping[str, Any], prefix: str = "") -> SettingsT:
    """Read settings from a table of plain values; what the table lacks keeps its default.

    Args:
        prefix: Dotted name of the table, for errors; empty at the top.

    Raises:
        SettingsError: a name is unknown (the nearest one is suggested), or a value is missing, out of range or of
            another type.
    """
    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise SettingsError(_sentence(kind, error, prefix)) from None


def merged(*tables: Mapping[str, Any]) -> Table:
    """Lay tables over one another, the later ones on top, name by name at every depth."""
    result: Table = {}
    for table in tables:
        for name, value in table.items():
            below = result.get(name)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def parse_assignment(text: str) -> Table:
    """Read `a.b=value` as a nested table. The value is TOML (3, 0.5, true, "x"), or else a text without quotes.

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
    return nested(".".join(parts), parsed)


def settings_tables(settings: MoreSettings | None) -> list[Table]:
    """Convert settings in any of their forms to nested tables; later ones win.

    Raises:
        SettingsError: an assignment can't be read, or the settings are one text.
    """
    if isinstance(settings, str):
        raise SettingsError(f"settings {settings!r} is a text; give a table, or a list of assignments")
    if isinstance(settings, Mapping):
        return [nested(name, value) for name, value in settings.items()]
    return [parse_assignment(text) for text in settings or ()]


def changes_no_result(setting: str) -> bool:
    """Whether a setting says where a run is computed, not what: it may differ when the run is resumed."""
    return setting == "data" or setting.startswith(("compute.", "log."))


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested table to dotted name -> value."""
    result: dict[str, Any] = {}
    for name, value in table.items():
        full = _full(prefix, name)
        result |= flat(value, full) if isinstance(value, Mapping) else {full: value}
    return result


def nested(name: str, value: Any) -> Table:
    """Make nested tables of a setting with a dotted name."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def setting_names(kind: type[Settings], prefix: str = "") -> list[str]:
    """List the dotted names of all settings."""
    names: list[str] = []
    for name, field in kind.model_fields.items():
        inner = _settings_class(field.annotation)
        names += [_full(prefix, name)] if inner is None else setting_names(inner, _full(prefix, name))
    return names


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name an unknown one may stand for, and which names are allowed."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {', '.join(names) or 'none'}"


def _full(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _settings_class(annotation: Any) -> type[Settings] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def _holds_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(_holds_tuple(part) for part in get_args(annotation))


# What pydantic says of a value of another type; these are worded by the setting's type as a whole.
_RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def _sentence(kind: type[Settings], error: ValidationError, prefix: str) -> str:
    """Word the first error of a validation as one sentence."""
    errors = error.errors(include_url=False)
    first = errors[0]
    name, field, parent = _locate(kind, first["loc"], prefix)
    alike = [other for other in errors if _locate(kind, other["loc"], prefix)[0] == name]
    first = next((other for other in alike if other["type"] in _RANGES), first)
    value, reason = first["input"], first["type"]
    if reason == "extra_forbidden":
        return f"setting {name!r} is not known; {suggestion(str(first['loc'][-1]), parent.model_fields)}"
    if reason == "missing":
        return f"setting {name!r} is missing; give it a value"
    if isinstance(cause := first.get("ctx", {}).get("error"), SettingsError):
        return str(cause)
    if reason in ("value_error", "assertion_error"):
        return f"setting {name!r} is {value!r}: {first['msg'].removeprefix('Value error, ')}"
    annotation = None if field is None else field.annotation
    if reason in _RANGES and field is not None:
        shown = f"{value:g}" if isinstance(value, int | float) else repr(value)
        return f"setting {name!r} is {shown}, out of range; allowed: {_range(annotation, field.metadata)}"
    if _settings_class(annotation) is not None:
        return f"setting {name!r} is {value!r}; it needs a table of settings, [{name}]"
    return f"setting {name!r} is {value!r}; allowed: {' or '.join(_words(annotation))}"


def _locate(
    kind: type[Settings], location: tuple[int | str, ...], prefix: str
) -> tuple[str, pydantic.fields.FieldInfo | None, type[Settings]]:
    """Find the setting that an error is about: its dotted name, its field, and the settings that it belongs to."""
    name, field, parent = prefix, None, kind
    inner: type[Settings] | None = kind
    for part in location:
        if inner is None:
            break  # within a value: the index of a list, or the branch of a union
        parent, name = inner, _full(name, str(part))
        field = parent.model_fields.get(str(part))
        inner = None if field is None else _settings_class(field.annotation)
    return name, field, parent


def _range(annotation: Any, metadata: list[Any]) -> str:
    """Word the limits of a number."""
    limits = dict(_limits(annotation, metadata))
    low, high = limits.get("ge"), limits.get("le")
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {_number(limit)}" for name, limit in limits.items())


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) and not math.isclose(value, round(value)) else str(round(value))


def _limits(annotation: Any, metadata: Iterable[Any]) -> Iterator[tuple[str, float]]:
    """Find the limits in a field's metadata, and in the types that its annotation is made of."""
    for constraint in metadata:
        for name in ("ge", "gt", "le", "lt"):
            if (limit := getattr(constraint, name, None)) is not None:
                yield name, limit
        yield from _limits(None, getattr(constraint, "metadata", ()))
    if get_origin(annotation) is Annotated:
        yield from _limits(annotation.__origin__, annotation.__metadata__)
    else:
        for part in get_args(annotation) if get_origin(annotation) is not Literal else ():
            yield from _limits(part, ())


def _words(annotation: Any) -> list[str]:
    """Word what a type allows; None is what a setting has where it is left out, and isn't mentioned."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _words(annotation.__origin__)
    if origin is Literal:
        return [", ".join(map(str, get_args(annotation)))]
    if origin is tuple or annotation is tuple:
        parts = [" or ".join(_words(part)) for part in get_args(annotation) if part is not ...]
        return [f"a list of {' and '.join(dict.fromkeys(parts))}" if parts else "a list"]
    if origin is dict or annotation is dict:
        return ["a table"]
    if origin is not None:
        return [word for part in get_args(annotation) for word in _words(part) if part is not type(None)]
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return [names.get(annotation, getattr(annotation, "__name__", str(annotation)))]
