"""The conclusions and the terminal table of a benchmark's report."""

from __future__ import annotations

from typing import Any

import pytest

from vclimb.benchmark.report import BenchFigures, BenchReport, BenchRound
from vclimb.cli.bench import print_report
from vclimb.pipeline.stream.choose import Choice


def report_of(**changes: Any) -> BenchReport:
    """Make a report of given figures."""
    facts: dict[str, Any] = {
        "dataset": "data",
        "codec": "jpeg",
        "n_instances": 12345,
        "device": "NVIDIA H100 80GB HBM3",
        "n_cores": 16,
        "model": "resnet34.tv_in1k",
        "batch_clips": 64,
        "clip_frames": 8,
        "size_pixels": 224,
        "figure_seconds": 5.0,
        "results": {},
        "failed": {},
        "skipped": {},
        "auto": Choice("dali", "of the weather"),
    }
    return BenchReport(**{**facts, **changes})


def figures_of(decoder: float, model: float, fed: float) -> BenchFigures:
    """One round."""
    return BenchFigures((BenchRound(decoder, model, fed),))


@pytest.mark.parametrize(
    ("figures", "slower_alone", "binds"),
    [
        (figures_of(4000, 1000, 1000), "model", "model"),
        (figures_of(4000, 1000, 960), "model", "model"),
        (figures_of(4000, 1000, 900), "model", "data"),
        (figures_of(300, 1000, 290), "decoder", "data"),
        (figures_of(999, 1000, 1000), "decoder", "data"),
    ],
)
def test_what_binds_follows_from_the_figures(figures: BenchFigures, slower_alone: str, binds: str) -> None:
    assert (figures.slower_alone, figures.binds) == (slower_alone, binds)


def test_a_disturbed_round_does_not_count_but_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    figures = BenchFigures((BenchRound(4000, 1000, 990), BenchRound(4100, 100, 98), BenchRound(40, 1010, 1010)))
    assert figures.decoder_clips_per_second == 4000
    assert figures.model_clips_per_second == 1000
    assert figures.fed_clips_per_second == 990
    assert figures.fed_per_model == 0.99  # of the first round, not of medians of different ones
    rough = report_of(results={"dali": figures})
    assert rough.model_spread == 10.1
    print_report(rough, False)
    assert "up to 10.1 times as fast in one round as in another" in capsys.readouterr().out
    print_report(report_of(results={"dali": figures_of(1, 2, 3)}), False)
    assert "times as fast" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cpu", "dali", "fastest"), [(900, 990, "dali"), (990, 950, "dali"), (990, 900, "cpu"), (100, None, "cpu")]
)
def test_another_decoder_is_recommended_where_it_is_faster_by_more_than_chance(
    capsys: pytest.CaptureFixture[str], cpu: float, dali: float | None, fastest: str
) -> None:
    fed = {"cpu": cpu, "dali": dali}
    results = {decoder: figures_of(4000, 1000, clips) for decoder, clips in fed.items() if clips is not None}
    report = report_of(results=results)
    assert report.fastest == report.to_json()["fastest"] == fastest
    print_report(report, False)
    is_recommended = "10% faster with --decoder cpu" in capsys.readouterr().out
    assert is_recommended == (fastest == "cpu" and dali is not None)


def test_the_table_fits_80_columns_and_says_what_binds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    results = {
        "dali": figures_of(123456.7, 23456.7, 23400.1),
        "dali-kernels": figures_of(2345, 23456.7, 2299),
        "cpu": figures_of(1234, 12.34, 0.5123),
    }
    print_report(report_of(results=results, failed={"broken": "[boom] " * 9}, skipped={"y": "no"}), True)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("clips/s"))
    table = lines[start : start + 6]
    assert max(map(len, table)) <= 80
    assert [line.split() for line in table] == [
        ["clips/s", "data", "alone", "model", "alone", "training", "fed", "fed/model", "what", "binds"],
        ["dali", "123,457", "23,457", "23,400", "1.00", "the", "model"],
        ["dali-kernels", "2,345", "23,457", "2,299", "0.10", "the", "data"],
        ["cpu", "1,234", "12.3", "0.512", "0.04", "the", "data"],
        ["broken", "failed"],
        ["y", "skipped"],
    ]
    assert lines[start + 6 :][:6] == [
        "dali: the model binds; it takes 23,457 clips/s and 123,457 can come",
        "dali-kernels: the data binds; 2,345 clips/s come and the model would take 23,457",
        "cpu: the data binds; 1,234 clips/s can come and the model takes 12.3, but together training loses 96%",
        f"broken: failed: {'[boom] ' * 9}".rstrip(),
        "y: skipped: no",
        "--decoder auto takes dali: of the weather",
    ]
