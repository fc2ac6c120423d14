"""A pilot after the first task chooses how exemplars are encoded: its measures, whole runs, stops and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import run
from training_cases import comparable, events_of, read_metrics, tiny_config, write_config

from vclimb.memory.replay import ReplayMemory
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.errors import SettingsError
from vclimb.training import memory_pilot
from vclimb.training.config import RunConfig
from vclimb.training.memory_settings import candidate_settings
from vclimb.training.pilot_facts import CandidateFacts, PilotFacts, ranked
from vclimb.training.plan import plan_run
from vclimb.training.replay_probe import old_recall, video_folds
from vclimb.training.run import make_method, train

PILOTED = ("memory.budget=60kB", "memory.codec=pilot", "memory.frames=pilot", "training.epochs=2")


def test_the_probe_finds_what_tells_exemplars_from_original_clips() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    originals = 4 * np.eye(3)[labels] @ rng.normal(size=(3, 50)) + rng.normal(size=(60, 50))
    folds = video_folds(labels, [f"group {place // 2}" for place in range(60)])
    assert all(folds[place] == folds[place + 1] for place in range(0, 60, 2))
    noisy = originals + 0.3 * rng.normal(size=originals.shape)
    marked = originals + 8 * rng.normal(size=50)  # all exemplars share a shift
    recalls = [old_recall(originals, shown, labels, folds) for shown in (originals, noisy, marked)]
    assert recalls[0] == 1
    assert recalls[1] > 0.9
    assert recalls[2] < 0.5
    # Where a group holds a whole class, videos are left out one by one.
    assert video_folds(labels, [f"group {label}" for label in labels]).tolist() == [*range(5)] * 12
    assert len(np.unique(video_folds(labels, [None] * 60))) == 5


def test_a_score_weighs_how_many_videos_against_how_well_they_stand_for_the_originals() -> None:
    def candidate(videos: float, agreement: float = 1.0, recall: float = 1.0, size: float = 1000) -> CandidateFacts:
        return CandidateFacts("copy", 1, size, videos, agreement, recall)

    assert candidate(5).score == 0.5
    assert candidate(5, 0.8, 0.5).score == pytest.approx(0.5 * 0.64 * 0.5)
    assert candidate(0).score == 0
    best, larger, fewer = candidate(30), candidate(30, size=2000), candidate(29, size=3000)
    assert ranked([fewer, best, larger]) == (larger, best, fewer)  # where all videos fit, there is room for the larger
    facts = PilotFacts(12, 0.9, (candidate(30), candidate(10)))
    assert facts.reason.startswith("a pilot on 12 videos of the first task chose copy with 1 frame a video (score 0.86")
    assert "; next: copy" in facts.reason


@pytest.fixture(scope="module")
def piloted(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run whose encoding a pilot has chosen, with its settings."""
    config, out = tiny_config(synth_shards, "naive", *PILOTED), tmp_path_factory.mktemp("piloted") / "run"
    train(config, out, beginnings=out.parent / "beginnings")
    return config, out


def without_pilot(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "pilot"}


def test_a_run_is_that_of_the_encoding_which_its_pilot_chose(piloted: tuple[RunConfig, Path], tmp_path: Path) -> None:
    config, out = piloted
    metrics = read_metrics(out)
    assert metrics.pilot is not None
    names = {(one.codec, one.frames) for one in metrics.pilot.candidates}
    stills, tiny = ("copy", "jpeg:50"), ("h264:24", "h264:28", "h264:32")
    assert names == {(codec, 1) for codec in stills} | {(codec, 2) for codec in (*stills, *tiny)}
    scores = [one.score for one in metrics.pilot.candidates]
    assert scores == sorted(scores, reverse=True)
    assert metrics.pilot.videos == 8  # two classes of four training videos
    (copied,) = (one for one in metrics.pilot.candidates if (one.codec, one.frames) == ("copy", 2))
    assert (copied.agreement, copied.recall) == (1, 1)  # clips of two frames are kept as they are
    chosen = metrics.pilot.chosen
    assert metrics.codec == chosen.codec
    assert {stored.encoding for stored in MemoryStore.open(out / "memory.zarr").classes.values()} == {chosen.codec}
    assert metrics.memory is not None
    assert metrics.memory.frames == metrics.memory.videos * int(chosen.frames)
    (event,) = (event for event in events_of(out) if event["event"] == "pilot")
    assert event["text"] == metrics.pilot.reason
    assert not (out / "pilot.zarr").exists()
    shown = run("show", str(out)).stdout
    assert "read alike" in shown
    assert "a pilot on 8 videos of the first task chose" in " ".join(shown.split())
    # The same encoding as a setting gives the same run, from the same beginning: no choice is in that.
    memory = config.memory.replaced(codec=chosen.codec, frames=chosen.frames)
    train(config.replaced(memory=memory), tmp_path / "fixed", beginnings=out.parent / "beginnings")
    fixed = read_metrics(tmp_path / "fixed")
    assert fixed.tasks[0].taken_from is not None
    assert fixed.pilot is None
    assert without_pilot(comparable(fixed)) == without_pilot(comparable(metrics))


@pytest.mark.parametrize("moment", ["within the pilot", "after the memory's first update"])
def test_a_stopped_run_has_the_same_choice(
    moment: str, piloted: tuple[RunConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = piloted
    whole, updates = ReplayMemory.update, [0]

    def stopping(memory: ReplayMemory, *arguments: Any, **more: Any) -> Any:
        report = whole(memory, *arguments, **more)
        updates[0] += 1
        if memory.path.name == "memory.zarr" or (moment == "within the pilot" and updates[0] == 2):
            raise KeyboardInterrupt
        return report

    with monkeypatch.context() as patch:
        patch.setattr(ReplayMemory, "update", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        if moment != "within the pilot":
            patch.setattr(memory_pilot, "compare_encodings", lambda *_: pytest.fail("the pilot has run before"))
        train(config, tmp_path / "run", resume=True)
    assert comparable(read_metrics(tmp_path / "run")) == comparable(read_metrics(out))


def test_candidates_fit_the_data_set_and_leave_what_is_given() -> None:
    def names(stored: str, *more: str) -> list[tuple[str, int | str]]:
        config = tiny_config(Path("any"), "naive", *PILOTED, "model.clip_frames=8", *more)
        return [(one.codec, one.frames) for one in candidate_settings(config, make_method(config), stored)]

    tiny = [("h264:24", 8), ("h264:28", 8), ("h264:32", 8)]
    assert names("h264", "memory.frames=8") == [("jpeg:75", 8), ("jpeg:50", 8), *tiny]
    assert names("jpeg", "memory.codec=auto") == [("copy", 1), ("copy", 2), ("copy", 4), ("copy", 8)]
    assert names("h264", "memory.codec=auto") == [("h264:24", count) for count in (1, 2, 4, 8)]
    assert names("jpeg", "memory.frames=2") == [("copy", 2), ("jpeg:50", 2), *((codec, 2) for codec, _ in tiny)]
    assert len(names("jpeg")) == 14


REFUSED = {
    "videos": (("memory.budget=12v",), "codec is pilot, and a pilot can't choose: memory.budget 12v counts no bytes"),
    "memory first": (("method.name=gdumb",), "method gdumb fills the memory before the network has learned a task"),
    "features": (("method.name=features",), "method features replays features in place of frames"),
    "one class": (("scenario.tasks=6",), "that task has one class"),
    "down-sampled": (("consistency.weight=0.5",), "give consistency.frames; or give memory.codec a value"),
}


@pytest.mark.parametrize(("more", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_pilot_can_choose_is_refused(more: tuple[str, ...], message: str, synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        plan_run(tiny_config(synth_shards, "naive", *PILOTED, *more))


def test_a_plan_says_what_it_can_not_know(synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, "naive", *PILOTED)
    plan = plan_run(config)
    assert plan.bytes_from.endswith(
        "encoded as copy with 1 frames; a pilot after the first task chooses, so that they may differ"
    )
    shown = run(
        "train", "--config", str(write_config(config, tmp_path)), "--codec", "h264:28", "--frames", "pilot", "--dry-run"
    )
    assert "encoded as h264:28 with 1 frames" in " ".join(shown.stdout.split())
