"""benchmarks/scaling.py runs on the cores of one machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dataset_cases import command_environment
from training_cases import TINY_BACKBONE

SCALING = Path(__file__).parents[1] / "benchmarks" / "scaling.py"


def test_scaling_is_measured_with_decoding_taken_out(synth_shards: Path) -> None:
    options = ["--device", "cpu", "--backbone", TINY_BACKBONE, "--sizes", "32", "--processes", "1", "2"]
    options += ["--batch", "4", "--clips", "32", "--epochs", "2", "--set", "compute.workers=1"]
    command = [sys.executable, SCALING, synth_shards, *options, "--variants", "repeated"]
    done = subprocess.run(command, env=command_environment(), capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ")[:3] for line in done.stdout.splitlines() if line.startswith("| 32 ")]
    assert rows == [["32", "1", "repeated"], ["32", "2", "repeated"]]
