"""Choice of the decoder by frames and machine, with its reason."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch
from stream_cases import CENTRES, JpegsInMemory, settings_of

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.choose import ENOUGH_CORES, choose_decoder, dali_settings, open_stream
from vclimb.pipeline.stream.cpu import CpuClipStream, default_workers

CPU, GPU = torch.device("cpu"), torch.device("cuda")
HAS_DALI = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


@pytest.fixture
def without_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nvidia.dali" else find_spec(name))


@pytest.fixture(params=[ENOUGH_CORES - 1])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Number of cores of a machine with two GPUs."""
    monkeypatch.setattr("vclimb.pipeline.system.cores.available_cores", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return int(request.param)


@pytest.mark.skipif(not HAS_DALI, reason="NVIDIA DALI is not installed on this platform")
def test_few_cores_leave_jpeg_frames_to_the_engines_of_a_gpu(cores: int) -> None:
    choice = choose_decoder("auto", "jpeg", GPU)
    assert choice.decoder == "dali"
    assert f"jpeg frames, and {cores} cores" in choice.reason
    assert dali_settings(cores).cpu_share == 0
    assert dali_settings(3).threads == 3
    assert dali_settings(3, 7).threads == 7


@pytest.mark.parametrize("cores", [2 * ENOUGH_CORES], indirect=True)
def test_the_cores_feed_a_gpu_where_each_has_enough(cores: int) -> None:
    for world_size in (1, 2, 16):  # 16 ranks run on eight such machines
        choice = choose_decoder("auto", "jpeg", GPU, world_size)
        assert choice.decoder == "cpu"
        assert f"{cores // min(2, world_size)} cores" in choice.reason
    assert dali_settings(cores).cpu_share == 1
    assert default_workers(GPU) == cores - 2
    assert default_workers(GPU, world_size=2) == ENOUGH_CORES - 2
    assert default_workers(CPU, world_size=4) == cores // 4


@pytest.mark.skipif(not HAS_DALI, reason="NVIDIA DALI is not installed on this platform")
@pytest.mark.parametrize("cores", [2 * ENOUGH_CORES - 1], indirect=True)
def test_ranks_share_the_cores_of_their_machine(cores: int) -> None:
    assert choose_decoder("auto", "jpeg", GPU, world_size=2).decoder == "dali"
    assert choose_decoder("auto", "jpeg", GPU).decoder == "cpu"


@pytest.mark.parametrize(("codec", "device", "reason"), [("h264", GPU, "h264"), ("jpeg", CPU, "no GPU")])
def test_the_cores_decode_otherwise(codec: str, device: torch.device, reason: str) -> None:
    choice = choose_decoder("auto", codec, device)
    assert choice.decoder == "cpu"
    assert reason in choice.reason


@pytest.mark.usefixtures("without_dali", "cores")
def test_a_missing_dali_is_reported() -> None:
    assert "isn't installed" in choose_decoder("auto", "jpeg", GPU).reason
    with pytest.raises(SettingsError, match="isn't installed; install"):
        choose_decoder("dali", "jpeg", GPU)


def test_a_requested_decoder_is_never_replaced() -> None:
    assert choose_decoder("cpu", "jpeg", GPU).decoder == "cpu"
    with pytest.raises(SettingsError, match="h264"):
        choose_decoder("dali", "h264", GPU)
    with pytest.raises(SettingsError, match="'nvdec' is not known; allowed: auto, dali, cpu"):
        choose_decoder("nvdec", "jpeg", CPU)


def test_the_choice_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vclimb.pipeline.stream.choose"):
        stream, choice = open_stream(JpegsInMemory(), "jpeg", settings_of(views=CENTRES), CPU, workers=0)
    with stream:
        assert isinstance(stream, CpuClipStream)
        assert next(iter(stream)).frames.dtype == torch.uint8
    assert str(choice) in caplog.text
