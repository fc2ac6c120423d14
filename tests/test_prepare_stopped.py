"""Runs that are stopped by a full or read-only disk, Ctrl-C or SIGTERM keep published shards and continue later."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from dataset_cases import (
    OBEYING_PERMISSIONS,
    RunningCommand,
    command_environment,
    digests,
    make_source,
    prepare_table,
    require_permissions_to_count,
    vclimb,
)
from video_cases import make_video

from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.plan import PLAN
from vclimb.pipeline.transcode.target import WORK

SHARD_SIZE = "20KB"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("raw") / "source", classes=4, videos_per_class=2)


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of an undisturbed run; no test may change it."""
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    prepare_table(read_source(source), out, shard_bytes=20_000)
    return out


@pytest.fixture(scope="module")
def undisturbed(finished: Path) -> dict[str, str]:
    """Digests of the files of an undisturbed run."""
    return digests(finished)


def prepare_arguments(source: Path, out: Path) -> list[str | Path]:
    return ["prepare", source, "--out", out, "--shard-size", SHARD_SIZE, "--workers", "2"]


def explained(done: subprocess.CompletedProcess[str], *words: str) -> bool:
    """Whether the command failed and its last line gives the reason."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    assert all(word in last for word in words), last
    return True


def test_read_only_target(source: Path, finished: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    require_permissions_to_count()
    rights: dict[str, Any] = {"run_by": OBEYING_PERMISSIONS}
    new, there = tmp_path / "new", shutil.copytree(finished, tmp_path / "data")
    new.mkdir(mode=0o555)
    assert explained(
        vclimb(*prepare_arguments(source, new), **rights), f"can't write to {new}: Permission denied; choose another"
    )
    assert list(new.iterdir()) == []

    there.chmod(0o555)
    assert explained(vclimb(*prepare_arguments(source, there), **rights), f"can't write to {there}")
    assert digests(there) == undisturbed
    assert vclimb("verify", there, **rights).returncode == 0


def in_own_mounts(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command where it may mount a small disk that nobody else sees."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("making a small disk takes the right to mount (root, and unshare -m)")
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120, "env": command_environment()}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        ["unshare", "-m", *map(str, command)], check=False, **options
    )
    if done.returncode == 77:
        pytest.skip("mounting a small disk is not permitted")
    return done


def test_full_disk_stops_the_command_which_continues_with_more_space(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "script.sh"
    script.write_text(
        textwrap.dedent("""\
            mkdir disk && mount -t tmpfs -o size=120k none disk || exit 77
            "$@" 2> full.err; echo $? > full.status; ls -A disk/data > full.files
            mount -o remount,size=20m disk
            "$@" > again.out 2> again.err; echo $? > again.status
            cp -a disk/data . && umount disk
            """)
    )
    command = [sys.executable, "-c", "from vclimb.cli.main import main; main()"]
    command += map(str, prepare_arguments(source, tmp_path / "disk" / "data"))
    done = in_own_mounts("sh", "-c", f'cd "{tmp_path}" && . ./script.sh', "sh", *command)
    assert done.returncode == 0, done.stderr
    full = subprocess.CompletedProcess(
        [], int((tmp_path / "full.status").read_text()), "", (tmp_path / "full.err").read_text()
    )
    assert explained(full, "no space left on the disk of", "free some")
    assert WORK in (tmp_path / "full.files").read_text().split()
    assert (tmp_path / "again.status").read_text() == "0\n"
    assert "going on with an unfinished run of 8 videos" in (tmp_path / "again.err").read_text()
    assert digests(tmp_path / "data") == undisturbed


FILL = """
import sys
from pathlib import Path
import subprocess
sys.path.insert(0, sys.argv[3])
from dataset_cases import digests, prepare_table
from vclimb.pipeline.dataset.catalog import HEADER
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.verify import verify

if __name__ == "__main__":
    source, disk = Path(sys.argv[1]), Path(sys.argv[2])
    table = read_source(source)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", disk])
    if mounted.returncode:
        sys.exit(77)
    places = set()
    for pages in range(1, 200):
        subprocess.run(["mount", "-o", f"remount,size={4 * pages}k", disk], check=True)
        try:
            prepare_table(table, disk / "data", shard_bytes=20_000)
            break
        except TargetError as error:
            assert "no space left on" in str(error).lower(), error
        files = [name for name in digests(disk / "data") if not name.startswith(".work")]
        places.add(len(files))
        assert not [name for name in files if name.endswith(".new")], files
        if (disk / "data" / HEADER).exists():
            report = verify(disk / "data", decode=True, workers=1, progress=False)
            assert report.problems == [], report.problems
    assert len(places) >= 4, places  # full before the first file, between shards, while the catalog was written
    for name, digest in digests(disk / "data").items():
        print(name, digest)
"""


def test_disk_that_is_full_at_any_point(source: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """The disk grows by a page each time, so that every write fails once."""
    (tmp_path / "fill.py").write_text(FILL)
    (tmp_path / "disk").mkdir()
    done = in_own_mounts(sys.executable, tmp_path / "fill.py", source, tmp_path / "disk", Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    assert dict(line.split(" ") for line in done.stdout.splitlines()) == undisturbed


@pytest.fixture(scope="module")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that take ffmpeg a second or more each, so that a signal comes before the first is done."""
    folder = tmp_path_factory.mktemp("long")
    for name in "abc":
        make_video(folder / "class" / f"{name}.mp4", "-preset", "ultrafast", frames=200, size="640x480")
    return folder


@pytest.fixture(scope="module")
def long_undisturbed(long_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    prepare_table(read_source(long_source), out, shard_bytes=10**6)
    return digests(out)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGTERM to the workers"])
def test_stopped_run_ends_at_once_and_continues(
    long_source: Path, long_undisturbed: dict[str, str], tmp_path: Path, how: str
) -> None:
    out = tmp_path / "data"
    arguments: list[str | Path] = ["prepare", long_source, "--out", out, "--workers", "2", "--shard-size", "1MB"]
    run = RunningCommand(*arguments)
    assert run.wait_until(lambda: bool(run_is_writing(out)))  # at least one worker is at work
    assert any("ffmpeg" in process.name() for process in run.family())
    began = time.monotonic()
    if how == "Ctrl-C":  # a terminal sends it to the whole group
        os.killpg(run.process.pid, signal.SIGINT)
    elif how == "SIGTERM":
        run.process.send_signal(signal.SIGTERM)
    else:  # a scheduler that signals every process of a job may reach them before the run
        for process in psutil.Process(run.process.pid).children():
            process.send_signal(signal.SIGTERM)
    stdout, stderr = run.process.communicate(timeout=120)
    assert time.monotonic() - began < 8
    assert run.process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "stopped. Finished videos are kept: run the same command again to go on."
    assert run.wait_until_alone() == []
    left = sorted(path.name for path in (out / WORK).iterdir())
    assert PLAN in left
    assert not [name for name in left if name.startswith("drafts")]

    summary = prepare_table(read_source(long_source), out, shard_bytes=10**6)
    assert summary.totals["videos"] == 3
    assert any("going on with an unfinished run" in note for note in summary.notes)
    assert digests(out) == long_undisturbed


def test_ctrl_c_while_workers_start_is_handled_by_the_main_process_alone(source: Path, tmp_path: Path) -> None:
    run = RunningCommand(*prepare_arguments(source, tmp_path / "data"))
    assert run.wait_until(lambda: len(run.family()) >= 3)
    os.killpg(run.process.pid, signal.SIGINT)
    _, stderr = run.process.communicate(timeout=120)
    assert run.process.returncode == 130, stderr
    assert "stopped. Finished videos are kept" in stderr
    assert "KeyboardInterrupt" not in stderr
    assert run.wait_until_alone() == []


def test_workers_stopped_while_they_start_stop_the_run(source: Path, tmp_path: Path) -> None:
    run = RunningCommand(*prepare_arguments(source, tmp_path / "data"))
    assert run.wait_until(lambda: len(run.family()) >= 3)
    for process in psutil.Process(run.process.pid).children():
        process.send_signal(signal.SIGTERM)
    _, stderr = run.process.communicate(timeout=120)
    if run.process.returncode != 0:  # a worker that was replaced in time may still have done the work
        assert run.process.returncode == 130, stderr
        assert "stopped. Finished videos are kept" in stderr
    assert "Traceback" not in stderr
    assert run.wait_until_alone() == []


def test_the_first_process_of_a_container_may_prepare(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """The parent of its workers is process 1, like that of orphans elsewhere."""
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("being process 1 takes the right to unshare")
    done = vclimb(*prepare_arguments(source, tmp_path / "data"), run_by=alone)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "data") == undisturbed


def run_is_writing(out: Path) -> list[Path]:
    """The files that a run's ffmpeg has begun to write."""
    return [path for path in map(Path, glob.glob(f"{out}/{WORK}/drafts-*/*.mp4")) if path.stat().st_size]


def test_verify_ends_at_once_too(finished: Path) -> None:
    run = RunningCommand("verify", finished, "--workers", "2")
    assert run.wait_until(lambda: len(run.family()) > 1)
    os.killpg(run.process.pid, signal.SIGINT)
    _, stderr = run.process.communicate(timeout=120)
    assert (run.process.returncode, stderr.splitlines()[-1:]) == (130, ["stopped. Nothing was changed."])
    assert run.wait_until_alone() == []


def test_killed_verify_leaves_no_process(finished: Path) -> None:
    run = RunningCommand("verify", finished, "--workers", "2")
    assert run.wait_until(lambda: len(run.family()) > 2)
    run.process.kill()
    run.process.communicate(timeout=120)
    assert run.wait_until_alone() == []
