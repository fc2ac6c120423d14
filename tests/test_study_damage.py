"""Files of a study's folder that are damaged, hostile or huge: one clear line, and a report of all the others."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sealed_cases import write_sealed
from study_cases import SMALL, Page, made_study
from typer.testing import CliRunner

from vclimb.cli import study_table
from vclimb.cli.main import app
from vclimb.study.folder import StudyFolder
from vclimb.study.report.results import read_results
from vclimb.study.report.write import write_report
from vclimb.study.running.events import EventTail
from vclimb.study.stored import StudyError

ID = "0123456789ab"
FAILURE = {"error": "no", "exit_status": 1, "tail": "", "attempts": 1, "time": 1.0, "settings": {"seed": 0}}
DEEP = "[" * 100_000 + "]" * 100_000

Content = str | dict[str, Any]


def put(path: Path, content: Content) -> None:
    """Write a text, or an object with the right digest."""
    if isinstance(content, str):
        path.write_text(content, "utf-8")
    else:
        write_sealed(path, content)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose files tests damage and mend again."""
    return made_study(tmp_path_factory.mktemp("damaged") / "study", SMALL).path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        (f'{{"{ID}": {{}}}}', "it has no field sha256"),
        (f'{{"{ID}": {{"seed": NaN}}}}', "NaN is no number"),
        ({"../x": {}}, "'../x' is not a plain file name"),
        ({".": {}}, "is not a plain file name"),
        ({ID: 3}, f"{ID}: input should be an object, not 3"),
        ({ID: {"memory.frames": {"a": 1}}}, "memory.frames: a dict; allowed: true, false"),
        ({ID: {"seed": 10**30}}, "seed: a int; allowed"),
        ({ID: {"memory.codec": "x" * 20_000}}, "memory.codec: a text of 20,000 characters"),
        ({f"{n:012x}": {} for n in range(10_001)}, "at most 10000 items"),
        (DEEP, "nested too deeply"),
    ],
)
def test_damaged_cells_are_one_clear_line(study: Path, content: Content, reason: str) -> None:
    before = (study / "cells.json").read_bytes()
    put(study / "cells.json", {"cells": content} if isinstance(content, dict) else content)
    done = CliRunner(env={"COLUMNS": "2000", "NO_COLOR": "1"}).invoke(app, ["study", "report", str(study)])
    (study / "cells.json").write_bytes(before)
    assert done.exit_code == 1
    (line, *_) = done.stderr.splitlines()
    assert line.startswith(f"error: {study / 'cells.json'} is damaged: ")
    assert reason in line
    assert "run the study again (`vclimb study run` writes it anew and keeps complete runs), or remove it" in line
    assert len(line) < 800


def test_another_sealed_file_of_settings_is_no_cells_json(study: Path) -> None:
    before = (study / "cells.json").read_bytes()
    put(study / "cells.json", {"settings": {"classes": 12}})
    with pytest.raises(StudyError, match=r"cells\.json is damaged: .*cells"):
        StudyFolder(study).cells()
    (study / "cells.json").write_bytes(before)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "name: field required"),
        ({"name": "x", "content": 1}, "content: input should be a valid string, not 1"),
        ({"name": "x", "content": "abc"}, "content: "),
        ({"name": "x", "content": "0" * 64, "more": 1}, "more: "),
        (f'{{"name": "x", "content": "{"0" * 64}", "sha256": "{"0" * 64}"}}', "doesn't have the SHA-256"),
        (DEEP, "nested too deeply"),
    ],
)
def test_damaged_name_of_the_data_set_never_passes_for_the_right_one(
    study: Path, content: Content, reason: str
) -> None:
    put(study / "data.json", content)
    with pytest.raises(StudyError, match="remove it if all runs of the study are of this data set") as raised:
        StudyFolder(study).check_data("x", "0" * 64)
    (study / "data.json").unlink()
    assert reason in str(raised.value)
    assert str(study / "data.json") in str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        (json.dumps(FAILURE), "it has no field sha256"),
        (FAILURE | {"exit_status": "1"}, "exit_status: input should be a valid integer, not '1'"),
        (FAILURE | {"attempts": 0}, "attempts: input should be greater than or equal to 1, not 0"),
        (FAILURE | {"time": -1}, "time"),
        (FAILURE | {"settings": {"seed": [[[]]] * 20_000}}, "settings.seed: a list"),
        (FAILURE | {"error": "x" * 3_000_000}, "error: string should have at most"),
        (DEEP, "nested too deeply"),
    ],
)
def test_damaged_record_of_a_failure_is_a_failure_that_says_so(study: Path, content: Content, reason: str) -> None:
    record = study / "failures" / f"{ID}.json"
    put(record, content)
    failures = StudyFolder(study).failures()
    retried = StudyFolder(study).record_failure(ID, "again", 1, {"seed": 0})
    record.unlink()
    assert list(failures) == [ID]
    assert reason in failures[ID].error
    assert str(record) in failures[ID].error
    assert len(failures[ID].error) < 800
    assert (retried.error, retried.attempts) == ("again", 2)


def set_seed(run: Path, seed: str) -> None:
    text = re.sub("^seed = .*", f"seed = {seed}", (run / "config.toml").read_text("utf-8"), flags=re.MULTILINE)
    (run / "config.toml").write_text(text, "utf-8")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def add(run: Path, line: str) -> None:
    (run / "config.toml").write_text(line + "\n" + (run / "config.toml").read_text("utf-8"), "utf-8")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text as seed": (lambda run: set_seed(run, '"x"'), "setting 'seed' is x"),
    "truth value as seed": (lambda run: set_seed(run, "true"), "setting 'seed' is True"),
    "huge seed": (lambda run: set_seed(run, "1" + "0" * 40), "seed: a int; allowed"),
    "NaN": (lambda run: add(run, "x = nan"), "x: a float; allowed"),
    "date": (lambda run: add(run, "x = 2020-01-01"), "x: a date; allowed"),
    "huge text": (lambda run: add(run, f'x = "{"y" * 500_000}"'), "x: a text of 500,000 characters"),
    "huge file": (lambda run: add(run, f'x = "{"y" * 9_000_000}"'), "larger than 8 MiB"),
    "many settings": (lambda run: add(run, "\n".join(f"x{n} = 1" for n in range(1000))), "at most 500 items"),
    "deep tables": (lambda run: add(run, ".".join(["a"] * 500) + " = 1"), "nested too deeply"),
    "very deep tables": (lambda run: add(run, ".".join(["a"] * 20_000) + " = 1"), "names of too many parts"),
    "deep lists": (lambda run: add(run, f"a = {DEEP}"), "nested too deeply"),
    "no TOML": (lambda run: (run / "config.toml").write_bytes(b"\xff="), "are not TOML"),
    "settings as a pipe": (lambda run: pipe(run / "config.toml"), "not a regular file"),
    "metrics cut": (lambda run: os.truncate(run / "metrics.json", 100), "metrics.json is damaged: it is not JSON"),
    "metrics as a folder": (
        lambda run: ((run / "metrics.json").unlink(), (run / "metrics.json").mkdir()),
        "can't be read",
    ),
    "deep metrics": (lambda run: (run / "metrics.json").write_text(DEEP), "nested too deeply"),
}


def test_runs_that_cannot_be_read_are_named_and_counted_by_no_figure(tmp_path: Path) -> None:
    folder = made_study(tmp_path / "study", {**SMALL, "axes": {"frames": [1, 2, 4, 8, "all"], "seed": [0, 1]}})
    runs = sorted((folder.path / "runs").iterdir())
    for run, (damage, _) in zip(runs, DAMAGES.values(), strict=False):
        damage(run)
    unnamed = runs[-1].rename(os.fsdecode(os.fsencode(folder.path / "runs") + b"/\xff"))
    (unnamed / "config.toml").write_text("=", "utf-8")
    report = write_report(folder.path)
    results = report.results
    page = Page(report.page.read_text("utf-8"))
    expected = {run.name: reason for run, (_, reason) in zip(runs, DAMAGES.values(), strict=False)} | {r"\xff": "TOML"}
    assert len(expected) == 17
    assert results.damaged.keys() == expected.keys()
    for run, reason in expected.items():
        assert reason in results.damaged[run]
        assert len(results.damaged[run]) < 800
        assert run in page.text
    assert len(results.complete) == 20 - 17
    assert sum(len(group.runs) for group in report.layout.groups) == 3
    with report.tables[1].open(newline="", encoding="utf-8") as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert (states.count("damaged"), states.count("complete")) == (17, 3)
    done = CliRunner(env={"COLUMNS": "2000"}).invoke(app, ["study", "report", str(folder.path)])
    assert done.exit_code == 0, done.output
    assert "17 can't be read" in done.output
    assert not folder.is_complete(runs[13].name)  # the next `study run` computes it again


def test_more_settings_than_a_table_can_hold_are_refused(tmp_path: Path) -> None:
    folder = made_study(tmp_path / "study", SMALL)
    for number, run in enumerate((folder.path / "runs").iterdir()):
        add(run, "\n".join(f"x{number}_{n} = 1" for n in range(400)))
    with pytest.raises(StudyError, match=r"3,2\d\d different settings together; allowed: 2,000"):
        read_results(folder.path)


def test_tail_of_a_huge_log_is_read_from_its_end(tmp_path: Path) -> None:
    folder = made_study(tmp_path / "study", SMALL)
    with folder.log(ID).open("wb") as log:
        log.truncate(2**35)  # sparse: 32 GiB that take no space
        log.seek(0, os.SEEK_END)
        log.write(b"\nlast but one\nerror: last")
    assert folder.tail(ID, 2) == "last but one\nerror: last"


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "complete"',
        b'{"event": "task", "task": -1, "n_tasks": 2}',
        b'{"event": "evaluated", "task": 0, "n_tasks": 0}',
        b'{"event": "evaluated", "task": "0", "n_tasks": 2}',
        b'{"event": "epoch", "task": 0, "n_tasks": 2, "epoch": 1e999, "epochs": 2}',
        b'{"event": "epoch", "task": 0, "n_tasks": 2, "epoch": 1, "epochs": NaN}',
        b'{"event": "task", "task": %d, "n_tasks": 2}' % 10**40,
        b'{"event": ["complete"]}',
        b"\xff",
        DEEP.encode(),
        b"x" * 9_000_000,
    ],
    ids=lambda line: line[:30].decode(errors="replace"),
)
def test_damaged_events_say_nothing_about_progress(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line + b'\n{"event": "evaluated", "task": 0, "n_tasks": 4}\n' + line)
    tail = EventTail(path)
    assert max(tail.share_done() for _ in range(5)) == 0.25


def test_events_of_more_tasks_than_there_are_never_say_more_than_all(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"event": "evaluated", "task": 9, "n_tasks": 4}\n', "utf-8")
    assert EventTail(tmp_path / "events.jsonl").share_done() == 1.0
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert EventTail(tmp_path / "pipe.jsonl").share_done() == 0.0


def test_terminal_lists_the_first_of_many_failures_and_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_table, "_SHOWN_RUNS", 2)
    folder = made_study(tmp_path / "study", SMALL)
    for number in range(5):
        folder.record_failure(f"{number:012x}", "no" * 5_000, 1, {"seed": number})
    done = CliRunner(env={"COLUMNS": "2000"}).invoke(app, ["study", "report", str(folder.path)])
    assert done.exit_code == 0, done.output
    assert "5 failed" in done.output
    assert "... and 3 runs more (--json lists all)" in done.output
    assert "000000000001" in done.output
    assert "000000000002" not in done.output
    assert max(map(len, done.output.splitlines())) < 1500
