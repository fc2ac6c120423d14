"""Run folders of others and damaged ones: a clear error each, no traceback, no hang, no command to the terminal."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sealed_cases import write_sealed
from study_cases import CLASSES_PER_TASK, N_TASKS, cells, made_metrics, write_run
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.study.cells import Cell
from vclimb.training.events import Event, read_events
from vclimb.training.run_log import EventFile

Change = Callable[[dict[str, Any]], object]

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold]$x$_^{\\frac}\u202eevil" + "x" * 10**4
CLASSES = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]


@pytest.fixture(scope="module")
def cell() -> Cell:
    (cell,) = cells({"base": {"method": "naive", "memory": {"budget": "1MB"}}, "axes": {"seed": [0]}})
    return cell


@pytest.fixture
def written(cell: Cell, tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", cell, made_metrics(cell, CLASSES))


def show(run: Path, *arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["show", str(run), *map(str, arguments)], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


REFUSED: list[tuple[Change, str]] = [
    (lambda m: m.update(acc=float("nan")), "not JSON: NaN is no number"),
    (lambda m: m.update(bwf=float("inf")), "not JSON: Infinity is no number"),
    (lambda m: m.update(acc=1e308), "acc: input should be less than or equal to 1"),
    (lambda m: m["R"][3].__setitem__(2, -0.5), "R.3.2: input should be greater than or equal to 0"),
    (lambda m: m.update(seed=10**500), "seed: "),
    (lambda m: m["tasks"][0].update(steps=-1), "tasks.0.steps: input should be greater than or equal to 0"),
    (lambda m: m["tasks"][0].update(seconds={"train": 1e308}), "tasks.0.seconds.train: input should be less"),
    (lambda m: m["memory"].update(bytes_on_disk=10**30), "memory.bytes_on_disk: input should be less"),
    (lambda m: m["scenario"].update(n_tasks=10**9), "scenario.n_tasks has 1000000000; it needs 7"),
    (lambda m: m["R"].pop(), "R"),
    (lambda m: m["R"].clear(), "field R has 0 rows; it needs 1 to 7"),
    (lambda m: m["R"][1].append(0.5), "field R has rows of [7, 8] values; it needs 7"),
    (lambda m: m["acc_after_each_task"].pop(), "acc_after_each_task has 6 values; it needs 7"),
    (lambda m: m.update(acc=0.123), "acc has 0.123; it needs the last of acc_after_each_task"),
    (lambda m: m.update(classes_per_task=[]), "it needs 1 to 0, the number of tasks"),
    (lambda m: m.update(complete=False), "complete has False; it needs True"),
    (lambda m: m["scenario"]["classes"].append("one more"), "scenario.classes has 22 names"),
    (lambda m: m["scenario"]["classes"].__setitem__(0, CLASSES[1]), "scenario.classes has a name twice"),
    (lambda m: m["accuracy_per_class"].pop(CLASSES[0]), "accuracy_per_class has other classes"),
    (lambda m: m["confusion"][0].pop(), "confusion has another shape"),
    (lambda m: m["tasks"].pop(), "tasks has 6 records"),
    (lambda m: m.update(classifier="none"), "classifier has an unknown name"),
    (lambda m: m.update(classifiers={}), "classifier has an unknown name"),
    (lambda m: m.update(classifiers={str(n): m["classifiers"]["linear"] for n in range(21)}), "classifiers: "),
    (lambda m: m.update(method="x" * 10**7), "method: string should have at most 10000 characters"),
    (lambda m: m.update(accuracy_per_class={"x" * 10**6: 0.5}), "accuracy_per_class"),
    (lambda m: m.update(format_version=10**9), "format_version: input should be"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED)
def test_metrics_that_no_run_writes_are_refused_by_field(
    change: Change, says: str, cell: Cell, written: Path, tmp_path: Path
) -> None:
    metrics = copy.deepcopy(made_metrics(cell, CLASSES))
    change(metrics)
    write_sealed(written / "metrics.json", metrics)
    status, output = show(written, "--png", tmp_path / "a.png")
    assert status == 1
    assert says in " ".join(output.split())
    assert len(output) < 1000
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(vclimb.DatasetError):
        _ = vclimb.Run.load(written).metrics


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 10**6, b"null", b"\xff\xfe", b'{"format": "vclimb-metrics"}', b'{"a":' * 10**5, b"\0" * 4096],
)
def test_metrics_that_are_no_metrics(content: bytes, written: Path) -> None:
    (written / "metrics.json").write_bytes(content)
    status, output = show(written)
    assert (status, len(output) < 1000) == (1, True)
    assert "metrics.json is damaged: " in output
    assert "`vclimb train --resume --out" in output


def test_files_that_never_end_are_not_read(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (written / "metrics.json").unlink()
    os.mkfifo(written / "metrics.json")
    assert "not a regular file" in show(written)[1]
    (written / "metrics.json").unlink()
    monkeypatch.setattr("vclimb.training.run_metrics._MAX_BYTES", 2**20)
    with (written / "metrics.json").open("wb") as file:
        file.truncate(2**40)
    assert "larger than 1 MiB" in show(written)[1]
    (written / "metrics.json").unlink()
    (written / "metrics.json").mkdir()
    assert "Is a directory" in show(written)[1]
    os.mkfifo(written / "events.jsonl")
    with pytest.raises(vclimb.DatasetError, match="not a regular file"):
        _ = vclimb.Run.load(written).events


def test_names_of_others_are_harmless_and_short(cell: Cell, written: Path, tmp_path: Path) -> None:
    name = HOSTILE[:10_000]
    metrics = made_metrics(cell, [f"{number}{name}"[:10_000] for number in range(21)])
    metrics |= {"method": name, "dataset": name, "device": name, "protocol": name, "classifier": name}
    metrics["scenario"] |= {"name": name, "origin": name}
    metrics["classifiers"] = {name: metrics["classifiers"]["linear"]}
    metrics["seconds"] = {name: 1.0}
    write_sealed(written / "metrics.json", metrics)
    status, output = show(written, "--png", tmp_path / "a.png")
    assert status == 0, output
    assert not {"\x1b", "\x07", "\u202e"} & set(output)
    assert len(output) < 10_000
    assert vclimb.Run.load(written).plot(tmp_path / "b.svg").stat().st_size < 10**6


def test_many_tasks_are_shown_and_drawn_in_bounds(cell: Cell, written: Path, tmp_path: Path) -> None:
    n_tasks = 150
    metrics = made_metrics(cell, [f"c{number}" for number in range(n_tasks)], n_tasks=n_tasks, n_learned=2)
    row = [0.5] * n_tasks
    for table in (metrics, metrics["classifiers"]["linear"]):
        table["R"] = [row] * n_tasks
        for name in [name for name in table if name.endswith("after_each_task")]:
            table[name] = [table[name.removesuffix("_after_each_task")]] * n_tasks
    metrics |= {"complete": True, "tasks": [{**metrics["tasks"][0], "task": task} for task in range(n_tasks)]}
    write_sealed(written / "metrics.json", metrics)
    status, output = show(written, "--png", tmp_path / "a.png")
    assert status == 0, output
    assert "100 tasks are left out here" in output
    assert len(output.splitlines()) < 100
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width < 3000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = " + b"[" * 10**5, "nested too deeply"),
        (b"a" + b".a" * 5000 + b" = 1", "names of too many parts"),
        (b"a = " + b"9" * 10**5, "are not TOML"),
        (b"\xff", "are not TOML"),
        (b"=", "are not TOML"),
        (b"data = 'x'\n" + b"k" * 10**6 + b" = 1", "is not known"),
        (b"data = 'x'\nseed = '" + b"k" * 10**6 + b"'", "a whole number"),
        (b"#" * 9 * 2**20, "larger than 8 MiB"),
        (b"", "no data set was given"),
    ],
)
def test_settings_of_others(content: bytes, says: str, written: Path) -> None:
    (written / "config.toml").write_bytes(content)
    assert show(written)[0] == 0  # which needs no settings
    with pytest.raises(vclimb.SettingsError, match=says) as raised:
        _ = vclimb.Run.load(written).config
    assert len(str(raised.value)) < 1500


# Events


def made_events(path: Path) -> list[Event]:
    log = EventFile(path)
    log.event("run", resumed=False, method="naive", n_tasks=1, n_classes=2, processes=1, device="cpu")
    log.event("task", task=0, n_tasks=1, classes=("a \u2028 b", "c"))
    log.event("warning", text="\x1b[2J")
    log.event("complete", acc=0.5, bwf=None)
    log.close()
    return read_events(path)


def test_half_a_line_at_the_end_is_passed_over_and_cut_off_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = made_events(path)
    assert [event.kind for event in events] == ["run", "task", "warning", "complete"]
    whole = path.read_bytes()
    for size in (0, 1, len(whole) - 1, len(whole) - 30, whole.index(b"\n"), whole.index(b"\n") + 1):
        path.write_bytes(whole[:size])
        n_whole = whole[:size].count(b"\n")
        assert read_events(path) == events[:n_whole]
        EventFile(path).close()
        assert path.read_bytes().count(b"\n") == n_whole
        assert not path.read_bytes() or path.read_bytes().endswith(b"\n")
    path.write_bytes(whole + b"\0" * 200_000)  # as a power cut leaves them
    EventFile(path).close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"event": "task"', "line 2 is damaged: "),
        (b"[1]", "has to be a JSON object"),
        (b"[" * 10**5, "nested too deeply|Expecting"),
        (b'{"event": "other", "time": 1}', "no kind of event is named 'other'"),
        (b'{"event": ["task"], "time": 1}', "no kind of event is named"),
        (b'{"event": "first_step", "time": 1}', "first_step: task: field required"),
        (b'{"event": "first_step", "time": 1, "task": -1}', "first_step: task: input should be greater"),
        (b'{"event": "first_step", "time": 1, "task": 1, "x": 1}', "first_step: x: extra inputs"),
        (b'{"event": "first_step", "time": NaN, "task": 1}', "first_step: "),
        (b'{"event": "complete", "time": 1, "acc": NaN, "bwf": 0}', "complete: acc: "),
        (b'{"event": "complete", "time": 1, "acc": 2, "bwf": 0}', "complete: acc: input should be less"),
        (b"\xff\xfe", "line 2 is damaged"),
        (b"\0" * 100, "line 2 is damaged"),
    ],
)
def test_damaged_event_in_the_middle_is_named(line: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    made_events(path)
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line + b"\n", *others]))
    with pytest.raises(vclimb.DatasetError, match=says) as raised:
        read_events(path)
    assert "remove the line" in str(raised.value)
    assert len(str(raised.value)) < 1000
