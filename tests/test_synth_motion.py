"""The built-in data set that motion tells apart: all classes of a scene show the same frames in different orders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclimb.pipeline.clips.sampling import segment_centres
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.synth.dataset import MAX_SEED, SynthSettings, frames_digest, synth
from vclimb.pipeline.synth.render import Frames, render_clip
from vclimb.pipeline.synth.scenes import SPLITS, Clip
from vclimb.pipeline.synth.trajectories import TRAJECTORIES, TRAJECTORY_NAMES


def clips_of_a_scene(seed: int, split: str, index: int) -> list[Clip]:
    return [Clip(seed, number, split, index, "motion") for number in range(len(TRAJECTORIES))]


def frame_counts(frames: Frames) -> Counter[str]:
    return Counter(frames_digest(frame[None]) for frame in frames)


@given(st.integers(0, MAX_SEED), st.sampled_from(SPLITS), st.integers(0, 50))
@settings(deadline=None, max_examples=5)
def test_all_classes_of_a_scene_consist_of_the_same_frames(seed: int, split: str, index: int) -> None:
    """So whatever reads single frames, or all of them without their order, can't tell the class."""
    clips = clips_of_a_scene(seed, split, index)
    videos = [render_clip(clip) for clip in clips]
    counts = frame_counts(videos[0])
    assert max(counts.values()) == 1  # every frame differs from the others, so the order can be seen
    assert all(frame_counts(video) == counts for video in videos[1:])
    assert len({frames_digest(video) for video in videos}) == len(TRAJECTORIES)
    assert len({(clip.scene().rate, clip.n_frames()) for clip in clips}) == 1


@pytest.mark.parametrize("n_frames", [12, 25, 48, 75])
def test_the_frames_that_a_network_sees_show_the_order(n_frames: int) -> None:
    """At 8 segment centres every class shows another sequence, and half of the frames are of each object's motion."""
    seen = segment_centres(np.array([n_frames]), 8)[0]
    shown = {tuple(np.array(trajectory.states(n_frames))[seen]) for trajectory in TRAJECTORIES}
    assert len(shown) == len(TRAJECTORIES)
    assert {sum(state < n_frames // 2 for state in states) for states in shown} == {4}


@given(st.integers(2, 200))
def test_trajectories_visit_each_state_once(n_frames: int) -> None:
    for trajectory in TRAJECTORIES:
        assert sorted(trajectory.states(n_frames)) == [*range(n_frames)]


def test_names_tell_the_motions_in_their_order() -> None:
    assert len(set(TRAJECTORY_NAMES)) == 18
    assert TRAJECTORY_NAMES[:2] == ("disc_falls_cross_rises", "cross_rises_disc_falls")


def test_only_the_moving_object_changes_between_frames() -> None:
    """The disc and the cross move in columns of their own, one after the other, up or down."""
    falls, rises = (
        render_clip(clip).astype(int)
        for clip in clips_of_a_scene(3, "train", 1)
        if clip.label in ("disc_falls_cross_falls", "disc_rises_cross_rises")
    )
    half = len(falls) // 2
    assert (falls[0] == rises[0]).all()
    assert (falls[1:half] == rises[half - 1 : 0 : -1]).all()
    changes = np.abs(np.diff(falls, axis=0)).max(3) > 40  # above the noise
    first, second = changes[: half - 1].any((0, 1)), changes[half:].any((0, 1))
    assert first.any()
    assert second.any()
    assert not (first & second).any()  # columns of pixels


def test_are_the_same_on_every_machine() -> None:
    assert (
        frames_digest(render_clip(Clip(7, 4, "train", 1, "motion")))
        == "10ef53416a5768b916b72205f7605e3b78baf0f583938fc5eac3d35dab0edf43"
    )


def test_is_drawn_as_files_and_keeps_to_its_settings(tmp_path: Path) -> None:
    summary = synth(tmp_path / "set", classes=2, train=1, test=1, told_apart_by="motion", progress=False)
    assert summary.classes == TRAJECTORY_NAMES[:2]
    with pytest.raises(SettingsError, match="told_apart_by motion before, appearance now"):
        synth(tmp_path / "set", classes=2, train=1, test=1, progress=False)


def test_explains_bad_values() -> None:
    with pytest.raises(SettingsError, match="classes 19 is out of range; allowed: 2 to 18"):
        SynthSettings(classes=19, told_apart_by="motion")
    with pytest.raises(SettingsError, match="told_apart_by 'colour' is not known; allowed: appearance, motion"):
        SynthSettings(told_apart_by="colour")  # type: ignore[arg-type]
