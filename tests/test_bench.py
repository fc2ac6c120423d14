"""`vclimb bench`: every figure is there, the verdict follows from the figures, and what goes wrong is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
import torch
from dataset_cases import RunningCommand, make_source, prepare_table
from stream_cases import damage
from typer.testing import CliRunner, Result

import vclimb.benchmark.bench
from vclimb.benchmark.bench import BenchSettings, measure, rate, usable_decoders
from vclimb.benchmark.report import BenchFigures, BenchReport, BenchRound
from vclimb.cli.main import app
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import DECODERS, Choice, choose_decoder, open_stream
from vclimb.pipeline.stream.clip_stream import ClipStream

MODEL = "test_resnet.r160_in1k"
TINY = (
    "--backbone",
    MODEL,
    "--size",
    "32",
    "--clip-frames",
    "2",
    "--batch-size",
    "2",
    "--seconds",
    "0.05",
    "--device",
    "cpu",
)
CPU = torch.device("cpu")
PRESENT = set(usable_decoders(("auto",), "jpeg", CPU)[0])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's threads wait for each other, for seconds where other tests use the same cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the command in a process of its own
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prepared_in(folder: Path, codec: str) -> Path:
    source = make_source(folder / "source", classes=2, videos_per_class=1)
    prepare_table(read_source(source), folder / codec, codec=codec)
    return folder / codec


@pytest.fixture(scope="module")
def jpeg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_in(tmp_path_factory.mktemp("jpeg"), "jpeg")


@pytest.fixture(scope="module")
def h264_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_in(tmp_path_factory.mktemp("h264"), "h264")


def run(*arguments: str | Path) -> Result:
    """Run the command in this process, which also decodes unless `--workers` is given."""
    options = arguments if "--workers" in arguments else (*arguments, "--workers", "0")
    return CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(app, ["bench", *map(str, options)])


# What is measured


def test_every_decoder_is_reported_with_all_its_figures(jpeg_folder: Path) -> None:
    result = run(jpeg_folder, *TINY, "--workers", "1", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report.keys() == {*(field.name for field in fields(BenchReport)), "fastest", "model_spread"}
    assert report["results"].keys() | report["skipped"].keys() == set(DECODERS) - {"auto"}
    assert report["results"].keys() == PRESENT
    assert report["failed"] == {}
    for figures in report["results"].values():
        decoder, model, fed = (figures[f"{name}_clips_per_second"] for name in ("decoder", "model", "fed"))
        assert len(figures["rounds"]) == 3
        assert min(min(bench_round.values()) for bench_round in figures["rounds"]) > 0
        assert figures == BenchFigures(tuple(BenchRound(**bench_round) for bench_round in figures["rounds"])).to_json()
        assert figures["slower_alone"] == ("decoder" if decoder < model else "model")
        assert figures["binds"] == ("data" if decoder < model or figures["fed_per_model"] < 0.95 else "model")
        assert fed in [bench_round["fed_clips_per_second"] for bench_round in figures["rounds"]]
    assert report["fastest"] in PRESENT
    auto = choose_decoder("auto", "jpeg", CPU)
    assert report["auto"] == {"decoder": auto.decoder, "reason": auto.reason}
    dataset = StoredDataset.open(jpeg_folder)
    assert (report["dataset"], report["codec"], report["n_instances"]) == (dataset.name, "jpeg", 2)
    names = ("model", "size_pixels", "clip_frames", "batch_clips", "figure_seconds", "device")
    assert [report[name] for name in names] == [f"tsn ({MODEL})", 32, 2, 2, 0.05, "cpu"]
    assert report["n_cores"] == len(os.sched_getaffinity(0))


def test_any_network_is_measured(jpeg_folder: Path) -> None:
    result = run(jpeg_folder, *TINY, "--network", "r2plus1d_18", "--decoder", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == "r2plus1d_18"


def test_figures_come_one_after_the_other_and_a_gpuless_batch_is_small(jpeg_folder: Path) -> None:
    figures: list[tuple[str, int, int]] = []
    settings = BenchSettings(1, 32, None, "tsn", MODEL, ("cpu",), 0, 0.01, "cpu")
    report = measure(StoredDataset.open(jpeg_folder), settings, lambda *figure: figures.append(figure))
    assert [(done, total) for _, done, total in figures] == [(done, 9) for done in range(9)]
    assert [figure for figure, _, _ in figures] == ["cpu: model alone", "cpu: data alone", "cpu: training fed"] * 3
    assert report.results.keys() == {"cpu"}
    assert report.skipped == report.failed == {}
    assert report.batch_clips == max(2, len(os.sched_getaffinity(0)))


def test_a_rate_is_that_of_a_step_at_least_and_of_as_many_as_the_time_holds() -> None:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 5

    assert rate(step, 1e-9, CPU) > 0
    assert steps == 1
    assert rate(step, 0.05, CPU) > 0
    assert steps > 2


def test_a_decoder_that_the_codec_excludes_is_skipped_with_its_reason(h264_folder: Path) -> None:
    usable, skipped = usable_decoders(("auto",), "h264", CPU)
    assert "cpu" in usable
    assert {*usable, *skipped} == set(DECODERS) - {"auto"}
    result = run(h264_folder, *TINY, "--decoder", "auto", "--decoder", "cpu")
    assert result.exit_code == 0, result.output
    for decoder, reason in skipped.items():
        assert f"{decoder}: skipped: {reason}\n" in result.stdout
        assert [line.split() for line in result.stdout.splitlines() if line.startswith(f"{decoder} ")] == [
            [decoder, "skipped"]
        ]
    assert "\n--decoder auto takes cpu: h264 is decoded" in result.stdout


# What goes wrong


def test_a_decoder_that_fails_is_a_row_and_the_others_go_on(jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cpu(
        provider: ClipProvider, codec: str, settings: StreamSettings, device: torch.device, decoder: str, workers: int
    ) -> tuple[ClipStream, Choice]:
        if decoder == "cpu" and settings.on_bad_frame == "raise":  # not while the model's batch is decoded
            raise RuntimeError("the cores\nare on strike [bold]")
        return open_stream(provider, codec, settings, device, decoder, workers)

    monkeypatch.setattr(vclimb.benchmark.bench, "open_stream", without_cpu)
    result = run(jpeg_folder, *TINY)
    assert result.exit_code == 1
    assert "\ncpu: failed: RuntimeError: the cores are on strike [bold]\n" in result.stdout
    result = run(jpeg_folder, *TINY, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["failed"] == {"cpu": "RuntimeError: the cores are on strike [bold]"}
    assert report["results"].keys() == PRESENT - {"cpu"}


def test_a_damaged_frame_is_named_by_the_decoder_that_meets_it(jpeg_folder: Path, tmp_path: Path) -> None:
    video = StoredDataset.open(jpeg_folder).videos[0]
    places = [damage(jpeg_folder, tmp_path / "0", video.key, 0)]
    for frame in range(1, video.n_frames):
        places.append(damage(tmp_path / str(frame - 1), tmp_path / str(frame), video.key, frame))
    result = run(tmp_path / str(video.n_frames - 1), *TINY, "--decoder", "cpu", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["results"] == {}
    assert report["fastest"] is None
    assert any(report["failed"]["cpu"].startswith(place) for place in places)


BAD_VALUES = {
    "decoder": (["--decoder", "nvdec"], "decoder 'nvdec' is not known; allowed: auto, "),
    "device": (["--device", "tpu"], "device 'tpu' is not known; allowed: auto, cuda, cpu"),
    "seconds": (["--seconds", "0"], "seconds 0 is out of range; allowed: above 0, up to 3600"),
    "seconds nan": (["--seconds", "nan"], "seconds nan is out of range; allowed: above 0, up to 3600"),
    "workers": (["--workers", "-1"], "workers -1 is out of range; allowed: 0 or more"),
    "frames": (["--clip-frames", "0"], "frames 0 is out of range; allowed: 1 or more"),
    "size": (["--size", "4"], "size 4 is out of range; allowed: 8 to 1024 px"),
    "batch": (["--batch-size", "0"], "batch size 0 is out of range; allowed: 1 or more"),
    "network": (["--network", "tsm2"], "network 'tsm2' is not known; did you mean 'tsm'?"),
    "frames of the network": (
        ["--network", "r2plus1d_18", "--clip-frames", "1"],
        "network r2plus1d_18 needs model.clip_frames 2 or more, not 1",
    ),
    "backbone": (["--backbone", "resnet0"], "model.backbone 'resnet0' is not known"),
    "size of the backbone": (
        ["--backbone", "vit_tiny_patch16_224"],
        "network tsn (vit_tiny_patch16_224) does not train on (2, 2, 3, 32, 32) frames",
    ),
    "one pixel left": (
        ["--size", "8", "--clip-frames", "1", "--batch-size", "1"],
        f"network tsn ({MODEL}) does not train on (1, 1, 3, 8, 8) frames",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_explained(jpeg_folder: Path, arguments: list[str], message: str) -> None:
    explains(run(jpeg_folder, *TINY, *arguments), message)


def test_missing_things_are_explained(jpeg_folder: Path, h264_folder: Path, tmp_path: Path) -> None:
    explains(run(tmp_path / "none", *TINY), f"{tmp_path / 'none'} is not a prepared data set (no dataset.json)")
    if not torch.cuda.is_available():
        explains(run(jpeg_folder, *TINY, "--device", "cuda"), "device cuda: torch sees no GPU on this machine; use cpu")
    for decoder, reason in usable_decoders(("auto",), "h264", CPU)[1].items():
        explains(run(h264_folder, *TINY, "--decoder", decoder), reason)


def explains(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in result.stderr


def test_ctrl_c_ends_the_command_and_its_workers(jpeg_folder: Path) -> None:
    running = RunningCommand("bench", jpeg_folder, *TINY, "--seconds", "0.3", "--decoder", "cpu", "--workers", "1")

    def a_worker_runs() -> bool:  # it looks like the fork server that it comes from
        with suppress(psutil.Error):  # what has ended by now
            return sum("forkserver" in " ".join(process.cmdline()) for process in running.family()) > 1
        return False

    assert running.wait_until(a_worker_runs)
    os.killpg(running.process.pid, signal.SIGINT)
    out, err = running.process.communicate(timeout=120)
    assert (running.process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "stopped. Nothing was changed."
    assert "Traceback" not in err
    assert running.wait_until_alone() == []


def test_help_imports_neither_torch_nor_what_comes_with_it() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom vclimb.cli.main import app\n"
        "for help in ['--help'], ['bench', '--help']:\n    assert CliRunner().invoke(app, help).exit_code == 0\n"
        "print({'torch', 'timm', 'nvidia.dali', 'vclimb.benchmark.bench'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
