"""`vclimb.advise`: a pilot that says which kind of memory to keep on a data set."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError, VclimbError
from vclimb.settings import MoreSettings, Table, merged, nested, parse_assignment, read_table
from vclimb.study.advice import Measured, Ranking, binomial_error, rank
from vclimb.study.api import Study
from vclimb.study.axes import parse_settings
from vclimb.study.cells import Cell
from vclimb.study.folder import StudyFolder
from vclimb.study.naming import size_label
from vclimb.study.pilot import Kind, Pilot, base_settings, command_settings
from vclimb.training.run_folder import METRICS
from vclimb.training.run_metrics import RunMetrics

_FLAGS = {
    "method.name": "--method",
    "scenario.tasks": "--tasks",
    "scenario.file": "--scenario",
    "memory.budget": "--budget",
    "memory.frames": "--frames",
    "memory.codec": "--codec",
    "model.weights": "--weights",
    "training.epochs": "--epochs",
}


class PilotError(VclimbError):
    """A run of a pilot failed, so that kinds of memory can't be compared."""


@dataclass(frozen=True)
class Advice:
    """Comparison of kinds of memory in a pilot, and what to keep.

    Attributes:
        folder: Folder of the pilot, a study.
        pilot: Kinds of memory and their budgets.
        ranking: Kinds in the order of their accuracy, and the one to keep.
        n_test: Number of test clips of the pilot.
        command: Command that trains on all tasks with the kind to keep, as a list of words.
    """

    folder: Path
    pilot: Pilot
    ranking: Ranking
    n_test: int
    command: tuple[str, ...]

    @property
    def sentences(self) -> str:
        """What to keep, and how sure that is."""
        return self.ranking.sentences()

    @property
    def scope(self) -> str:
        """What the pilot measured, in words."""
        pilot = self.pilot
        return (
            f"{pilot.pilot_classes} of {pilot.n_classes} classes, {self.n_test:,} test clips, "
            f"{len(self.ranking.best.accuracies)} seeds, up to {pilot.most_steps:,} training steps a run; exemplars "
            f"had {size_label(pilot.share)}, these classes' share of {size_label(pilot.budget)}"
        )

    @property
    def command_text(self) -> str:
        """Command that trains on all tasks with the kind to keep, to be pasted."""
        return shlex.join(self.command)

    def rows(self) -> list[dict[str, Any]]:
        """List the kinds, the most accurate first, with what each keeps of all classes at the whole budget."""
        kinds = {kind.name: kind for kind in self.pilot.kinds}
        return [self._row(measured, kinds[measured.name]) for measured in self.ranking.ordered]

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "advice": self.sentences,
            "keep": self.ranking.best.name,
            "kinds": self.rows(),
            "left_out": self.pilot.left_out,
            "budget_bytes": self.pilot.budget,
            "pilot_budget_bytes": self.pilot.share,
            "classes": self.pilot.n_classes,
            "pilot_classes": self.pilot.pilot_classes,
            "pilot_test_clips": self.n_test,
            "pilot_most_steps": self.pilot.most_steps,
            "folder": str(self.folder),
            "command": self.command_text,
        }

    def _row(self, measured: Measured, kind: Kind) -> dict[str, Any]:
        keeps_videos = kind.codec is not None
        return {
            "kind": kind.name,
            "accuracy": measured.mean,
            "accuracies": list(measured.accuracies),
            "seeds_deviation": measured.spread,
            "test_error": measured.test_error,
            "standard_error": measured.error,
            "as_good_as_the_best": kind.name in self.ranking.as_good,
            "codec": kind.codec,
            "frames": kind.frames,
            "videos_per_class": kind.memory.videos / self.pilot.n_classes if keeps_videos else None,
            "bytes": kind.memory.bytes,
        }


def advise(
    data: str | Path | StoredDataset,
    budget: str,
    out: str | Path,
    *,
    tasks: int | None = None,
    epochs: int = 10,
    seeds: int = 2,
    config: str | Path | None = None,
    settings: MoreSettings | None = None,
    device: str | None = None,
    jobs: int | Literal["auto"] | None = None,
    gpus: str | Sequence[int | str] = "auto",
    retry_failed: bool = False,
    progress: bool | None = None,
) -> Advice:
    """Compare statistics and features of a frozen network, frames and tiny videos in a pilot, and say what to keep.

    The pilot is a study of the first two tasks with few epochs; its classes have their share of the budget. Complete
    runs are never run again. The kind to keep is the cheapest within one standard error of the most accurate.

        advice = vclimb.advise("shards/NAME", "4MB", "studies/advise", settings={"model.size": 112})
        print(advice.sentences, advice.command_text)

    Args:
        data: Prepared data set: a path, a URL, or an open data set.
        budget: Budget in bytes of all classes, such as `4MB`.
        out: Folder of the pilot; made if it isn't there.
        tasks: Number of tasks of the whole scenario; None: that of the settings, or 10, or so many that each has two
            classes.
        epochs: Number of epochs of each task of the pilot.
        seeds: Number of seeds.
        config: TOML file of settings, such as a run's. Its memory budget, number of frames and seed are not used.
        settings: Settings of all runs on top of it, by dotted or short names or as assignments. `training.epochs` is
            for the command alone, and the method replays exemplars.
        device: Device of the networks: `auto`, `cpu` or `cuda`.
        jobs: Number of runs at a time, as in `Study.run`.
        gpus: GPUs to spread runs over, as in `Study.run`.
        retry_failed: Whether to try runs again that failed before.
        progress: Whether progress is shown on stderr, as in `Study.run`.

    Raises:
        VclimbError: The data set has fewer than 4 classes or nothing to evaluate on, the budget is too small, settings
            aren't allowed, or a run failed.
        KeyboardInterrupt: The pilot was asked to stop; the next call goes on with its runs.
    """
    folder, limit = StudyFolder(out), MemoryBudget.parse(budget)
    for name, number in (("epochs", epochs), ("seeds", seeds)):
        if number < 1:
            raise SettingsError(f"{name} {number} is out of range; allowed: 1 or more")
    if isinstance(settings, str):
        raise SettingsError(f"settings {settings!r} is a text; give a table, or a list of assignments")
    given = parse_settings(settings if isinstance(settings, Mapping) else [*(settings or ())])
    if device is not None:
        given = merged(given, nested("compute.device", device))
    base = base_settings({} if config is None else read_table(config), given)
    dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
    pilot = Pilot.design(dataset, limit, base, tasks, epochs, seeds)
    study = Study(pilot.table)
    result = study.run(dataset, out, jobs=jobs, gpus=gpus, retry_failed=retry_failed, progress=progress)
    if failures := {**result.failed_before, **result.failed}:
        run_id, failure = next(iter(failures.items()))
        raise PilotError(
            f"{len(failures)} runs of the pilot in {folder.path} failed, first {run_id}: {failure.error}; try them "
            "again by --retry-failed"
        )
    measured, n_test = _measure(study.cells(dataset), pilot.kinds, folder)
    ranking = rank(measured, pilot.budget)
    chosen = next(kind for kind in pilot.kinds if kind.name == ranking.best.name)
    place = str(dataset.storage) if isinstance(data, StoredDataset) else str(data)
    return Advice(folder.path, pilot, ranking, n_test, _command(chosen, place, dataset.name))


def _measure(cells: Sequence[Cell], kinds: Sequence[Kind], folder: StudyFolder) -> tuple[list[Measured], int]:
    """Read the figures of each kind from its runs, and the number of test clips."""
    by_kind: dict[str, list[str]] = {}
    for cell in cells:  # of each seed, those of the kinds in their order
        settings: Table = {name: value for name, value in cell.settings.items() if name != "seed"}
        by_kind.setdefault(json.dumps(settings, sort_keys=True), []).append(cell.run_id)
    measured, n_test = [], 0
    for kind, run_ids in zip(kinds, by_kind.values(), strict=True):
        runs = [RunMetrics.load(folder.run(run_id) / METRICS) for run_id in run_ids]
        accuracies = [[share or 0.0 for share in run.R[-1]] for run in runs]
        counts = _test_counts(runs[0])
        n_test = sum(counts)
        means = [sum(tasks) / len(tasks) for tasks in zip(*accuracies, strict=True)]
        acc = tuple(sum(row) / len(row) for row in accuracies)
        measured.append(Measured(kind.name, acc, binomial_error(means, counts), kind.memory.bytes))
    return measured, n_test


def _test_counts(run: RunMetrics) -> list[int]:
    """Count the test clips of each task."""
    per_class, counts, start = [sum(row) for row in run.confusion], [], 0
    for n_classes in run.classes_per_task:
        counts.append(sum(per_class[start : start + n_classes]))
        start += n_classes
    return counts


def _command(kind: Kind, data: str, name: str) -> tuple[str, ...]:
    """Make the command that trains on all tasks with a kind of memory: short flags where there are some."""
    words = ["vclimb", "train", data, "--out", os.path.join("runs", f"{name}-advised")]
    for setting, value in command_settings(kind.config).items():
        text = _value_text(value)
        flag = _FLAGS.get(setting)
        words += [flag, str(value)] if flag else ["--set", f"{setting}={text}"]
    return tuple(words)


def _value_text(value: Any) -> str:
    """Write a value as `--set` reads it."""
    if isinstance(value, str) and parse_assignment(f"x={value}")["x"] == value:
        return value
    return json.dumps(value)
