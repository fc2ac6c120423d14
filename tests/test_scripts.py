"""A user's script that calls vclimb without `if __name__ == "__main__":`, from a file and from standard input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import vclimb
print("script runs")
vclimb.synth("videos", classes=2, train=2, test=1, progress=False)
data = vclimb.prepare("videos", "shards/drawn", short_side=48, workers=2, progress=False)
batches = data.stream("train", batch_size=2, size=32, clip_frames=2, workers=2)
print(sum(len(batch.labels) for batch in batches), "clips", data.verify(workers=2, progress=False).problems)
"""


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_workers_do_not_run_the_script_again(source: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    is_file = source == "file"
    done = subprocess.run(
        [sys.executable, "script.py" if is_file else "-"],
        input=None if is_file else SCRIPT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (done.returncode, done.stdout) == (0, "script runs\n4 clips []\n"), done.stderr
