"""Beginnings: trainings of the first task, kept for other runs that would train it in the same way.

BEGINNINGS/GROUP-ADDRESS.safetensors is a checkpoint between the training of the first task and the memory's first
update. GROUP is a digest of the settings that the training depends on; ADDRESS, of everything that it depends on. A
file is written whole under another name and renamed; `.lock` is locked by the process that writes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vclimb import __version__
from vclimb.methods.registry import parse_method
from vclimb.model.registry import NETWORKS
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.digest import cached_sha256
from vclimb.pipeline.system.folders import held_file, make_folder, writable
from vclimb.pipeline.system.paths import local_path
from vclimb.settings import Table, flat
from vclimb.training.checkpoint import CheckpointError, load_checkpoint, write_tree
from vclimb.training.config import CHANGE_NO_NUMBER, RunConfig
from vclimb.training.run_context import RunContext
from vclimb.training.run_folder import FILES, LOCK, file_digest

_GROUP_DIGITS = 16
_CONTENT, _ORIGIN = "beginning", "origin"


@dataclass(frozen=True)
class Beginning:
    """Beginning that a run takes.

    Attributes:
        path: File of the beginning.
        tree: State after the training of the first task.
    """

    path: Path
    tree: dict[str, Any]


class Beginnings:
    """Folder of beginnings. Any of them may be removed at any time: a run that has taken one needs it no longer."""

    def __init__(self, folder: Path | str) -> None:
        self.path = local_path(folder)

    def has(self, group: str) -> bool:
        """Whether there is a beginning of a group of runs, which `group_of` names."""
        return any(self.path.glob(f"{group}-*.safetensors"))

    def take(self, run: RunContext) -> Beginning | None:
        """Load the beginning that fits a run; None where there is none, or it is damaged. All ranks take part."""
        content = _content(run)
        path = self._file(run.config, content)
        tree: dict[str, Any] | None = None
        if run.processes.is_first and path.exists():
            try:
                tree = _load(path, content)
            except CheckpointError as error:
                text = f"{error}; the first task is trained anew, and replaces it"
                run.log.event("beginning", name=path.stem, use="refused", text=text)
        if not run.processes.broadcast(tree is not None):
            return None
        tree = _load(path, content) if tree is None else tree
        text = f"the training of the first task is taken from {path}, which run {tree.pop(_ORIGIN)} left there"
        run.log.event("beginning", name=path.stem, use="taken", text=text)
        return Beginning(path, {**tree, "taken_from": path.stem})

    def keep(self, run: RunContext, tree: Mapping[str, Any], origin: Path) -> None:
        """Keep a checkpoint after the training of the first task, unless the same is there. Rank 0 alone takes part.

        Args:
            origin: Folder of the run.
        """
        content = _content(run)
        path = self._file(run.config, content)
        try:
            make_folder(self.path)
            with held_file(self.path / LOCK, "", waits=True), writable(self.path):
                if _is_whole(path, content):  # another run was sooner
                    return
                write_tree(path, {**tree, _CONTENT: content, _ORIGIN: origin.name})
        except (TargetError, OSError) as error:
            text = f"the training of the first task can't be kept for other runs: {error}"
            run.log.event("beginning", name=path.stem, use="not kept", text=text)
            return
        text = f"the training of the first task is kept for other runs, as {path}"
        run.log.event("beginning", name=path.stem, use="kept", text=text)

    def _file(self, config: RunConfig, content: str) -> Path:
        return self.path / f"{group_of(config)}-{_sha256(content)}.safetensors"


def group_of(config: RunConfig) -> str:
    """Name the group of runs whose settings give the same training of the first task, on the same data and machine."""
    return _sha256(_canonical(_settings(config)))[:_GROUP_DIGITS]


def _content(run: RunContext) -> str:
    """Write down everything that the state after the training of the first task depends on, as canonical JSON."""
    device = run.processes.device
    return _canonical(
        {
            **_settings(run.config),
            "data": run.data.digest,
            "processes": run.processes.world_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
        }
    )


def _settings(config: RunConfig) -> Table:
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


def _load(path: Path, content: str) -> dict[str, Any]:
    tree = load_checkpoint(path)
    if tree.pop(_CONTENT, None) != content or not isinstance(tree.get(_ORIGIN), str):
        raise CheckpointError(f"the beginning {path} is not the one that its name says")
    return tree


def _is_whole(path: Path, content: str) -> bool:
    if not path.exists():
        return False
    try:
        _load(path, content)
    except CheckpointError:
        return False
    return True


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
