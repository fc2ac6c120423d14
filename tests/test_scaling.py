"""benchmarks/scaling.py runs on the cores of one machine."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from training_cases import TINY_BACKBONE

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_scaling_is_measured_with_decoding_taken_out(
    synth_shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes are measured; what one process would give is made up, since it is measured in the same way."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    scaling = importlib.import_module("scaling")
    measure = scaling.measure

    def measured(options: argparse.Namespace, data: Path, out: Path, size: int, n_processes: int, variant: str) -> Any:
        if n_processes == 1:
            return scaling.Measurement(clips_per_second=100.0, wait_share=0.25, step_seconds=0.04)
        return measure(options, data, out, size, n_processes, variant)

    monkeypatch.setattr(scaling, "measure", measured)
    options = ["--device", "cpu", "--backbone", TINY_BACKBONE, "--sizes", "32", "--processes", "1", "2"]
    options += ["--batch", "4", "--clips", "32", "--epochs", "2", "--set", "compute.workers=1"]
    monkeypatch.setattr(sys, "argv", ["scaling.py", str(synth_shards), *options, "--variants", "repeated"])
    scaling.main()
    rows = [line.strip("| ").split(" | ")[:3] for line in capsys.readouterr().out.splitlines() if line[:4] == "| 32"]
    assert rows == [["32", "1", "repeated"], ["32", "2", "repeated"]]
