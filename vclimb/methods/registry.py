"""The methods by name. A new one is a file of its own, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vclimb.methods.bic import BiC
from vclimb.methods.ewc import EWC
from vclimb.methods.finetune import Finetune
from vclimb.methods.icarl import ICaRL
from vclimb.methods.joint import Joint
from vclimb.methods.lwf import LwF
from vclimb.methods.mas import MAS
from vclimb.methods.method import Method, MethodConfig
from vclimb.methods.naive import Naive
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import from_table, suggestion

if TYPE_CHECKING:  # settings of a run name their method: they import this
    from vclimb.training.config import RunConfig

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (Finetune, Naive, EWC, MAS, LwF, ICaRL, BiC, Joint)
}
"""Name -> method."""


def method_class(name: object) -> type[Method]:
    """The method of a name.

    Raises:
        SettingsError: there is none.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise SettingsError(f"method {name!r} is not known; {suggestion(str(name), METHODS)}")
    return METHODS[name]


def parse_method(table: Mapping[str, Any]) -> tuple[type[Method], MethodConfig]:
    """The method that a table names, and its settings.

    Raises:
        SettingsError: it names none, or has a setting that the method doesn't.
    """
    kind = method_class(table.get("name"))
    return kind, from_table(kind.Config, {key: value for key, value in table.items() if key != "name"}, "method")


def make_method(config: RunConfig) -> Method:
    """The method of a run."""
    kind, of_method = parse_method(config.method)
    return kind(of_method, config.protocol == "released", config.consistency.weight)
