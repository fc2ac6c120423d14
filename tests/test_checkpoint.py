"""Checkpoints: round trips, kills and damage; loading one executes no code."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from vclimb.pipeline.errors import TargetError
from vclimb.training.checkpoint import (
    CheckpointError,
    checkpoints,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from vclimb.training.checkpoint import _digest as checkpoint_digest

SIMPLE = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8)
TREES = st.recursive(
    SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@settings(deadline=None, max_examples=60)
@given(tree=st.dictionaries(st.text(max_size=6), TREES, max_size=4))
def test_plain_values_come_back(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = save_checkpoint(tmp_path_factory.mktemp("run"), 1, tree)
    assert load_checkpoint(path) == tree


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def test_model_and_optimiser_resume_bit_for_bit(tmp_path: Path) -> None:
    def step(model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        loss = (model(torch.randn(4, 3)) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.5))
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    torch.manual_seed(0)
    model, optimiser = make()
    step(model, optimiser)
    tree = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "dice": torch.get_rng_state()}
    save_checkpoint(tmp_path, 7, tree)
    step(model, optimiser)
    expected = {name: value.clone() for name, value in model.state_dict().items()}

    other, other_optimiser = make()
    loaded = newest_checkpoint(tmp_path)
    assert loaded is not None
    assert same(loaded["optimiser"], tree["optimiser"]) is False  # the tree's tensors were trained on meanwhile
    other.load_state_dict(loaded["model"])
    other_optimiser.load_state_dict(loaded["optimiser"])
    torch.set_rng_state(loaded["dice"])
    step(other, other_optimiser)
    assert same(dict(other.state_dict()), expected)


def test_views_and_any_memory_layout_come_back(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(1, 2, 3, 4)
    tree = {
        "shared": [base, base[:, 1], base.permute(0, 3, 1, 2)],
        "last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "none": torch.empty(0),
        "bf16": torch.randn(3).bfloat16(),
        "numbered": {0: {"momentum_buffer": torch.ones(2)}, 1: {}},
    }
    assert same(load_checkpoint(save_checkpoint(tmp_path, 0, tree)), tree)


def test_old_checkpoints_and_drafts_are_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-000001.new").write_bytes(b"half")
    for step in range(5):
        save_checkpoint(tmp_path, step, {"step": step})
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint-{step:06d}.safetensors" for step in (3, 4)]
    assert len(list(tmp_path.iterdir())) == 2
    newest = newest_checkpoint(tmp_path)
    assert newest == {"step": 4}


@pytest.mark.parametrize("damage", ["empty", "cut", "no state", "pickle"])
def test_damaged_checkpoint_falls_back_to_the_previous_one(tmp_path: Path, damage: str) -> None:
    tree = {"weights": torch.randn(50), "step": 1}
    save_checkpoint(tmp_path, 1, tree)
    path = save_checkpoint(tmp_path, 2, {"weights": torch.randn(50), "step": 2})
    data = path.read_bytes()
    bad = {
        "empty": b"",
        "cut": data[:-20],
        "no state": data.replace(b'"state"', b'"stale"'),
        "pickle": pickle.dumps(tree),
    }
    path.write_bytes(bad[damage])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest["step"] == 1
    checkpoints(tmp_path)[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
        newest_checkpoint(tmp_path)
    assert newest_checkpoint(tmp_path / "none") is None
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


def rewritten(path: Path, change: Any) -> None:
    """Write a checkpoint again with other metadata or tensors, and a digest that fits them."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # `file` is no dict
    metadata["digest"] = ""
    change(metadata, tensors)
    metadata["digest"] = metadata["digest"] or checkpoint_digest(metadata["state"], tensors)
    save_file(tensors, path, metadata)


def with_state(text: str) -> Any:
    return lambda metadata, tensors: metadata.update(state=text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_state('{"dict":[["a",' * 50_000), "RecursionError|JSONDecodeError"),
        (with_state("[" * 100_000 + "]" * 100_000), "RecursionError"),
        (with_state('{"dict": [["step", NaN]]}'), "JSON has no NaN"),
        (with_state('{"dict": [["step", -Infinity]]}'), "JSON has no -Infinity"),
        (with_state('{"dict": [["w", "tensor:000009"]]}'), "KeyError: '000009'"),
        (with_state('{"dict": [["w", "other:1"]]}'), "no kind of value is named 'other'"),
        (with_state('{"dict": [["w", "float:x"]]}'), "could not convert"),
        (with_state('{"dict": [[["w"], 1]]}'), "TypeError: unhashable"),
        (with_state('{"dict": [["w"]]}'), "not enough values"),
        (with_state('{"list": []}'), "KeyError: 'dict'"),
        (with_state("[1]"), "it holds a list"),
        (with_state(""), "JSONDecodeError"),
        (lambda metadata, tensors: metadata.update(digest="0" * 64), "its content has changed"),
        (
            lambda metadata, tensors: metadata.update(format="vclimb-checkpoint 1"),
            "its format is 'vclimb-checkpoint 1'",
        ),
        (lambda metadata, tensors: metadata.pop("format"), "its format is 'none'"),
        (lambda metadata, tensors: tensors.clear(), "KeyError"),
    ],
)
def test_checkpoint_of_others_is_named_and_the_previous_one_serves(tmp_path: Path, change: Any, says: str) -> None:
    save_checkpoint(tmp_path, 1, {"weights": torch.randn(50), "step": 1})
    path = save_checkpoint(tmp_path, 2, {"weights": torch.randn(50), "step": 2})
    rewritten(path, change)
    with pytest.raises(CheckpointError, match=says) as raised:
        load_checkpoint(path)
    assert len(str(raised.value)) < 800
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest["step"] == 1


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"w": torch.arange(3.0), "f": [float("inf"), "tensor:0"], "n": -1.5e300})
    data = path.read_bytes()
    tree = load_checkpoint(path)
    for bit in range(0, 8 * len(data), 7):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with contextlib.suppress(CheckpointError):
            assert same(load_checkpoint(path), tree)  # white space, or the order of names


def test_checkpoint_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint-000001.safetensors")
    (tmp_path / "checkpoint-000002.safetensors").mkdir()
    (tmp_path / "checkpoint-000003.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match=r"header too large.*train the run anew in another folder"):
        newest_checkpoint(tmp_path)


def test_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "checkpoint-000001.safetensors").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        newest_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


_KILLED = """
import os, sys
from pathlib import Path
import torch
from vclimb.training import checkpoint

real = os.replace
def saves_and_is_killed(folder, when):
    def replace(path, target):
        if when == "before":
            os.kill(os.getpid(), 9)
        real(path, target)
        os.kill(os.getpid(), 9)
    checkpoint.save_checkpoint(folder, 1, {"weights": torch.ones(10), "step": 1})
    os.replace = replace
    checkpoint.save_checkpoint(folder, 2, {"weights": torch.zeros(10), "step": 2})

for when in ("before", "after"):
    if not (pid := os.fork()):
        saves_and_is_killed(Path(sys.argv[1], when), when)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_kill_leaves_the_old_or_the_new_checkpoint(tmp_path: Path) -> None:
    for when in ("before", "after"):
        (tmp_path / when).mkdir()
    done = subprocess.run([sys.executable, "-c", _KILLED, tmp_path], capture_output=True, text=True)
    assert done.stdout.split() == ["-9", "-9"], done.stderr
    for when, step in (("before", 1), ("after", 2)):
        folder = tmp_path / when
        newest = newest_checkpoint(folder)
        assert newest is not None
        assert newest["step"] == step
        save_checkpoint(folder, 3, {"step": 3})
        assert not list(folder.glob("*.new"))


def test_other_types_are_refused(tmp_path: Path) -> None:
    for wrong in ({"a": object()}, {"a": {1, 2}}, {1.5: "a"}, {None: 1}):
        with pytest.raises(TypeError, match="a checkpoint takes"):
            save_checkpoint(tmp_path, 0, wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="can't be a folder"):
        save_checkpoint(tmp_path / "file", 0, {})
