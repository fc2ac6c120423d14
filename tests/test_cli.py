"""The command line: its flags, its help, and one line for each error."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from dataset_cases import make_source, prepare_table, vclimb
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from vclimb import __version__
from vclimb.cli.console import explain_errors, plain
from vclimb.cli.main import app
from vclimb.pipeline.sources import read_source

# Every flag of every command. A change here breaks the scripts of users.
FLAGS = {
    "prepare": "source --out -o --layout --annotations --columns --codec --quality --b-frames --short-side --fps "
    "--max-frames --keep-truncated --no-keep-truncated --shard-size --workers --limit --retry-failed "
    "--no-retry-failed --timeout --allow-outside --no-allow-outside --executor --ray-address --by-node --no-by-node "
    "--json",
    "verify": "dataset --decode --no-decode --workers --json",
    "inspect": "dataset --contact-sheet --columns --json",
    "synth": "folder --classes --train --test --seed --told-apart-by --json",
    "bench": "dataset --clip-frames --size --batch-size --network --backbone --decoder --workers --seconds --device "
    "--peers --json",
    "train": "data --out -o --scenario --tasks --split --method --budget --frames --codec --tc --epochs --seed "
    "--weights --compile --preset --config --set --allow-missing --resume --beginnings --dry-run --json",
    "show": "run --png --json",
    "study run": "study --data --out -o --axis --set --budgets --equal --jobs --jobs-per-gpu --gpus --executor "
    "--ray-address --only --limit --retry-failed --no-beginnings --dry-run --rate --json",
    "study report": "study --out -o --json",
    "study plan": "--budget --data --codecs --frames --methods --set --rebalance --no-rebalance --sample --json",
    "study advise": "--data --budget --out -o --tasks --epochs --seeds --set --config --device --jobs --gpus "
    "--retry-failed --json",
    "memory show": "memory --png --verify --json",
    "memory pack": "dataset --budget --out -o --frames --codec --videos --frame-choice --rebalance --no-rebalance "
    "--seed --split --quality --png --json",
    "scenario show": "scenario --data --untrimmed --json",
    "scenario export": "source --out -o --tasks --base --step --seed --split --test-share --untrimmed --json",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("raw") / "source", classes=2, videos_per_class=1)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare_table(read_source(source), out)
    return out


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, [*map(str, arguments)])


def commands() -> dict[str, Any]:
    """All commands, those of a group by two words."""
    top: Any = typer.main.get_command(app)
    by_name: dict[str, Any] = {}
    for name, command in top.commands.items():
        within = getattr(command, "commands", None)
        by_name |= {name: command} if within is None else {f"{name} {sub}": command for sub, command in within.items()}
    return by_name


def test_flags_are_frozen() -> None:
    flags = {
        name: {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands().items()
    }
    assert flags == {name: set(words.split()) for name, words in FLAGS.items()}


@pytest.mark.parametrize("name", FLAGS)
def test_help_of_a_command_names_every_flag(name: str) -> None:
    for help_flag in ("--help", "-h"):
        result = run(*name.split(), help_flag)
        assert (result.exit_code, result.stderr) == (0, "")
        for word in FLAGS[name].split():
            if word.startswith("-") and not word.startswith("--no-"):  # rich cuts these short
                assert word in result.stdout
    for parameter in commands()[name].params:
        assert parameter.help, f"{name} {parameter.name} has no help"


def test_ctrl_c_while_the_command_is_still_loading_is_no_traceback() -> None:
    program = (
        "import signal, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'vclimb.pipeline.errors':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from vclimb.cli.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (
        130,
        "",
        "stopped. Nothing was begun: give the same command again.\n",
    )


def test_help_version_and_no_arguments() -> None:
    done = vclimb("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in {name.split()[0] for name in FLAGS}:
        assert re.search(rf"\b{name}\b", done.stdout)
    assert run("--version").stdout == f"vclimb {__version__}\n"
    assert "Usage: " in run().output


BAD_VALUES = {
    "codec": (["--codec", "av1"], "codec 'av1' is not known; allowed: jpeg, h264"),
    "quality": (["--quality", "1"], "quality 1 is out of range; jpeg takes 2 (best) to 31"),
    "quality 0": (["--quality", "0"], "quality 0 is out of range; jpeg takes 2 (best) to 31"),
    "b-frames of jpeg": (["--b-frames", "2"], "b frames 2 is out of range; jpeg has none"),
    "b-frames of h264": (["--codec", "h264", "--b-frames", "11"], "b frames 11 is out of range; h264 takes 0 to 10"),
    "quality of h264": (
        ["--codec", "h264", "--quality", "52"],
        "quality 52 is out of range; h264 takes 0 (best) to 51",
    ),
    "short side": (["--short-side", "0"], "short side 0 is out of range; allowed: 16 to 8192 px"),
    "fps": (["--fps", "fast"], "fps 'fast' is not a number; write e.g. 12, 29.97 or 30000/1001"),
    "fps 0": (["--fps", "0"], "fps 0 is out of range; allowed: above 0, up to 240"),
    "max frames": (["--max-frames", "0"], "max frames 0 is out of range; allowed: 1 or more"),
    "shard size": (
        ["--shard-size", "big"],
        "size 'big' is not understood; write a number and a unit, e.g. 256MB or 1GiB",
    ),
    "workers": (["--workers", "0"], "workers 0 is out of range; allowed: 1 or more"),
    "limit": (["--limit", "-1"], "limit -1 is out of range; allowed: 1 or more"),
    "timeout": (["--timeout", "0"], "timeout 0 is out of range; allowed: above 0 s"),
    "timeout nan": (["--timeout", "nan"], "timeout nan is out of range; allowed: above 0 s"),
    "layout": (["--layout", "hmdb"], "layout 'hmdb' is not known; did you mean 'hmdb51'? allowed: auto, "),
    "columns": (["--columns", "label"], "--columns 'label' is not understood; write OURS=THEIRS, e.g. label=class"),
    "annotations": (["--annotations", "none.json"], "annotations 'none.json' are not there"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_explained_and_nothing_is_written(
    source: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run("prepare", source, "--out", tmp_path / "out", *arguments)
    explains(result, message)
    assert list(tmp_path.iterdir()) == []


def explains(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert isinstance(result.exception, SystemExit)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert result.stderr.splitlines()[-1] == line


def test_missing_places_are_explained(source: Path, tmp_path: Path) -> None:
    explains(run("prepare", tmp_path / "none", "--out", tmp_path / "out"), f"source '{tmp_path / 'none'}' is not there")
    (tmp_path / "empty").mkdir()
    explains(run("prepare", tmp_path / "empty", "--out", tmp_path / "out"), str(tmp_path / "empty"))
    for command in ("verify", "inspect"):
        explains(run(command, tmp_path / "none"), f"{tmp_path / 'none'} is not a prepared data set (no dataset.json)")
        explains(run(command, source), f"{source} is not a prepared data set (no dataset.json)")
    explains(run("prepare", source, "--out", source), "holds files that are not a data set")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_other_format_version_is_explained(prepared: Path, tmp_path: Path) -> None:
    header = (prepared / "dataset.json").read_text().replace('"format_version": 3', '"format_version": 1')
    (tmp_path / "dataset.json").write_text(header)
    for command in ("verify", "inspect"):
        explains(run(command, tmp_path), "has format version 1; this vclimb reads version 3")
    (tmp_path / "dataset.json").write_text(header.replace('"format_version": 1', '"format_version": 3') + "x")
    explains(run("inspect", tmp_path), "dataset.json of")


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare"],
        ["prepare", "SOURCE"],
        ["prepare", "SOURCE", "--out", "x", "--nonsense"],
        ["prepare", "SOURCE", "--out", "x", "--workers", "two"],
        ["verify"],
        ["verify", "x", "--workers", "0"],
        ["inspect", "x", "--columns", "0"],
        ["inspect", "x", "--columns", "33"],
        ["nonsense"],
    ],
)
def test_wrong_usage_has_status_2(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert "Error" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_prepared_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "source" / "class").mkdir(parents=True)
    (tmp_path / "source" / "class" / "[red]v.mp4").write_text("no video")
    done = vclimb("prepare", tmp_path / "source", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "class/[red]v.mp4: probe: " in done.stdout
    assert done.stdout.splitlines()[-1] == "nothing could be prepared"
    assert (tmp_path / "out" / "errors.jsonl").stat().st_size


def test_no_ffmpeg_is_explained(source: Path, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "VCLIMB_FFMPEG": str(tmp_path / "ffmpeg")}
    done = vclimb("prepare", source, "--out", tmp_path / "out", env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: '{tmp_path / 'ffmpeg'}' does not run as an ffmpeg" in done.stderr
    assert "set VCLIMB_FFMPEG" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_crash(prepared: Path) -> None:
    for arguments in (["inspect", prepared], ["inspect", prepared, "--json"], ["verify", prepared]):
        reader, writer = os.pipe()
        os.close(reader)
        done = vclimb(*arguments, stdout=writer, stderr=subprocess.PIPE, capture_output=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")


@settings(deadline=None, max_examples=100)
@given(
    st.text(st.sampled_from("ab[]/\\:#@= 😀é")),
    st.sampled_from(["{}", "({})", "[bold]{}[/]", "[bold]{}[/]: {}", "{}{}"]),
)
def test_text_is_printed_unchanged(text: str, template: str) -> None:
    console = Console(file=io.StringIO(), soft_wrap=True, highlight=False, emoji=False, width=500)
    console.print(template.format(plain(text), plain(text)), end="")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == template.replace("[bold]", "").replace("[/]", "").format(text, text)


def test_control_characters_do_not_reach_the_terminal() -> None:
    shown = plain("a\x1b]0;title\x07\nb\x7f\x9b31m\udce9\tc")
    assert shown == r"[none]a\x1b]0;title\x07\nb\x7f\x9b31m\udce9\tc[/none]"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_a_lock_counts_as_an_interrupt(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's `Condition` raises this where a KeyboardInterrupt comes while it releases its lock."""

    def work() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("release unlocked lock") from None

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(typer.Exit) as ended:
        explain_errors(work, "Nothing was changed.")
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "stopped. Nothing was changed.\n"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_an_error_that_no_interrupt_brought_is_not_hidden() -> None:
    def work() -> None:
        raise RuntimeError("release unlocked lock")

    with pytest.raises(RuntimeError, match="release unlocked lock"):
        explain_errors(work)
