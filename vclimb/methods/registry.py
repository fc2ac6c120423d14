"""Methods by name. Importing this module imports no method, and no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vclimb.pipeline.system.plugins import Registry

if TYPE_CHECKING:
    from vclimb.methods.method import Method, MethodConfig

METHODS: Registry[Method] = Registry("method", "vclimb.methods", "vclimb.methods", "vclimb.methods.method:Method")


def parse_method(table: Mapping[str, Any]) -> tuple[type[Method], MethodConfig]:
    """Read the table of a method: its class by `name`, and its settings.

    Raises:
        SettingsError: no method has the name, or a setting is unknown or not allowed.
    """
    from vclimb.settings import from_table  # loads pydantic, which a list of methods does not need

    method = METHODS.find(table.get("name"))
    return method, from_table(method.Config, {key: value for key, value in table.items() if key != "name"}, "method")


def list_methods() -> dict[str, str]:
    """Map the names of all methods, vclimb's and those of installed packages, to one-line descriptions."""
    return METHODS.summaries()
