"""Makers of cells and of run folders as `vclimb train` writes them, for tests of reports without training."""

from __future__ import annotations

import json
import math
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from sealed_cases import write_sealed

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.metrics import AccuracyMatrix
from vclimb.study.cells import Cell
from vclimb.study.constraints import DataTotals
from vclimb.study.definition import StudyDefinition
from vclimb.study.folder import StudyFolder

PLAIN: dict[str, Any] = {"method": "naive", "scenario": {"tasks": 2}}
BASE: dict[str, Any] = {**PLAIN, "memory": {"budget": "1MB"}}
TOTALS = DataTotals(videos=1000, frames=40_000, bytes=123_456_789)
N_TASKS, CLASSES_PER_TASK = 7, 3

KEPT_BYTES = {
    "nearest-mean": {"statistics": 108_000, "index": 900},
    "ridge": {"statistics": 3_390_000, "index": 1100},
    "ewc": {"statistics": 13_500_000, "parameters": 13_500_000, "index": 1300},
    "bic": {"parameters": 7_400, "index": 900},
}
"""Method, or head of the method analytic -> bytes of what it keeps besides exemplars."""

KINDS: dict[str, Any] = {
    "name": "kinds",
    "base": {"method": "naive", "scenario": {"tasks": N_TASKS}},
    "cells": [
        {"method": {"name": "analytic", "head": "nearest-mean"}},
        {"method": {"name": "analytic", "head": "ridge"}},
        {"method": "ewc"},
        {"method": "joint"},
        {"method": "finetune"},
        {"memory": {"frames": 1}},
        {"memory": {"frames": 8}},
        {"memory": {"frames": 8, "codec": "h264:28"}},
        {"method": "bic", "memory": {"frames": 8}},
    ],
    "axes": {"seed": [0, 1]},
    "constraints": {"equal": "bytes", "budgets": ["100kB", "1MB", "40MB"]},
}
"""A study of kinds of memory: heads in closed form, exemplars, both, and nothing."""

SMALL: dict[str, Any] = {
    "base": {"method": "naive", "scenario": {"tasks": N_TASKS}},
    "axes": {"frames": [1, 8], "seed": [0, 1]},
    "constraints": {"equal": "bytes", "budgets": ["500kB", "1MB"]},
}


def totals(table: dict[str, Any]) -> DataTotals:
    """Totals of a data set's training split: half of the data where the scenario makes a new split."""
    return DataTotals(500, 20_000, 61_728_394) if table["scenario"].get("split") == "group" else TOTALS


def cells(table: dict[str, Any], data: str = "shards/x") -> list[Cell]:
    """Cells of a study, given the content of its file."""
    return StudyDefinition.parse(table).expand(data, totals)


def made_metrics(
    cell: Cell, classes: list[str], dataset: str = "jhmdb21", n_tasks: int = N_TASKS, n_learned: int | None = None
) -> dict[str, Any]:
    """Make plausible metrics: larger memories forget less, and seeds differ.

    Args:
        n_learned: Number of tasks that have ended; None: all.
    """
    n_learned = n_tasks if n_learned is None else n_learned
    sizes = [len(part) for part in np.array_split(np.arange(len(classes)), n_tasks)]
    config = cell.config
    draw = random.Random(cell.run_id)
    replays = config.method["name"] in ("naive", "icarl", "bic")
    frames = 30 if config.memory.frames == "all" else config.memory.frames
    n_bytes = MemoryBudget.parse(config.memory.budget).amount * 0.985 if replays else 0
    videos = int(n_bytes / (frames * 3000 + 200))
    strength = min(0.95, 0.15 * math.log2(1 + videos / 8) * (0.7 + 0.3 * min(1, math.log2(1 + frames) / 3)))
    strength += 0.06 * (config.method["name"] == "icarl") + 0.04 * (config.consistency.weight > 0)
    head = config.method.get("head", config.method["name"])
    strength = {"nearest-mean": 0.35, "ridge": 0.7, "joint": 0.97}.get(head, strength)
    others = KEPT_BYTES.get(head, {})
    matrix = AccuracyMatrix.empty(sizes)
    for row in range(n_learned):
        kept = [
            float(np.clip(0.9 - (1 - strength) * 0.11 * (row - task) + draw.gauss(0, 0.02), 0, 1))
            for task in range(row + 1)
        ]
        matrix = matrix.grown(kept)
    memory = None
    if replays or others:
        on_disk = int(n_bytes + draw.randrange(500)) if replays else sum(others.values())
        memory = {
            "videos": videos,
            "frames": videos * frames,
            "payload_bytes": int(n_bytes * 0.97),
            "bytes_on_disk": on_disk,
            "allocated_bytes": int(on_disk * 1.1),
            "bytes_per_frame": n_bytes / max(1, videos * frames),
            "source_frames": videos * 30,
        }
        parts = {"exemplars": on_disk - 500 - sum(others.values()), "index": 500} if replays else {}
        memory["parts"] = parts | {part: n + parts.get(part, 0) for part, n in others.items()}
    names = [classes[sum(sizes[:task]) : sum(sizes[: task + 1])] for task in range(n_tasks)]
    seconds = {"train": 60.0, "memory": 2.0, "evaluate": 5.0}
    return {
        "format": "vclimb-metrics",
        "format_version": 5,
        "complete": n_learned == n_tasks,
        "vclimb_version": "0.1.0",
        "dataset": dataset,
        "scenario": {
            "name": f"{dataset}_7tasks",
            "origin": f"made from data set {dataset}",
            "n_tasks": n_tasks,
            "classes": classes,
            "evaluation_split": "test",
            "left_out": {},
        },
        "method": config.method["name"],
        "protocol": config.protocol,
        "seed": config.seed,
        "device": "cpu",
        "classifier": "linear",
        **matrix.summary(),
        "forward_transfer": None,
        "accuracy_per_class": dict.fromkeys(classes, 0.5),
        "confusion": np.eye(len(classes), dtype=int).tolist(),
        "classifiers": {"linear": matrix.summary()},
        "memory": memory,
        "codec": "copy" if replays else None,
        "pilot": None,
        "seconds": seconds,
        "tasks": [
            {
                "task": task,
                "classes": names[task],
                "train_instances": 90,
                "replay_exemplars": 0,
                "epochs": 1,
                "selected_epoch": None,
                "steps": 9,
                "skipped_clips": 0,
                "taken_from": None,
            }
            | {"memory": memory, "seconds": seconds, "loader_wait_share": 0.1, "gpu_idle_share": None}
            for task in range(n_learned)
        ],
    }


def write_run(folder: Path, cell: Cell, metrics: dict[str, Any]) -> Path:
    """Write a run's folder as `vclimb train` does, without events, memory and checkpoints."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(cell.config.to_toml(), "utf-8")
    write_sealed(folder / "metrics.json", metrics)
    return folder


def made_study(
    path: Path, table: dict[str, Any], classes: list[str] | None = None, data: str = "shards/jhmdb21"
) -> StudyFolder:
    """Write a study's folder with a made run for each cell."""
    folder = StudyFolder(path)
    study = StudyDefinition.parse(table)
    cells = study.expand(data)
    names = classes or [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    with folder.held():
        folder.write_study(study.to_toml(), {cell.run_id: cell.settings for cell in cells})
        for cell in cells:
            write_run(folder.run(cell.run_id), cell, made_metrics(cell, names))
    return folder


JHMDB = {
    "name": "jhmdb21",
    "base": {"scenario": {"tasks": N_TASKS}, "training": {"epochs": 20}},
    "axes": {
        "method": ["naive", "icarl", "finetune"],
        "frames": [1, 2, 4, 8, 16, "all"],
        "tc": [0.0, 0.5],
        "seed": [0, 1],
    },
    "constraints": {"equal": "bytes", "budgets": ["500kB", "1MB", "2MB"]},
}


class Page(HTMLParser):
    """The elements of a page, the text that a reader sees, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.charts: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.is_in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        self.sources += [given["src"] or ""] if "src" in given else []
        self.charts += [given["data-chart"] or ""] if "data-chart" in given else []
        assert not [name for name in given if name.startswith("on")], attrs

        if tag == "script":
            self.scripts.append("")
            self.is_in_script = True

    def handle_endtag(self, tag: str) -> None:
        self.is_in_script = False

    def handle_data(self, data: str) -> None:
        if self.is_in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows that charts draw."""
        return dict(json.loads(self.scripts[0]))

    @property
    def specs(self) -> dict[str, dict[str, Any]]:
        """Chart -> its specification."""
        return dict(json.loads(self.scripts[1]))
