"""Files of weights: told apart by their content, checked against the backbone, and never run as code."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from dataset_cases import command_environment
from training_cases import TINY_BACKBONE

from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.model.weights_file import weights_format
from vclimb.pipeline.errors import SettingsError

State = dict[str, torch.Tensor]


def make(weights: Path | str) -> torch.nn.Module:
    return make_network(ModelConfig(backbone=TINY_BACKBONE, weights=str(weights), clip_frames=2, size=32), 2).backbone


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(3)
    return {name: value.clone() for name, value in make("none").state_dict().items()}


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return buffer.getvalue()


def saved(value: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


class Hostile:
    """An object whose unpickling runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 87319819\n"

NO_WEIGHTS = [
    pytest.param(b"", r"is an empty file \(0 bytes\); download it again", id="empty"),
    pytest.param(b"<html>404</html>", "is a web page .*404", id="page"),
    pytest.param(b"\n <!DOCTYPE HTML><title>Sign in</title>", "is a web page .*Sign in", id="page after a blank line"),
    pytest.param(b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page .*xml", id="answer of a bucket"),
    pytest.param(LFS, "is a pointer of Git LFS .*git lfs pull", id="git lfs"),
    pytest.param(b"not weights", "is a text .*'not weights'.*allowed: safetensors", id="text"),
    pytest.param(b'{"weight_map": {}}', "is a text .*weight_map", id="index of shards"),
    pytest.param("Gewichte \u2192 hier".encode() * 999, "is a text", id="long text"),
    pytest.param(gzip.compress(b"weights"), "is a gzip archive; unpack it", id="gzip"),
    pytest.param(bytes(257) + b"ustar" + bytes(250), "is a tar archive; unpack it", id="tar"),
    pytest.param(zipped(a_dot_txt=b"a", b_dot_txt=b"b"), "is a zip archive of 2 files; unpack it", id="zip"),
    pytest.param(zipped(a_dot_txt=b"a" * 99)[:60], "is cut short: a zip archive", id="torn zip"),
    pytest.param(zipped(m__code__a_dot_py=b"", m__data_dot_pkl=b""), r"TorchScript.*state_dict\(\)", id="TorchScript"),
    pytest.param(zipped(a_dot_npy=b"a"), "is a NumPy archive; name it .npz", id="npz under another name"),
    pytest.param(pickle.dumps({"a": 1}), "is a pickle that torch did not save", id="pickle"),
    pytest.param(pickle.dumps(Hostile()), "is a pickle that torch did not save, which could run code", id="hostile"),
    pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file", id="hdf5"),
    pytest.param(bytes(range(256)), "is of no known format", id="bytes"),
    pytest.param((2**40).to_bytes(8, "little") + b'{"a":1}', "header has 1,099,511,627,776 bytes", id="huge header"),
]


@pytest.mark.parametrize(("content", "says"), NO_WEIGHTS)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_file_that_holds_no_weights_is_named(content: bytes, says: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        weights_format(str(tmp_path / name))


def test_cases_of_weights_that_are_none(tmp_path: Path) -> None:
    for place, says in (
        (tmp_path, "is a folder"),
        ("https://a.b/w.pth", "is a URL; download"),
        ("no.pth", "not a file"),
    ):
        with pytest.raises(SettingsError, match=says):
            weights_format(str(place))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="is not a file"):
        weights_format(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ok.bin", safetensors.torch.save),
        ("ok.pth", safetensors.torch.save),
        ("ok.safetensors", saved),
        ("old.safetensors", lambda state: saved(state, _use_new_zipfile_serialization=False)),
        ("wrapped.pt", lambda state: saved({"state_dict": {f"module.{name}": v for name, v in state.items()}})),
        ("trained.pt", lambda state: saved({"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3})),
        ("more.pt", lambda state: saved({**state, "fc.weight": torch.zeros(2)})),
        ("uncounted.bin", lambda state: safetensors.torch.save({n: v for n, v in state.items() if v.ndim})),
    ],
)
def test_weights_are_read_by_content_under_any_name(
    name: str, content: Callable[[State], bytes], state: State, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content(state))
    loaded = make(tmp_path / name).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


def changed(state: State, **changes: torch.Tensor | None) -> State:
    kept = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in kept.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value.fill_(np.nan), r"tensor 'conv1\.1\.bias' holds NaN or infinity"),
        (lambda value: value.fill_(np.inf), r"tensor 'conv1\.1\.bias' holds NaN or infinity"),
        (lambda value: value[:3], r"'conv1\.1\.bias' has 3 numbers in the file, and needs"),
        (lambda value: value.view(-1, 1), r"'conv1\.1\.bias' has \d+x1 numbers in the file, and needs"),
        (lambda value: value.to(torch.int64), r"'conv1\.1\.bias' has \d+ whole numbers in the file, and needs"),
        (lambda value: None, r"lacks 1 of the \d+ tensors of backbone .*: 'conv1\.1\.bias'; give weights of this"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: Callable[[torch.Tensor], torch.Tensor | None], says: str, state: State, tmp_path: Path
) -> None:
    changed = {**state, "conv1.1.bias": change(state["conv1.1.bias"].clone())}
    kept = {name: value for name, value in changed.items() if value is not None}
    safetensors.torch.save_file(kept, tmp_path / "w.safetensors")
    with pytest.raises(SettingsError, match=says):
        make(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            safetensors.torch.save({"x.weight": torch.ones(2)}),
            r"has no tensor of backbone .*'conv1\.0\.weight'.*'x\.weight'",
        ),
        (safetensors.torch.save({}), "it holds no tensor at all"),
        (saved({"state_dict": {"a": 1}}), "it holds no tensor at all"),
        (saved([1, 2]), "holds a list, and no state dict"),
        (saved(torch.ones(2)), "holds a Tensor, and no state dict"),
        (saved({"a": Hostile()}), r"Python objects besides tensors.*posix\.mkdir"),
        (saved({"a": Path("a")}), r"Python objects besides tensors.*pathlib"),
        (saved({"a": torch.ones(999)})[:-900], "cut short"),
        (zipped(w__data_dot_pkl=b"\x80\x02garbage"), "is damaged|besides tensors"),
        (b"\x08\0\0\0\0\0\0\0" + b'{"a":12}', "is damaged: .*; download it again"),
    ],
)
def test_files_without_weights_of_the_backbone_are_refused(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(SettingsError, match=says) as raised:
        make(tmp_path / "w")
    assert "weights_only" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not Path("ran").exists()


_BEFORE_TORCH = """
import json, sys
import vclimb
said = []
for arguments in json.loads(sys.argv[1]):
    try:
        vclimb.train(**arguments)
    except vclimb.VclimbError as error:
        said.append([str(error), "torch" in sys.modules])
print(json.dumps(said))
"""


def test_wrong_settings_are_said_before_torch_is_loaded(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("page", b"<html>"), ("lfs", LFS), ("file", b"")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").write_text(f'data = "x"\n[model]\nweights = "{tmp_path / "empty"}"\n')
    run = {"data": "shards/x", "out": str(tmp_path / "new")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({**run, "weights": str(tmp_path / "empty")}, "is an empty file"),
        ({**run, "settings": {"model": {"weights": str(tmp_path / "page")}}}, "is a web page"),
        ({**run, "weights": str(tmp_path / "lfs")}, "is a pointer of Git LFS"),
        ({**run, "settings": ["compute.device=cuda:1"]}, "allowed: auto, cpu, cuda"),
        ({**run, "settings": ["compute.device=mps"]}, "allowed: auto, cpu, cuda"),
        ({**run, "out": str(tmp_path / "file")}, "is a file, and a run needs a folder"),
        ({**run, "out": str(tmp_path / "full")}, "holds files that are not a run ('notes.txt'"),
        ({**run, "out": str(tmp_path / "begun")}, "holds a run already; go on with it by --resume"),
        ({"out": str(tmp_path / "new"), "resume": True}, "holds no run to go on with"),
        ({"out": str(tmp_path / "begun"), "resume": True}, "is an empty file"),
    ]
    given = json.dumps([arguments for arguments, _ in cases])
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE_TORCH, given], capture_output=True, text=True, env=command_environment()
    )
    assert done.returncode == 0, done.stderr
    for (said, has_torch), (_, expected) in zip(json.loads(done.stdout), cases, strict=True):
        assert expected in said
        assert not has_torch, said
    assert not (tmp_path / "new").exists()


def test_a_damaged_file_of_torchs_old_format_is_named(state: State, tmp_path: Path) -> None:
    """Torch asserts that the storages are those that the tensors name."""
    data = saved(state, _use_new_zipfile_serialization=False)
    key = max(re.findall(rb"\d{9,}", data), key=data.count)
    (tmp_path / "old.pth").write_bytes(key[::-1].join(data.rsplit(key, 1)))
    with pytest.raises(SettingsError, match=r"'.*old\.pth' is damaged: .*; download it again"):
        make(tmp_path / "old.pth")
