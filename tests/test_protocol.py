"""The choice between what the papers say and what the benchmark's released code computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vclimb.pipeline.errors import SettingsError
from vclimb.protocol import PAPER, RELEASED, Differences
from vclimb.study.axes import setting_name
from vclimb.training.config import make_config, read_config


def test_a_protocol_chooses_all_differences() -> None:
    assert make_config({"data": "x"}).resolved_differences == PAPER
    assert make_config({"data": "x", "protocol": "released"}).resolved_differences == RELEASED
    paper, released = dict(PAPER), dict(RELEASED)
    assert [name for name in paper if paper[name] == released[name]] == []


@pytest.mark.parametrize("name", Differences.model_fields)
def test_a_table_chooses_single_differences(name: str, tmp_path: Path) -> None:
    released = dict(RELEASED)[name]
    config = make_config({"data": "x", "differences": {name: released}})
    assert config.resolved_differences == PAPER.replaced(**{name: released})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), "utf-8")
    assert read_config(path).resolved_differences == config.resolved_differences
    assert setting_name(f"differences.{name}") == f"differences.{name}"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"segment": "exact"}, "setting 'differences.segment' is not known; did you mean 'segments'"),
        ({"segments": "halves"}, "setting 'differences.segments' is 'halves'; allowed: exact, whole-frames"),
    ],
)
def test_unknown_differences_are_refused(table: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_config({"data": "x", "differences": table})


def test_an_axis_of_an_unknown_difference_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"did you mean 'differences\.segments'"):
        setting_name("differences.segment")


def test_each_difference_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text("utf-8")
    assert [name for name in Differences.model_fields if f"`{name}`" not in text] == []
