"""Beginnings: trainings of the first task, kept for other runs that would train it in the same way.

A beginning is a checkpoint between the training of the first task and the memory's first update. A file is written
whole under another name and renamed; `.lock` is locked by the process that writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.folders import held_file, make_folder, writable
from vclimb.pipeline.system.paths import local_path
from vclimb.training.beginning_names import NAME, canonical, group_of, settings_before_memory, sha256_of
from vclimb.training.checkpoint import CheckpointError, load_checkpoint, write_tree
from vclimb.training.config import RunConfig
from vclimb.training.run_context import RunContext
from vclimb.training.run_folder import LOCK

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
        return self.path / NAME.format(group=group_of(config), address=sha256_of(content))


def _content(run: RunContext) -> str:
    """Write down everything that the state after the training of the first task depends on, as canonical JSON."""
    device = run.processes.device
    return canonical(
        {
            **settings_before_memory(run.config),
            "data": run.data.digest,
            "processes": run.processes.world_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
        }
    )


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
