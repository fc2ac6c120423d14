"""Sound samples of runs, checkpoints, weights and studies, and how each of their files is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_cases import Kind, digest_of
from fuzz_kinds_data import seal_json, sealed_payload
from safetensors import safe_open
from safetensors.torch import save_file
from study_cases import BASE, CLASSES_PER_TASK, N_TASKS, SMALL, cells, made_metrics, made_study, totals, write_run
from training_cases import TINY_BACKBONE
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.errors import DatasetError
from vclimb.study.definition import read_study
from vclimb.study.folder import StudyFolder
from vclimb.study.report.results import read_results
from vclimb.study.report.write import write_report
from vclimb.study.running.events import EventTail
from vclimb.training import checkpoint
from vclimb.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from vclimb.training.run_log import EventFile
from vclimb.training.stored_state import StoredState, restoring

DIGEST = "0" * 64


def make_run_samples(samples: Path) -> None:
    """Write runs, a study, scenarios, weights and tables as vclimb and others write them."""
    (cell,) = cells({"base": BASE, "axes": {"seed": [0]}})
    names = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    run = write_run(samples / "run", cell, made_metrics(cell, names))
    _write_events(run / "events.jsonl")
    torch.manual_seed(0)
    tree = {"task": 1, "phase": "train", "data": DIGEST, "stream": {"epoch": 0, "position": 3}, "replayed": 2}
    tree |= {
        "steps": 3,
        "skipped": 0,
        "taken_from": None,
        "seconds": {"train": 1.5},
        "measured": {"rows": [[0.5, None]], "x": float("nan")},
    }
    tree["model"] = {"weight": torch.randn(4, 3), "count": torch.tensor(3), 7: [torch.zeros(0), "text", True]}
    (samples / "checkpoint").mkdir()
    save_checkpoint(samples / "checkpoint", 3, tree)
    _write_weights(samples / "weights")
    small = {**SMALL, "axes": {"frames": [1], "seed": [0, 1]}, "constraints": {"equal": "bytes", "budgets": ["500kB"]}}
    study = made_study(samples / "study", small)
    study.keep_data("jhmdb21", DIGEST)
    study.record_failure("0123456789ab", "no memory", 1, {"seed": 3})


def _write_events(path: Path) -> None:
    log = EventFile(path)
    log.event("run", resumed=False, method="naive", n_tasks=1, n_classes=2, processes=1, device="cpu")
    log.event("task", task=0, n_tasks=1, classes=("a \u2028 b", "c"))
    log.event("warning", text="\x1b[2J")
    log.event("complete", acc=0.5, bwf=None)
    log.close()


def _write_weights(folder: Path) -> None:
    folder.mkdir()
    torch.manual_seed(0)
    config = ModelConfig(backbone=TINY_BACKBONE, weights="none", clip_frames=2, size=32)
    state = make_network(config, 2).backbone.state_dict()
    save_file(state, folder / "weights.safetensors")
    torch.save(state, folder / "weights.pt")
    torch.save({"state_dict": state, "epoch": 3}, folder / "old.pth", _use_new_zipfile_serialization=False)
    np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in state.items()})


def read_run(folder: Path) -> object:
    """Read all of a run, and show it."""
    run = vclimb.Run.load(folder)
    metrics = run.metrics
    done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["show", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    shown = None if metrics is None else json.dumps(metrics.to_json())
    tail = EventTail(folder / "events.jsonl").share_done()
    return repr((run.config, shown, [event.to_json() for event in run.events], run.R.tolist(), run.memory, tail))


def read_checkpoint(folder: Path) -> object:
    """Read a checkpoint as a run that resumes does."""
    (path,) = checkpoints(folder)
    tree = load_checkpoint(path)
    with restoring(folder):
        return digest_of(StoredState.model_validate(tree), *plain_tree(tree))


def plain_tree(value: Any) -> list[Any]:
    """List the values of a tree, tensors as their bytes."""
    if isinstance(value, torch.Tensor):
        return [
            str(value.dtype),
            tuple(value.shape),
            value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        ]
    if isinstance(value, dict):
        return [part for key, item in value.items() for part in (key, *plain_tree(item))]
    if isinstance(value, list):
        return ["[", *(part for item in value for part in plain_tree(item)), "]"]
    return [value]


def read_weights(file: str) -> Callable[[Path], object]:
    """Make a network with the weights of a file."""

    def read(folder: Path) -> object:
        config = ModelConfig(backbone=TINY_BACKBONE, weights=str(folder / file), clip_frames=2, size=32)
        return digest_of(*plain_tree(dict(make_network(config, 2).backbone.state_dict())))

    return read


def read_study_folder(folder: Path) -> object:
    """Read all of a study's folder. What a report only names is an error here."""
    stored = StudyFolder(folder)
    definition = read_study(folder / "study.toml")
    planned = [(cell.run_id, cell.settings) for cell in definition.expand("shards/x", totals)]
    stored.check_data("jhmdb21", DIGEST)
    results = read_results(folder)
    if named := [*results.damaged.values(), *(f.error for f in results.failures.values() if " is damaged" in f.error)]:
        raise DatasetError(named[0])
    runs = [(run.run_id, run.settings, run.metrics) for run in results.runs]
    # The order of keys in a JSON object says nothing, and the digest of the file doesn't cover it.
    cells_by_name = json.dumps(stored.cells(), sort_keys=True)
    return repr((definition, planned, cells_by_name, runs, sorted(results.failures.items()), sorted(results.waiting)))


def report_study_folder(folder: Path) -> object:
    """Write the report of a study, and read all of the study's folder."""
    write_report(folder, folder.parent / "report")
    return read_study_folder(folder)


def checkpoint_payload(data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    return str(json.loads(data[8 : 8 + length])["__metadata__"]["state"]).encode()


def seal_checkpoint(folder: Path, payload: bytes) -> None:
    """Write a checkpoint with another state, and the digest that fits it."""
    path = checkpoints(folder)[-1]
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # `file` is no dict
    state = payload.decode("utf-8", "replace")
    save_file(tensors, path, {**metadata, "state": state, "digest": checkpoint._digest(state, tensors)})


def run_kinds(samples: Path) -> list[Kind]:
    """List the kinds of files that `make_run_samples` made."""
    (stored,) = checkpoints(samples / "checkpoint")
    run = sorted((samples / "study" / "runs").iterdir())[0].name
    kinds = [_kind(f"run {file}", "run", file, read_run) for file in _RUN_FILES]
    kinds.append(
        Kind(
            "checkpoint",
            "checkpoint",
            stored.name,
            read_checkpoint,
            "json",
            True,
            checkpoint_payload,
            seal_checkpoint,
        )
    )
    for file in ("weights.safetensors", "weights.pt", "old.pth", "weights.npz"):
        kinds.append(Kind(f"weights {file}", "weights", file, read_weights(file)))
    study = ["study.toml", "data.json", "cells.json", "failures/0123456789ab.json"]
    study += [f"runs/{run}/{file}" for file in _RUN_FILES[:2]]
    for file in study:
        name = f"study {file.replace(run, 'ID')}"
        kinds.append(_kind(name, "study", file, read_study_folder))
        kinds.append(_kind(f"{name} reported", "study", file, report_study_folder, is_slow=True))
    return kinds


def _kind(name: str, folder: str, file: str, read: Callable[[Path], object], is_slow: bool = False) -> Kind:
    """Make a kind of TOML, JSON Lines or sealed JSON."""
    suffix = file.rpartition(".")[2]
    if suffix != "json":
        return Kind(name, folder, file, read, suffix, is_slow=is_slow)
    return Kind(name, folder, file, read, suffix, True, sealed_payload, seal_json(file), is_slow)


_RUN_FILES = ("config.toml", "metrics.json", "events.jsonl")
