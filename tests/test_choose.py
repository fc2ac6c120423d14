"""Which decoder is taken for which frames and machine, and that the reason is said."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch
from stream_cases import CENTRES, JpegsInMemory, settings_of

from pipeline.choose import choose_decoder, open_stream
from pipeline.cpu_stream import CpuClipStream
from pipeline.errors import SettingsError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
HAS_DALI = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


@pytest.fixture
def without_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nvidia.dali" else found(name))


@pytest.mark.skipif(not HAS_DALI, reason="NVIDIA DALI is not installed on this platform")
def test_dali_is_taken_for_jpeg_frames_on_a_gpu() -> None:
    choice = choose_decoder("auto", "jpeg", GPU)
    assert choice.decoder == "dali"
    assert "jpeg" in str(choice)


@pytest.mark.parametrize(("codec", "device", "reason"), [("h264", GPU, "h264"), ("jpeg", CPU, "no GPU")])
def test_the_cores_are_taken_otherwise_and_why(codec: str, device: torch.device, reason: str) -> None:
    choice = choose_decoder("auto", codec, device)
    assert choice.decoder == "cpu"
    assert reason in choice.reason


@pytest.mark.usefixtures("without_dali")
def test_a_missing_dali_is_said() -> None:
    assert "isn't installed" in choose_decoder("auto", "jpeg", GPU).reason
    with pytest.raises(SettingsError, match="isn't installed; install"):
        choose_decoder("dali", "jpeg", GPU)


def test_what_was_asked_for_is_never_replaced() -> None:
    assert choose_decoder("cpu", "jpeg", GPU).decoder == "cpu"
    with pytest.raises(SettingsError, match="h264"):
        choose_decoder("dali", "h264", GPU)
    with pytest.raises(SettingsError, match="'nvdec' is not known; allowed: auto, dali, cpu"):
        choose_decoder("nvdec", "jpeg", CPU)


def test_the_choice_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline.choose"):
        stream, choice = open_stream(JpegsInMemory(), "jpeg", settings_of(views=CENTRES), CPU, workers=0)
    with stream:
        assert isinstance(stream, CpuClipStream)
        assert next(iter(stream)).frames.dtype == torch.uint8
    assert str(choice) in caplog.text
