"""Settings that a part of a run must not depend on. Importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HiddenSettingError(AssertionError):
    """Code depends on a setting that it must not depend on."""


class HiddenSettings:
    """Stands for a table of settings of which only some may be read.

    Args:
        table: Name of the table.
        readable: Values of the settings that may be read.
    """

    def __init__(self, table: str, readable: Mapping[str, Any]) -> None:
        self._table = table
        self.readable = dict(readable)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # such as what copy and pickle look for
            raise AttributeError(name)
        if name in self.readable:
            return self.readable[name]
        raise HiddenSettingError(
            f"{self._table}.{name} is read while the first task is trained, and runs that differ in it share that "
            "training; a method whose training depends on it has to name it in memory_settings"
        )
