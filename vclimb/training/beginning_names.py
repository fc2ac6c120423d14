"""Names of beginnings: what the training of the first task depends on. Importing this module loads no torch.

The file GROUP-ADDRESS.safetensors in a folder of beginnings has two digests in its name. GROUP is that of the settings
that the training depends on, which a study knows before a run begins; ADDRESS, of everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from vclimb import __version__
from vclimb.methods.registry import parse_method
from vclimb.model.registry import NETWORKS
from vclimb.pipeline.system.digest import cached_sha256
from vclimb.settings import Table, flat
from vclimb.training.config import CHANGE_NO_NUMBER, RunConfig
from vclimb.training.run_folder import FILES, file_digest

NAME = "{group}-{address}.safetensors"

_GROUP_DIGITS = 16


def has_beginning(folder: Path, group: str) -> bool:
    """Whether a folder has a beginning of a group of runs, which `group_of` names."""
    return any(folder.glob(NAME.format(group=group, address="*")))


def group_of(config: RunConfig) -> str:
    """Name the group of runs whose settings give the same training of the first task, on the same data and machine."""
    return sha256_of(canonical(settings_before_memory(config)))[:_GROUP_DIGITS]


def settings_before_memory(config: RunConfig) -> Table:
    """List the settings that the training of the first task depends on, with their defaults, and the code it runs.

    Files count by their content. The data set has its digest elsewhere, since its path doesn't matter.
    """
    seen = config.beginning()
    table = seen.model_dump(mode="json", exclude={"data", "log", "memory"})
    method, method_config = parse_method(config.method)
    table["method"] = {"name": config.method["name"], **method_config.model_dump(mode="json")}
    table["differences"] = config.resolved_differences.model_dump(mode="json")
    table["memory"] = vars(seen.memory)["readable"]
    table["compute"] = {name: value for name, value in table["compute"].items() if name not in CHANGE_NO_NUMBER}
    settings = flat(table)
    for name in FILES:
        if (digest := file_digest(settings.get(name))) is not None:
            settings[name] = f"sha256:{digest}"
    code = [_code(method), _code(NETWORKS.find(config.model.network))]
    return {"settings": settings, "version": __version__, "code": code}


def _code(kind: type) -> dict[str, str]:
    """Digests of the source files of a class and those above it, by module."""
    modules = sorted({base.__module__ for base in kind.__mro__})
    files = {name: getattr(sys.modules[name], "__file__", None) for name in modules}
    return {name: cached_sha256(file) for name, file in files.items() if file}


def canonical(value: Any) -> str:
    """Convert a value to canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(text: str) -> str:
    """SHA-256 of a text, as hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()
