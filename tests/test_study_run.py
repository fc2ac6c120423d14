"""`vclimb study run` with real runs: stopped, killed and resumed; a run that fails stops no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from dataset_cases import RunningCommand
from training_cases import TINY_BACKBONE
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import TargetError
from vclimb.study.folder import StudyFolder
from vclimb.study.running.events import EventTail, TimeLeft
from vclimb.study.running.preflight import dataset_digest

STUDY = f"""
name = "four"

[base]
scenario.tasks = 2
model = {{ backbone = "{TINY_BACKBONE}", weights = "none", clip_frames = 2, size = 32 }}
training = {{ epochs = 1, batch_size = 8 }}
compute = {{ device = "cpu", decoder = "cpu", workers = 0 }}

[[cells]]
method = "naive"
frames = 1
budget = "30kB"

[[cells]]
method = "finetune"

[axes]
seed = [0, 1]
"""

CHILD = "vclimb.study.running.executors._child"


def study(*arguments: str | Path, fails: bool) -> str:
    """Run a command in this process, which has loaded torch already, and return what it prints."""
    done = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"}).invoke(app, [*map(str, arguments)])
    assert done.exit_code == int(fails), done.output
    return done.stdout


def processes_of(folder: Path) -> list[psutil.Process]:
    """Find the processes that train into a study's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.status() != psutil.STATUS_ZOMBIE and CHILD in words and str(folder) in words:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_none(folder: Path, timeout_seconds: float = 60) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_seconds
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def events(run: Path) -> list[dict[str, Any]]:
    try:
        lines = (run / "events.jsonl").read_text("utf-8").split("\n")[:-1]
    except OSError:
        return []
    return [json.loads(line) for line in lines]


def complete_runs(out: Path) -> dict[str, int]:
    """Map complete runs to the times when their metrics were written."""
    found = {}
    for path in out.glob("runs/*/metrics.json"):
        if json.loads(path.read_text("utf-8"))["complete"]:
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def under_way(out: Path) -> bool:
    """Whether a run has begun a task and is not complete."""
    return any(
        any(event["event"] == "task" for event in written) and written[-1]["event"] != "complete"
        for written in map(events, out.glob("runs/*"))
    )


@pytest.mark.timeout(230)
def test_study_is_stopped_and_its_parts_make_it_though_one_is_killed(synth_shards: Path, tmp_path: Path) -> None:
    toml, out = tmp_path / "four.toml", tmp_path / "study"
    toml.write_text(STUDY, "utf-8")
    arguments = ["study", "run", toml, "--data", synth_shards, "--out", out]

    first = RunningCommand(*arguments, "--jobs", "2")
    assert first.wait_until(lambda: bool(complete_runs(out)), 150)
    first.wait_until(lambda: under_way(out), 60)
    stopped_at = time.monotonic()
    first.process.send_signal(signal.SIGINT)
    _, output = first.process.communicate(timeout=120)
    assert first.process.returncode == 130, output
    assert time.monotonic() - stopped_at < 30
    assert "run the same command again" in output
    assert processes_of(out) == []
    before = complete_runs(out)
    assert 1 <= len(before) < 4

    # The part with more runs left is killed; the other is computed at the same time.
    parts = dict.fromkeys(("1/2", "2/2"), 0)
    for number, cell in enumerate(vclimb.Study(toml).cells(synth_shards)):
        parts[f"{number % 2 + 1}/2"] += cell.run_id not in before
    other, killed = sorted(parts, key=lambda part: parts[part])
    arguments += ["--jobs", "1", "--json", "--only"]
    second = RunningCommand(*arguments, killed)
    assert second.wait_until(lambda: under_way(out) and bool(processes_of(out)), 150)
    third = RunningCommand(*arguments, other)
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    # At once: runs that have not ended yet are waited for, not started a second time.
    summaries = [json.loads(study(*arguments, killed, fails=False))]
    output, _ = third.process.communicate(timeout=200)
    assert third.process.returncode == 0
    summaries.append(json.loads(output))
    assert wait_until_none(out) == []
    assert second.wait_until_alone() == []
    after = complete_runs(out)
    assert len(after) == 4
    assert {run: after[run] for run in before} == before
    made = [{*summary["complete_before"], *summary["ran"]} for summary in summaries]
    assert [len(runs) for runs in made] == [2, 2]
    assert set.union(*made) == set(after)
    for run in after:
        kinds = [event["event"] for event in events(out / "runs" / run)]
        assert kinds.count("complete") == 1
        assert kinds.count("evaluated") == 2
    assert (out / "report.html").exists()  # by the part that ended last


def test_two_studies_at_once_are_refused(synth_shards: Path, tmp_path: Path) -> None:
    toml = tmp_path / "four.toml"
    toml.write_text(STUDY, "utf-8")
    with StudyFolder(tmp_path / "study").held():
        done = CliRunner(env={"COLUMNS": "400"}).invoke(
            app, ["study", "run", str(toml), "--data", str(synth_shards), "--out", str(tmp_path / "study")]
        )
    assert done.exit_code == 1
    assert f"error: another study is running in {tmp_path / 'study'}" in done.stderr
    assert processes_of(tmp_path / "study") == []


def test_runs_of_two_data_sets_are_kept_apart(synth_shards: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    dataset = StoredDataset.open(synth_shards)
    with folder.held():
        folder.check_data(dataset.name, "another")  # nothing is known yet, and nothing is written
        folder.keep_data(dataset.name, dataset_digest(dataset))
        folder.keep_data("moved", dataset_digest(StoredDataset.open(synth_shards)))
        with pytest.raises(TargetError, match="has other videos; choose another folder"):
            folder.check_data(dataset.name, "another")


def test_dry_run_counts_what_study_run_would_do(synth_shards: Path, tmp_path: Path) -> None:
    toml, out = tmp_path / "four.toml", tmp_path / "study"
    toml.write_text(STUDY, "utf-8")
    arguments = ["study", "run", toml, "--data", synth_shards, "--out", out, "--dry-run", "--rate", "10", "--json"]
    before = json.loads(study(*arguments, fails=False))
    failed = before["cells"][0]["run"]
    folder = StudyFolder(out)
    with folder.held():
        folder.record_failure(failed, "out of memory", 1, {})
        skipped = json.loads(study(*arguments, fails=False))
        assert (skipped["cells"][0]["state"], skipped["cells"][0]["seconds"]) == ("failed", 0)
        assert skipped["seconds"] == pytest.approx(before["seconds"] - before["cells"][0]["seconds"])
        retried = json.loads(study(*arguments, "--retry-failed", fails=False))
        assert retried["seconds"] == pytest.approx(before["seconds"])
        folder.keep_data("of another", "0" * 64)
    done = CliRunner(env={"COLUMNS": "400"}).invoke(app, [*map(str, arguments)])
    assert done.exit_code == 1
    assert "holds runs of data set 'of another' as it was" in done.stderr


def test_dry_run_says_cells_time_and_bytes(synth_shards: Path, tmp_path: Path) -> None:
    toml = tmp_path / "four.toml"
    toml.write_text(STUDY, "utf-8")
    arguments = ["study", "run", toml, "--data", synth_shards, "--out", tmp_path / "study", "--dry-run", "--rate", "10"]
    output = study(*arguments, fails=False)
    assert "4 runs, 1 at a time" in output
    assert "at 10 training clips a second, as --rate says" in output
    plan = json.loads(study(*arguments, "--json", fails=False))
    assert [cell["state"] for cell in plan["cells"]] == ["to do"] * 4
    assert 0 < plan["memory_bytes"] <= 2 * 30_000
    clips = sum(cell["training_clips"] for cell in plan["cells"])
    evaluated = 4 * (6 + 12)  # test clips of both tasks, of which the first is evaluated twice
    assert plan["seconds"] == pytest.approx((clips + evaluated / 3) / 10)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("frames = 1\n", "frmes = 1\n"), "axis 'frmes' is not known; did you mean 'frames'?"),
        (("frames = 1\n", "frames = 0\n"), "setting 'memory.frames' is 0, out of range"),
        (("[base]", "[bse]"), "setting 'bse' is not known; did you mean 'base'?"),
        ((TINY_BACKBONE, "resnt18"), "did you mean 'resnet18'?"),
        (('weights = "none"', 'weights = "nowhere.pt"'), "model.weights 'nowhere.pt' is not a file"),
        (("scenario.tasks = 2", "scenario.tasks = 99"), "99"),
        (('budget = "30kB"', 'budget = "30"'), "budget '30' is not understood"),
    ],
)
def test_what_no_run_could_take_is_refused(
    synth_shards: Path, tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    toml = tmp_path / "four.toml"
    assert change[0] in STUDY
    toml.write_text(STUDY.replace(*change), "utf-8")
    done = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"}).invoke(
        app, ["study", "run", str(toml), "--data", str(synth_shards), "--out", str(tmp_path / "study")]
    )
    assert done.exit_code == 1
    assert "error: " in done.output
    assert reason in done.output
    assert not (tmp_path / "study").exists()


def test_a_run_whose_study_is_gone_never_starts(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", CHILD, str(gone.pid), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ}, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "run").exists()


def test_time_left_counts_what_this_command_did() -> None:
    clock = iter([0.0, 10.0, 100.0]).__next__
    left = TimeLeft(clock)
    assert left.seconds({"a": 0.5, "b": 0.0}) is None  # half of it was done before
    assert left.seconds({"a": 0.6, "b": 1e-9}) == pytest.approx(10 * 1.4 / 0.1)
    assert left.seconds({"a": 1.0, "b": 1.0}) == 0


def test_events_say_how_much_is_done(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.share_done() == 0
    shares = []
    for line in (
        '{"event": "run"}\n',
        '{"event": "task", "task": 0, "n_tasks": 2}\n{"event": "epoch", "task": 0, "n_tasks": 2, "epoch": 0, "ep',
        'ochs": 2}\n',
        '{"event": "evaluated", "task": 0, "n_tasks": 2}\nnonsense\n[]\n',
        '{"event": "task", "task": 0, "n_tasks": 2}\n',
        '{"event": "complete"}\n',
    ):
        with path.open("a") as file:
            file.write(line)
        shares.append(tail.share_done())
    assert shares == pytest.approx([0, 0, 0.225, 0.5, 0.5, 1])
