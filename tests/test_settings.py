"""Settings of any pydantic type: what TOML holds is read and written back, and errors are one plain sentence."""

from __future__ import annotations

import tomllib
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tomli_w
from pydantic import Field, field_validator

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Settings, from_table, setting_names, settings_tables


class Shade(Enum):
    DARK = "dark"


class Inner(Settings):
    rate: float = Field(default=0.1, gt=0, lt=1)
    name: str


class Outer(Settings):
    rates: list[float] = Field(default=[1.0])
    steps: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    pair: tuple[int, int] = (1, 2)
    mixed: tuple[int, str] | None = None
    folder: Path | None = None
    inner: Inner | None = None
    parts: dict[str, Inner] = Field(default={})
    word: Annotated[str, Field(pattern="^a+$")] = "a"
    kind: Literal["x", "y"] | int = "x"
    shade: Shade | None = None
    day: date | None = None
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it must be even")
        return value


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"rates": 3}, "setting 'rates' is 3; allowed: a list of numbers"),
        ({"rates": [1.0, "x"]}, "setting 'rates' is [1.0, 'x']; allowed: a list of numbers"),
        ({"steps": [1, 0]}, "setting 'steps' is [1, 0], out of range; allowed: at least 1"),
        ({"pair": [1, 2, 3]}, "setting 'pair' is [1, 2, 3]; allowed: a list of 2 whole numbers"),
        ({"pair": [1]}, "setting 'pair' is [1]; allowed: a list of 2 whole numbers"),
        ({"mixed": ["a", 1]}, "setting 'mixed' is ['a', 1]; allowed: a list"),
        ({"folder": 3}, "setting 'folder' is 3; allowed: a path"),
        ({"inner": {"rate": 2, "name": "a"}}, "setting 'inner.rate' is 2, out of range; allowed: above 0 and below 1"),
        (
            {"inner": {"rat": 1, "name": "a"}},
            "setting 'inner.rat' is not known; did you mean 'rate'? allowed: rate, name",
        ),
        ({"inner": {}}, "setting 'inner.name' is missing; give it a value"),
        ({"inner": 3}, "setting 'inner' is 3; it needs a table of settings, [inner]"),
        ({"parts": {"a": {}}}, "setting 'parts' is {'a': {}}: a.name: Field required"),
        ({"word": "b"}, "setting 'word' is 'b': String should match pattern '^a+$'"),
        ({"kind": "z"}, "setting 'kind' is 'z'; allowed: x, y or a whole number"),
        ({"shade": "light"}, "setting 'shade' is 'light': Input should be"),
        ({"day": 3}, "setting 'day' is 3: Input should be a valid date"),
        ({"even": 3}, "setting 'even' is 3: it must be even"),
    ],
)
def test_errors_are_one_plain_sentence(table: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        from_table(Outer, table)
    assert str(raised.value).startswith(says)
    assert "\n" not in str(raised.value)


def test_tables_come_back_from_toml() -> None:
    text = 'rates = [1, 2.5]\npair = [3, 4]\nfolder = "a/b"\n[inner]\nname = "n"\n[parts.p]\nname = "m"\n'
    settings = from_table(Outer, tomllib.loads(text))
    assert (settings.pair, settings.folder, settings.rates) == ((3, 4), Path("a/b"), [1.0, 2.5])
    assert settings.inner == Inner(name="n")
    assert from_table(Outer, tomllib.loads(tomli_w.dumps(settings.to_table()))) == settings
    assert {"inner.rate", "inner.name", "pair"} <= set(setting_names(Outer))


def test_settings_in_any_form_become_tables() -> None:
    expected = [{"a": {"b": 3}}, {"c": "x"}]
    assert settings_tables({"a.b": 3, "c": "x"}) == expected
    assert settings_tables({"a": {"b": 3}, "c": "x"}) == expected
    assert settings_tables(["a.b=3", "c=x"]) == expected
    assert settings_tables(None) == []
    with pytest.raises(SettingsError, match="is a text"):
        settings_tables("a=3")
