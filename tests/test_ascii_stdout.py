"""Commands end well where stdout takes nothing but ASCII, as in batch jobs and pipes without a locale."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dataset_cases import command_environment, prepare_table
from study_cases import cells, made_metrics, write_run
from video_cases import make_video

from vclimb.pipeline.sources import read_source

CLASSES = ["été", "舞 dance"]

_RUN = """
import json, sys
from vclimb.cli.main import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["vclimb", *arguments]
    try:
        main()
        status = 0
    except SystemExit as exit:
        status = exit.code or 0
    print(f"\\n=== {status}", flush=True)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of classes that ASCII can't write, with a video for training and one for testing of each."""
    folder = tmp_path_factory.mktemp("ascii")
    for split in ("train", "test"):
        for label in CLASSES:
            make_video(folder / "source" / split / label / f"ü{split}.mp4", frames=6)
    prepare_table(read_source(folder / "source"), folder / "données")
    return folder / "données"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with such classes."""
    (cell,) = cells({"axes": {"method": ["naive"]}, "base": {"memory": {"budget": "500kB", "frames": 4}}})
    names = [f"{CLASSES[number % 2]} {number}" for number in range(21)]
    return write_run(tmp_path_factory.mktemp("runs") / "exécuté", cell, made_metrics(cell, names, dataset="données"))


def run_commands(commands: list[list[str]], **environment: str) -> list[tuple[str, str]]:
    """Run commands one after another in a process of their own; the output and the exit status of each."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands)],
        env={**command_environment(), **environment},
        capture_output=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    parts = re.split(r"\n=== (\d+)\n", done.stdout.decode("ascii"))
    assert len(parts) == 2 * len(commands) + 1
    return list(zip(parts[::2], parts[1::2], strict=False))


def test_every_kind_of_command_prints(data: Path, run: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "scénario.json"
    plan = ["study", "plan", "--data", str(data), "--budget", "100kB", "--codecs", "copy", "--frames", "1"]
    commands = [
        ["inspect", str(data)],
        ["inspect", str(data), "--json"],
        ["scenario", "export", str(data), "--tasks", "2", "--out", str(scenario)],
        ["scenario", "show", str(scenario)],
        ["show", str(run)],
        plan,
        ["verify", str(data)],
        ["--help"],
        ["inspect", str(data / "nirgendwo é")],
    ]
    results = run_commands(commands, PYTHONIOENCODING="ascii")
    assert [status for _, status in results] == ["0"] * (len(commands) - 1) + ["1"]
    assert r"\xe9t\xe9" in results[0][0]
    assert [one["label"] for one in json.loads(results[1][0])["classes"]] == CLASSES
    assert r"\u821e dance" in results[3][0]


def test_a_locale_without_other_letters(data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data)
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    ((text, status),) = run_commands([["inspect", str(tmp_path / "data")]], **{**environment, **ascii_only})
    assert status == "0"
    assert "videos" in text
