"""A codec in one file outside of the package: registered by a call, or found as an entry point."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from codec_contract import decoded, lossless_source, textured
from memory_stream_cases import cpu, dali, epoch, keep
from stream_cases import provider_of

from vclimb.memory.provider import ExemplarProvider
from vclimb.pipeline.codecs import Codec, codecs, parse_codec, register_codec, registry
from vclimb.pipeline.errors import SettingsError

FILE = '''
"""Frames as zlib streams of pixels that are rounded to a step."""

import zlib

import numpy as np

from vclimb.pipeline.codecs import PictureCodec, Scale


class Deflated(PictureCodec):
    name = clip_codec = "deflated"
    scale = Scale("step", 1, 4, 64)
    also_called = ("zlib",)

    def encode_picture(self, frame, number):
        return zlib.compress((frame // int(number) * int(number)).tobytes())

    def decode_picture(self, data, frame):
        try:
            frame[:] = np.frombuffer(zlib.decompress(data), np.uint8).reshape(frame.shape)
        except zlib.error as error:
            raise ValueError(str(error)) from None
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "deflated_codec.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("deflated_codec")
    del sys.modules["deflated_codec"]


@pytest.fixture
def codec(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Codec:
    monkeypatch.setattr(registry, "_registered", {})
    codec: Codec = module.Deflated()
    register_codec(codec)
    return codec


def test_frames_come_back(codec: Codec) -> None:
    pixels = textured(3, 33, 47)
    assert np.array_equal(decoded(parse_codec("deflated:1").encode(lossless_source(pixels))), pixels)
    half = parse_codec("deflated@16").encode(lossless_source(pixels))
    assert str(parse_codec("deflated@16")) == "deflated:4@16"
    assert decoded(half).shape == (3, 23, 16, 3)
    assert codecs()["deflated"] is codec


def test_errors_know_it(codec: Codec) -> None:
    with pytest.raises(SettingsError, match=r"did you mean deflated.*deflated:N \(step 1 to 64\)"):
        parse_codec("zlib:3")
    with pytest.raises(SettingsError, match="step '65' is not allowed; deflated takes a whole number from 1 to 64"):
        parse_codec("deflated:65")


@pytest.mark.parametrize("open_stream", [cpu, dali])
def test_a_memory_is_packed_and_streamed(codec: Codec, open_stream: object, jpeg_folder: Path, tmp_path: Path) -> None:
    """Also in worker processes, which have not imported the file before."""
    provider = ExemplarProvider(keep(tmp_path / "m.zarr", provider_of(jpeg_folder), {0: "deflated:1", 1: "copy"}))
    assert set(provider.codecs.tolist()) == {"deflated", "jpeg"}
    here = epoch(open_stream, provider, 0, batch_size=3)
    there = epoch(open_stream, provider, 1, batch_size=3)
    for one, other in zip(here, there, strict=True):
        assert all(np.array_equal(one.views[name], other.views[name]) for name in one.views)


def test_a_codec_can_be_replaced_but_no_built_in_one(codec: Codec, module: ModuleType) -> None:
    register_codec(module.Deflated())
    assert codecs()["deflated"] is not codec
    for name, kind, message in (
        ("jpeg", "jpeg2", "codec 'jpeg' is there already"),
        ("mine", "jpeg", "bytes of kind 'jpeg' belong to codec 'jpeg'"),
        ("m:1", "mine", "codec name 'm:1' is not allowed"),
    ):
        with pytest.raises(SettingsError, match=message):
            register_codec(type("Other", (module.Deflated,), {"name": name, "clip_codec": kind})())


def test_a_codec_of_the_main_module_is_refused(module: ModuleType) -> None:
    with pytest.raises(SettingsError, match=r"defined in the main program, .*; move it to a file"):
        register_codec(type("Main", (module.Deflated,), {"__module__": "__main__", "name": "m", "clip_codec": "m"})())


def _run(code: str, folder: Path) -> str:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("target", ["deflated_codec:Deflated", "deflated_codec:__doc__", "no:Deflated"])
def test_an_entry_point_is_found(target: str, tmp_path: Path) -> None:
    """By any process, also without torch, which reading a codec's name doesn't load."""
    (tmp_path / "deflated_codec.py").write_text(FILE)
    (tmp_path / "deflated-1.dist-info").mkdir()
    (tmp_path / "deflated-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: deflated\nVersion: 1\n")
    (tmp_path / "deflated-1.dist-info" / "entry_points.txt").write_text(f"[vclimb.codecs]\ndeflated = {target}\n")
    code = (
        "import sys; from vclimb.pipeline.codecs import parse_codec\n"
        "try: print(parse_codec('deflated'), parse_codec('jpeg:75@128'), 'torch' in sys.modules)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    expected = {
        "deflated_codec:Deflated": "deflated:4 jpeg:75@128 False",
        "deflated_codec:__doc__": "SettingsError codec 'deflated' is no codec: deflated_codec:__doc__ does not extend "
        "vclimb.pipeline.codecs.codec:Codec",
        "no:Deflated": "SettingsError codec 'deflated' can't be imported: No module named 'no'; module 'no' must be "
        "installed, or its folder be named by the environment variable PYTHONPATH",
    }
    assert _run(code, tmp_path) == expected[target]
