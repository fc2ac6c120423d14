"""Settings: typed, frozen, checked when they are read, with errors that say what was allowed.

A component declares its settings as a subclass of `Settings`, beside its own code:

    class BiCConfig(Settings):
        hold_out: float = Field(default=0.1, gt=0, lt=1)

`from_table` reads them from the tables of a TOML file; `to_table` converts them back. Importing this module loads no
torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.suggestion import suggestion
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.small_files import read_small
from vclimb.setting_words import words_for_range, words_for_type

_MAX_BYTES = 8 * 2**20  # of a file of settings
_MAX_DEPTH, _MAX_SQUARED_DOTS = 32, 20_000_000
_MAX_SHOWN = 300  # characters of a value in a message

Table = dict[str, Any]
MoreSettings = Mapping[str, Any] | Iterable[str]
"""Settings as nested tables, as dotted names (`{"model.size": 112}`), or as assignments (`["model.size=112"]`)."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, and without unknown names.

    A float may be given as a whole number. A tuple may be given as a list, and a path as a text: TOML has neither.
    Numbers are finite.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=False)

    @model_validator(mode="before")
    @classmethod
    def _from_toml(cls, table: Any) -> Any:
        """Convert what TOML has no type for: lists to tuples, and text to paths."""
        if not isinstance(table, Mapping):
            return table
        converted = dict(table)
        for name, field in cls.model_fields.items():
            value = table.get(name)
            if isinstance(value, list) and _contains(field.annotation, tuple):
                converted[name] = tuple(value)
            elif isinstance(value, str) and _contains(field.annotation, Path):
                converted[name] = Path(value)
        return converted

    def replaced(self, **changes: Any) -> Self:
        """Copy the settings with some of them changed, and check the result."""
        return from_table(type(self), {**dict(self), **changes})

    def to_table(self) -> Table:
        """Convert to nested tables of plain values; settings that are None are left out, as TOML has no word for it."""
        return self.model_dump(mode="json", exclude_none=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def from_table(kind: type[SettingsT], table: Mapping[str, Any], prefix: str = "") -> SettingsT:
    """Read settings from a table of plain values; what the table lacks keeps its default.

    Args:
        prefix: Dotted name of the table, for errors; empty for the outermost table.

    Raises:
        SettingsError: a name is unknown (the nearest one is suggested), or a value is missing, out of range or of
            another type.
    """
    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise SettingsError(_sentence(kind, table, error, prefix)) from None


def read_table(path: Path | str) -> Table:
    """Read a TOML file of settings; errors are SettingsErrors."""
    return read_toml(path)[1]


def read_toml(path: Path | str) -> tuple[str, Table]:
    """Read the text and the tables of a TOML file of settings; errors are SettingsErrors."""
    path = local_path(path)
    try:
        text = read_small(path, _MAX_BYTES).decode("utf-8").replace("\r\n", "\n")
        # Parsing takes the square of the number of parts of a dotted name.
        if sum(line.count(".") ** 2 for line in text.split("\n")) > _MAX_SQUARED_DOTS:
            raise SettingsError(f"settings {str(path)!r} have names of too many parts, or too many numbers in a line")
        table = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"settings {str(path)!r} can't be read: {error.strerror}") from None
    except SettingsError:
        raise
    except ValueError as error:  # of TOML, of UTF-8, or of a number with thousands of digits
        raise SettingsError(f"settings {str(path)!r} are not TOML: {str(error)[:_MAX_SHOWN]}") from None
    except RecursionError:
        raise SettingsError(f"settings {str(path)!r} are nested too deeply") from None
    if _depth(table) > _MAX_DEPTH:
        raise SettingsError(f"settings {str(path)!r} are nested too deeply; allowed: {_MAX_DEPTH} levels")
    return text, table


def _depth(table: Table) -> int:
    """Number of levels of tables and lists, one for a table without any."""
    level: list[Any] = [table]
    depth = 0
    while level:
        inner = [value for outer in level for value in (outer.values() if isinstance(outer, dict) else outer)]
        level = [value for value in inner if isinstance(value, dict | list)]
        depth += 1
    return depth


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
    """Read `a.b=value` as a nested table. The value is TOML (3, 0.5, true, "x"), or else a text without quotes."""
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
    """Convert settings in any of their forms to nested tables; later ones win."""
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


def _full(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _settings_class(annotation: Any) -> type[Settings] | None:
    """Return the Settings that a type stands for, alone or with None."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    parts = [part for part in get_args(annotation) if part is not type(None)]
    is_union = get_origin(annotation) in (Union, UnionType)
    return _settings_class(parts[0]) if is_union and len(parts) == 1 else None


def _contains(annotation: Any, kind: type) -> bool:
    """Whether a type is, or has as a branch, a tuple or a path."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return any(_contains(part, kind) for part in get_args(annotation))
    return annotation is kind or get_origin(annotation) is kind


_RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
# Kinds of errors, besides those that end in `_type`, that the words for the whole type explain best.
_OF_TYPE = ("literal_error", "int_from_float", "too_long", "too_short", "missing", "is_instance_of")


@dataclass(frozen=True)
class _Place:
    """Setting that an error is about.

    Attributes:
        value: Value of the setting; None where it is unknown or missing.
        field: Field of the setting; None where the setting is unknown.
        within: Place of the error in the value, such as the number of an item; empty: the whole value.
    """

    name: str
    value: Any
    field: FieldInfo | None
    parent: type[Settings]
    within: tuple[int | str, ...]


def _locate(kind: type[Settings], table: Mapping[str, Any], location: tuple[int | str, ...], prefix: str) -> _Place:
    place = _Place(prefix, table, None, kind, ())
    inner: type[Settings] | None = kind
    for depth, part in enumerate(location):
        if inner is None:
            return replace(place, within=location[depth:])
        value = place.value.get(part) if isinstance(place.value, Mapping) else getattr(place.value, str(part), None)
        field = inner.model_fields.get(str(part))
        place = _Place(_full(place.name, str(part)), value, field, inner, ())
        inner = None if field is None else _settings_class(field.annotation)
    return place


def _sentence(kind: type[Settings], table: Mapping[str, Any], error: ValidationError, prefix: str) -> str:
    """Word the first error of a validation as one sentence."""
    errors = error.errors(include_url=False)
    first, place = errors[0], _locate(kind, table, errors[0]["loc"], prefix)
    alike = [other for other in errors if _locate(kind, table, other["loc"], prefix).name == place.name]
    first = next((other for other in alike if other["type"] in _RANGES), first)
    reason, name, value = first["type"], place.name, place.value
    if reason == "extra_forbidden" and not place.within:
        hint = suggestion(str(first["loc"][-1]), place.parent.model_fields)
        return f"setting {_shortened(repr(name))} is not known; {hint}"
    if reason == "missing" and not place.within:
        return f"setting {name!r} is missing; give it a value"
    if isinstance(cause := first.get("ctx", {}).get("error"), SettingsError):
        return str(cause)
    shown = f"{value:g}" if isinstance(value, float) else repr(list(value) if isinstance(value, tuple) else value)
    shown = _shortened(shown)
    annotation = None if place.field is None else place.field.annotation
    if reason in _RANGES and place.field is not None:
        return (
            f"setting {name!r} is {shown}, out of range; allowed: {words_for_range(annotation, place.field.metadata)}"
        )
    if _settings_class(annotation) is not None:
        return f"setting {name!r} is {shown}; it needs a table of settings, [{name}]"
    words = words_for_type(annotation)
    if words and (reason.endswith("_type") or reason in _OF_TYPE):
        return f"setting {name!r} is {shown}; allowed: {' or '.join(dict.fromkeys(words))}"
    sentence = " ".join(first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ").split())
    part = ".".join(map(str, place.within))
    return f"setting {name!r} is {shown}: {part and part + ': '}{sentence}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
