"""A run that was stopped in its second task, and its files as `--resume` reads them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fuzz_cases import Kind, digest_of
from fuzz_kinds_data import seal_chunk, seal_index, seal_json, sealed_payload
from fuzz_kinds_runs import checkpoint_payload, plain_tree, seal_checkpoint
from training_cases import TINY_BACKBONE, comparable, final_network, read_metrics

from vclimb.training.checkpoint import checkpoints
from vclimb.training.config import make_config, read_config
from vclimb.training.learner import Learner
from vclimb.training.run import train

METHODS = ("bic", "icarl")
SETTINGS: dict[str, Any] = {
    "scenario": {"tasks": 3},
    "model": {"backbone": TINY_BACKBONE, "weights": "none", "clip_frames": 2, "size": 32},
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
    "compute": {"device": "cpu", "decoder": "cpu", "workers": 0, "checkpoint_seconds": 0},
    "memory": {"budget": "6v", "frames": 2},
}


class Stopped(BaseException):
    """Ends a run in the middle of a task."""


def make_resumed_samples(samples: Path) -> None:
    """Train until the middle of the second task."""
    for method in METHODS:
        config = make_config(SETTINGS, {"data": str(samples / "jpeg"), "method": {"name": method}})
        n_left = 6
        step = Learner.step

        def counted(*arguments: Any, inner: Any = step, **options: Any) -> Any:
            nonlocal n_left
            n_left -= 1
            if n_left == 0:
                raise Stopped
            return inner(*arguments, **options)

        with patch.object(Learner, "step", counted), suppress(Stopped):
            train(config, samples / f"resumed-{method}")


def resume(folder: Path) -> object:
    """Go on with a run to its end."""
    train(read_config(folder / "config.toml"), folder, resume=True)
    return repr(comparable(read_metrics(folder))), digest_of(*plain_tree(final_network(folder)))


def resumed_kinds(samples: Path) -> list[Kind]:
    """List the kinds of files that `make_resumed_samples` made."""
    kinds = []
    for method in METHODS:
        folder = f"resumed-{method}"
        run = samples / folder
        files: list[tuple[str, str, bool, Callable[[bytes], bytes], Callable[[Path, bytes], None] | None]] = [
            ("config.toml", "toml", False, bytes, None),
            ("metrics.json", "json", True, sealed_payload, seal_json("metrics.json")),
            ("events.jsonl", "jsonl", False, bytes, None),
            ("memory.zarr/zarr.json", "json", True, bytes, _within("memory.zarr", seal_index)),
        ]
        newest = checkpoints(run / "checkpoints")[-1].name
        seal = _within("checkpoints", seal_checkpoint)
        files.append((f"checkpoints/{newest}", "json", True, checkpoint_payload, seal))
        for path in sorted((run / "memory.zarr").rglob("c.0*")):
            name = str(path.relative_to(run / "memory.zarr"))
            files.append((f"memory.zarr/{name}", "bytes", True, bytes, _within("memory.zarr", seal_chunk(name))))
        kinds += [
            Kind(f"{method} resumed {file}", folder, file, resume, file_format, is_protected, payload, seal, True)
            for file, file_format, is_protected, payload, seal in files
        ]
    return kinds


def _within(name: str, seal: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
    return lambda folder, payload: seal(folder / name, payload)
