"""A full disk, and a folder that is removed under a run: one clear error, nothing that was saved is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_cases import tiny_config, write_config

from vclimb.pipeline.errors import TargetError
from vclimb.training.checkpoint import save_checkpoint
from vclimb.training.learner import Learner
from vclimb.training.run import train
from vclimb.training.run_log import EventFile

HERE = str(Path(__file__).parent)

FILL = """
import json, pkgutil, shutil, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from training_cases import comparable
from vclimb.pipeline.errors import TargetError
from vclimb.training.checkpoint import checkpoints, load_checkpoint
from vclimb.training.config import read_config
from vclimb.training.events import read_events
from vclimb.training.run import train

config, disk, moments = read_config(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[4])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk]).returncode:
    sys.exit(77)
filler, run = disk / "filler", disk / "run"
expected = comparable(train(config, run))
for place, call in moments:
    shutil.rmtree(run)
    owner = pkgutil.resolve_name(place.rpartition(".")[0])
    name = place.rpartition(".")[2]
    inner, calls = getattr(owner, name), []

    def filling(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            with open(filler, "wb", 0) as file:
                for size in (1 << 20, 1 << 12):
                    try:
                        while file.write(bytes(size)) == size:
                            pass
                    except OSError:
                        pass
        return inner(*args, **kwargs)

    setattr(owner, name, filling)
    try:
        train(config, run)
        sys.exit(f"{place}: the full disk was not met")
    except TargetError as error:
        assert str(error).startswith("no space left on the disk of"), error
        assert len(str(error).splitlines()) == 1
    finally:
        setattr(owner, name, inner)
    saved = checkpoints(run / "checkpoints")
    assert saved or call == 1, place
    for path in saved:
        load_checkpoint(path)
    read_events(run / "events.jsonl")
    filler.unlink()
    assert comparable(train(config, run, resume=True)) == expected, place
    events = [event.kind for event in read_events(run / "events.jsonl")]
    assert events.count("complete") == 1 and events[-1] == "complete", events
"""

MOMENTS = [
    ("vclimb.training.run_folder:RunFolder.begin", 1),
    ("vclimb.training.run_log:EventFile.record", 6),
    ("vclimb.training.trainer.save_checkpoint", 4),
    ("vclimb.memory.replay:ReplayMemory.update", 2),
    ("vclimb.training.run_folder:RunFolder.write_metrics", 1),
]


@pytest.mark.timeout(200)
def test_disk_that_is_full_at_any_write(synth_shards: Path, tmp_path: Path) -> None:
    """A real disk without a free byte: the run ends in one line, and goes on once there is space."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    (tmp_path / "disk").mkdir()
    settings = write_config(
        tiny_config(synth_shards, "naive", "scenario.tasks=2", "compute.checkpoint_seconds=0"), tmp_path
    )
    command = [sys.executable, "-c", FILL, settings, tmp_path / "disk", HERE, json.dumps(MOMENTS)]
    done = subprocess.run(["unshare", "-m", *map(str, command)], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("mounting a small disk is not permitted")
    assert done.returncode == 0, done.stderr


def test_limit_of_a_files_size_is_explained(tmp_path: Path) -> None:
    program = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from vclimb.training.checkpoint import newest_checkpoint, save_checkpoint\n"
        "folder = Path(sys.argv[1])\n"
        "save_checkpoint(folder, 1, {'step': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n"
        "    save_checkpoint(folder, 2, {'w': torch.zeros(100_000)})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "assert newest_checkpoint(folder) == {'step': 1}\n"
        "assert len(list(folder.iterdir())) == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TargetError the disk of ")
    assert "ulimit -f" in done.stdout


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize("call", [2, 4])
def test_folder_that_is_removed_under_a_run(
    is_moved: bool, call: int, synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step, calls = tmp_path / "run", Learner.step, []

    def removing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            run.rename(tmp_path / "moved") if is_moved else shutil.rmtree(run)
        return step(*args, **kwargs)

    config = tiny_config(synth_shards, "naive", "scenario.tasks=2", "compute.checkpoint_seconds=0")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", removing)
        with pytest.raises(TargetError, match=r"run/checkpoints is gone: it was removed or moved while it was written"):
            train(config, run)
    assert not run.exists()
    if is_moved:
        assert train(config, tmp_path / "moved", resume=True).complete


def test_other_errors_of_a_write_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="can't be a folder"):
        save_checkpoint(tmp_path / "file" / "checkpoints", 1, {})
    log = EventFile(tmp_path / "events.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.event("complete", acc=float("nan"), bwf=None)
    log.close()
    assert (tmp_path / "events.jsonl").read_bytes() == b""
