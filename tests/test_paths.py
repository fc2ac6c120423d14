"""Paths that are URLs: read where they name a data set, refused by name everywhere else, and never half understood."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import fsspec
import pytest
from dataset_cases import digests, make_source, prepare_table
from memory_store_cases import new_class, update
from test_cli import commands, explains, run

import vclimb
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.system.paths import local_path
from vclimb.study.report.write import write_report
from vclimb.training.chart import plot_run

URL = "memory://bucket/new set"
# A value for each parameter without a default. Parameters of the same name take the same kind of value.
REQUIRED = {"source": "raw", "target": "new", "dataset": "data", "data": "data", "folder": "new", "budget": "2v"}
REQUIRED |= {
    "run": "no run",
    "memory": "memory.zarr",
    "study": "codecs",
    "scenario": "scenario.json",
    "scenario export source": "scenario.json",
    "study advise budget": "4MB",
}
ALSO = {"train data": ["--out", "new"], "train scenario": ["data", "--out", "new"], "train config": ["--out", "new"]}
ALSO |= {"train beginnings": ["--out", "new"]}
ALSO |= {"scenario export source": ["--tasks", "2"]}
# Their first argument has to be a whole run; the same check is tested below.
NEED_A_RUN = ("show png", "study report target")
TAKE_A_URL = ("prepare target", "prepare source")
# Texts that are neither a file nor a folder. What isn't listed here is tried as a path.
NO_PATHS = {
    *("layout", "columns", "codec", "codecs", "fps", "shard_size", "executor", "network", "backbone", "decoder"),
    *(
        "device",
        "jobs",
        "gpus",
        "split",
        "method",
        "budget",
        "budgets",
        "equal",
        "frames",
        "frame_choice",
        "videos",
        "preset",
    ),
    *("settings", "set_", "axis", "weights", "told_apart_by", "ray_address"),
}


def path_parameters() -> dict[str, tuple[str, Any]]:
    """All parameters of all commands that may be paths."""
    found = {}
    for name, command in commands().items():
        hints = get_type_hints(inspect.unwrap(command.callback))
        for parameter in command.params:
            if parameter.name not in NO_PATHS and re.search("str|Path", str(hints[parameter.name])):
                found[f"{name} {parameter.name}"] = (name, parameter)
    return found


PATHS = path_parameters()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two classes with splits."""
    folder = tmp_path_factory.mktemp("splits")
    for split in ("train", "test"):
        make_source(folder / "raw" / split, classes=2, videos_per_class=1)
    for pattern in (folder / "raw").glob("*.mp4"):
        pattern.unlink()
    prepare_table(read_source(folder / "raw"), folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared data set, a source, a memory and a scenario. Tests add files at most."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "data").symlink_to(prepared)
    (folder / "raw" / "class").mkdir(parents=True)
    (folder / "raw" / "class" / "v.mp4").write_text("no video")
    with MemoryWriter.open(folder / "memory.zarr") as writer:
        update(writer, [new_class(label, 3) for label in range(3)])
    vclimb.Scenario.from_dataset(prepared, tasks=2).save(folder / "scenario.json")
    return folder


@pytest.fixture
def work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working folder."""
    monkeypatch.chdir(folder)
    return folder


def test_no_command_makes_paths_of_its_texts() -> None:
    """A `Path` drops a slash of a URL before anything can refuse it."""
    for name, command in commands().items():
        assert "Path" not in str(get_type_hints(inspect.unwrap(command.callback))), name


@pytest.mark.parametrize("case", [case for case in PATHS if case not in (*NEED_A_RUN, *TAKE_A_URL)])
def test_a_url_is_never_mangled_and_writes_nothing(case: str, work: Path) -> None:
    name, parameter = PATHS[case]
    arguments: list[str] = []
    for other in commands()[name].params:
        if other.required or other.name == parameter.name:
            value = (
                URL if other.name == parameter.name else REQUIRED.get(f"{name} {other.name}") or REQUIRED[other.name]
            )
            arguments += [value] if other.param_type_name == "argument" else [other.opts[0], value]
    before = digests(work)
    result = run(*name.split(), *arguments, *ALSO.get(case, ()))
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert URL in line
    assert "memory:/b" not in result.output
    assert digests(work) == before
    assert not (work / "new").exists()
    assert not (work / "memory:").exists()


CALLS: dict[str, Callable[[Any], Any]] = {
    "prepare annotations": lambda path: vclimb.prepare("raw", "new", annotations=[path]),
    "synth": lambda path: vclimb.synth(path),
    "contact sheet": lambda path: vclimb.open("data").contact_sheet(path),
    "pack": lambda path: vclimb.pack("data", path, budget="2v"),
    "pack sheet": lambda path: vclimb.pack("data", "new", budget="2v", sheet=path),
    "memory": lambda path: vclimb.Memory.open(path),
    "train": lambda path: vclimb.train("data", out=path),
    "plan config": lambda path: vclimb.plan("data", config=path),
    "run": lambda path: vclimb.Run.load(path),
    "run picture": lambda path: plot_run(None, path),  # type: ignore[arg-type]  # it is not reached
    "scenario": lambda path: vclimb.Scenario.open(path),
    "save a scenario": lambda path: vclimb.Scenario.from_dataset("data", tasks=2).save(path),
    "study": lambda path: vclimb.Study(path),
    "study result": lambda path: vclimb.StudyResult.load(path),
    "advise": lambda path: vclimb.advise("data", "4MB", path),
    "study report": lambda path: write_report("no study", path),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_calls_refuse_what_is_no_local_path(call: Callable[[Any], Any], work: Path) -> None:
    before = digests(work)
    refused = {
        URL: f"'{URL}' is a URL",
        "file:///tmp/x": "'file:///tmp/x' is a URL",
        "simplecache::s3://b/x": "'simplecache::s3://b/x' is a URL",
        Path("s3://bucket/x"): "the path 's3:/bucket/x' was made from a URL, 's3://bucket/x'; give a URL as text",
        "": "the path is empty",
        "a\0b": r"path 'a\x00b' holds a zero byte",
    }
    for path, words in refused.items():
        with pytest.raises(SettingsError) as caught:
            call(path)
        assert words in str(caught.value)
    assert digests(work) == before
    assert not (work / "new").exists()


def test_local_paths_with_colons_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("a:b/c", "./s3:/b", "C:", "12:30/x", "http:"):
        assert local_path(path) == Path(path)
    (tmp_path / "s3:").mkdir()
    assert local_path(Path("s3:/b")) == Path("s3:/b")  # such a folder is there


def test_open_refuses_the_path_that_a_url_became() -> None:
    with pytest.raises(SettingsError, match="was made from a URL, 's3://bucket/x'"):
        vclimb.open(Path("s3://bucket/x"))


def test_inspect_reads_a_data_set_by_url(work: Path, prepared: Path) -> None:
    files = fsspec.filesystem("memory")
    for file in prepared.iterdir():
        files.pipe(f"/bucket/inspected/{file.name}", file.read_bytes())
    url = "memory://bucket/inspected"
    assert run("inspect", url, "--json").stdout == run("inspect", "data", "--json").stdout
    drawn = run("inspect", url, "--contact-sheet", "url.png"), run("inspect", "data", "--contact-sheet", "local.png")
    assert [result.exit_code for result in drawn] == [0, 0]
    assert (work / "url.png").read_bytes() == (work / "local.png").read_bytes()
    explains(run("inspect", f"{url}/none"), f"make one with `vclimb prepare SOURCE --out {url}/none`")
    assert run("verify", url).exit_code == 0
