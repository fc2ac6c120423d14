"""Settings of a run: tables, files and assignments, and errors that suggest what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import flat, merged, parse_assignment
from vclimb.training.config import RunConfig, make_config, read_config
from vclimb.training.presets import preset_names, preset_table

DATA = {"data": "shards/x"}


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("trainin.epochs=3", "setting 'trainin' is not known; did you mean 'training'?"),
        ("training.epoch=3", "setting 'training.epoch' is not known; did you mean 'epochs'?"),
        ("training.epochs=-1", "setting 'training.epochs' is -1, out of range; allowed: 0 to 100000"),
        ("training.epochs=many", "setting 'training.epochs' is 'many'; allowed: a whole number"),
        ("training.epochs=1.5", "setting 'training.epochs' is 1.5; allowed: a whole number"),
        ("training.optimizer=adam", "setting 'training.optimizer' is 'adam'; allowed: sgd, adagrad, adamw"),
        ("training=3", "setting 'training' is 3; it needs a table of settings"),
        ("scenario.tasks=0", "setting 'scenario.tasks' is 0, out of range; allowed: at least 1"),
        ("scenario.test_share=1", "setting 'scenario.test_share' is 1, out of range; allowed: above 0 and below 1"),
        ("model.dropout=1", "setting 'model.dropout' is 1, out of range"),
        ("memory.frames=some", "setting 'memory.frames' is 'some'; allowed: a whole number or all"),
        ("memory.budget=2020", "setting 'memory.budget' is 2020; allowed: a text"),
        ('memory.budget="2020"', "budget '2020' is not understood"),
        ("memory.codec=h246:24", "codec 'h246:24' is not known; did you mean h26"),
        ("consistency.weight=1.5", "setting 'consistency.weight' is 1.5, out of range; allowed: 0 to 1"),
        ("method.name=icrl", "method 'icrl' is not known; did you mean 'icarl'?"),
        ("method.strength=3", "setting 'method.strength' is not known; allowed: align"),
        ('method={name="finetune", align=true}', "setting 'method.align' is not known; allowed: none"),
        ("protocol=papers", "setting 'protocol' is 'papers'; allowed: paper, released"),
        ("training.epochs", "--set 'training.epochs' is no assignment; write key=value"),
        ("=3", "is no assignment"),
        ("compute.workers=true", "setting 'compute.workers' is True; allowed: a whole number"),
    ],
)
def test_errors_name_setting_value_and_allowed_values(assignment: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        make_config(DATA, parse_assignment(assignment))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_run_needs_data() -> None:
    with pytest.raises(SettingsError, match="no data set was given"):
        make_config({})


def test_later_tables_win_at_every_depth() -> None:
    config = make_config(DATA, {"training": {"epochs": 3, "batch_size": 7}}, {"training": {"epochs": 4}}, {"seed": 9})
    assert (config.training.epochs, config.training.batch_size, config.seed) == (4, 7, 9)


def test_method_may_be_given_as_a_name() -> None:
    assert make_config(DATA, {"method": "ewc"}).method == {"name": "ewc"}


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("a.b=3", {"a": {"b": 3}}),
        ("a=all", {"a": "all"}),
        ("a = 0.5", {"a": 0.5}),
        ("a=true", {"a": True}),
        ('a="3"', {"a": "3"}),
        ("a=x=y", {"a": "x=y"}),
        ("a=", {"a": ""}),
        ("a=[1, 2]", {"a": [1, 2]}),
    ],
)
def test_assignments(text: str, table: dict[str, Any]) -> None:
    assert parse_assignment(text) == table


configs = st.builds(
    lambda epochs, rate, frames, budget, weight, seed, codec, workers: make_config(
        DATA,
        {
            "method": {"name": "icarl", "over_classes": "mean"},
            "seed": seed,
            "training": {"epochs": epochs, "learning_rate": rate},
            "memory": {"frames": frames, "budget": budget, "codec": codec},
            "consistency": {"weight": weight},
            "compute": {} if workers is None else {"workers": workers},
        },
    ),
    st.integers(1, 1000),
    st.floats(1e-9, 10),
    st.one_of(st.just("all"), st.integers(1, 64)),
    st.sampled_from(["2020v", "16160f", "64MB", "none", "all"]),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.sampled_from(["copy", "jpeg:75@128", "raw"]),
    st.one_of(st.none(), st.integers(0, 64)),
)


@given(config=configs)
def test_settings_come_back_from_their_file(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("settings") / "config.toml"
    path.write_text(config.to_toml(), "utf-8")
    assert read_config(path) == config
    assert read_config(path).to_toml() == config.to_toml()


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(SettingsError, match="are not TOML"):
        read_config(tmp_path / "bad.toml")


@pytest.mark.parametrize("name", [name for name in preset_names() if "-like" not in name])
def test_every_preset_is_a_run(name: str) -> None:
    config = make_config(DATA, preset_table(name))
    assert config.training.clip_norm == 20
    replays = config.method["name"] in ("naive", "icarl", "bic")
    videos = {"ucf101": "2020v", "kinetics": "8000v"}.get(name.split("-")[0], "4000v")
    assert config.memory.budget == (videos if replays else "none")
    assert config.consistency.weight == (0.5 if name.endswith("+tc") else 0)


def test_presets_hold_the_published_numbers() -> None:
    ewc = make_config(DATA, preset_table("ucf101-10/ewc"))
    assert (ewc.training.optimizer, ewc.training.epochs, ewc.training.batch_size) == ("adagrad", 30, 64)
    assert ewc.method == {"name": "ewc", "strength": 3000.0}
    mas = make_config(DATA, preset_table("kinetics-20/mas"))
    assert (mas.training.epochs, mas.method["strength"]) == (20, 3e5)
    icarl = make_config(DATA, preset_table("ucf101-10/icarl"))
    assert (icarl.training.optimizer, icarl.training.epochs, icarl.training.batch_size) == ("sgd", 50, 50)
    assert icarl.training.select == "best"
    bic = make_config(DATA, preset_table("activitynet-untrim-10/bic"))
    assert bic.scenario.untrimmed
    assert bic.training.select == "best-reported"


def test_reconstructions_keep_fewer_frames_of_more_videos() -> None:
    smile = make_config(DATA, preset_table("ucf101-10/smile-like"))
    assert (smile.method["name"], smile.memory.budget, smile.memory.frames) == ("naive", "8080v", 1)
    assert (smile.consistency.weight, smile.consistency.frames) == (0.5, 1)
    snro = make_config(DATA, preset_table("kinetics-20/snro-like"))
    assert (snro.method["name"], snro.memory.budget, snro.memory.frames) == ("naive", "16000v", 4)
    assert [snro.training.epochs_of(task) for task in range(3)] == [50, 25, 25]
    assert make_config(DATA, preset_table("ucf101-20/snro-like+tc")).consistency.weight == 0.5
    assert "ucf101-10/smile-like+tc" not in preset_names()


def test_unknown_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="did you mean 'ucf101-10/icarl'"):
        preset_table("ucf101-10/icar")


@given(
    st.recursive(
        st.integers(),
        lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        max_leaves=8,
    ).filter(lambda tree: isinstance(tree, dict))
)
def test_merging_with_itself_changes_nothing(tree: Any) -> None:
    assert merged(tree, tree) == tree
    assert merged({}, tree) == tree
    assert all(not isinstance(value, dict) for value in flat(tree).values())
