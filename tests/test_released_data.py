"""The clips that the benchmark's released code trains on: which videos, batches and down-sampled clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import comparable, tiny_config

from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.batches import plan_items
from vclimb.scenario import match
from vclimb.training.plan import plan_run
from vclimb.training.processes import Processes
from vclimb.training.run import make_context, train
from vclimb.training.run_context import RunContext
from vclimb.training.run_folder import RunFolder
from vclimb.training.scenarios import find_scenario
from vclimb.training.second_view import SecondView
from vclimb.training.stopping import StopRequest
from vclimb.training.training_clips import training_stream, training_view
from vclimb.training.training_data import TrainingItems


def context_of(shards: Path, folder: Path, *assignments: str, method: str = "naive") -> RunContext:
    config = tiny_config(shards, method, *assignments)
    processes = Processes(0, 1, torch.device("cpu"))
    return make_context(config, RunFolder(folder / "run"), StoredDataset.open(shards), processes, StopRequest())


def second_of(run: RunContext, n_replayed: int = 0) -> tuple[SecondView, TrainingItems]:
    """Make the down-sampled clips of a task, of whose items the last are taken for exemplars."""
    items = run.data.training_items(0)
    items.is_replay[len(items.is_replay) - n_replayed :] = True
    return SecondView(run, items, training_view(run)), items


def test_short_videos_are_neither_trained_on_nor_evaluated(synth_shards: Path) -> None:
    dataset = StoredDataset.open(synth_shards)
    lengths = Counter(instance.end_frame - instance.start_frame for instance in dataset.instances)
    limit = sorted(lengths.elements())[len(dataset.instances) // 4] + 1
    scenario = find_scenario(tiny_config(synth_shards).scenario, dataset)
    whole, matched = match(scenario, dataset), match(scenario, dataset, least_frames=limit)
    for before, after in zip(whole.tasks, matched.tasks, strict=True):
        for split in ("train", "test"):
            kept = [i for i in before.split(split) if i.end_frame - i.start_frame >= limit]
            assert list(after.split(split)) == kept
    assert matched.counts() == {"short": sum(n for length, n in lengths.items() if length < limit)}
    assert tiny_config(synth_shards, "naive", "protocol=released", "model.clip_frames=5").least_frames == 5
    assert tiny_config(synth_shards).least_frames == 1


@pytest.mark.parametrize(("last", "steps"), [("kept", [2, 3, 3]), ("dropped", [1, 2, 2])])
def test_the_last_batch(last: str, steps: list[int], synth_shards: Path, tmp_path: Path) -> None:
    """Tasks of 8 clips, and of 8 and 6 exemplars, in batches of 6: the last ones have 2 clips."""
    settings = (f"differences.last_batch={last}", "training.batch_size=6", "memory.budget=6v")
    config = tiny_config(synth_shards, "naive", *settings)
    assert [task.steps for task in plan_run(config).tasks] == steps
    assert [task.steps for task in train(config, tmp_path / "run").tasks] == steps


class TestSecondView:
    def test_without_consistency_only_the_released_code_has_one(self, synth_shards: Path, tmp_path: Path) -> None:
        for assignments, method, has_one in (
            ((), "naive", False),
            (("consistency.weight=0.5",), "naive", True),
            (("protocol=released",), "naive", True),
            (("protocol=released",), "finetune", False),
            (("protocol=released", "differences.second_view=with-consistency"), "naive", False),
        ):
            run = context_of(synth_shards, tmp_path, *assignments, method=method)
            assert (second_of(run)[0].view is not None) == has_one

    def test_first_frames_and_blank_clips(self, synth_shards: Path, tmp_path: Path) -> None:
        """Of 12 frames kept of a video, 2 segments have 6: frames 0 to 5, and 6 to 11, of the video itself."""
        run = context_of(synth_shards, tmp_path, "protocol=released", "memory.frames=12")
        second, items = second_of(run, n_replayed=2)
        assert second.view is not None
        n, lengths = len(items), np.maximum(items.provider.items.n_frames, 13)
        frames = np.concatenate([second.view.frames(seed, 0, np.arange(n), lengths) for seed in range(100)])
        assert set(frames[:, 0].tolist()) == set(range(6))
        assert set(frames[:, 1].tolist()) == set(range(6, 12))
        items.provider.items = replace(items.provider.items, n_frames=np.where(np.arange(n) == 0, 12, lengths))
        second = SecondView(run, items, training_view(run))
        clips = torch.randint(0, 256, (n, 2, 3, 4, 4), dtype=torch.uint8)
        shown = second.shown(clips, np.arange(n))
        blank = [0, n - 2, n - 1]
        normalised = run.learner.model.normalise(shown[blank].flatten(0, 1))
        assert normalised.abs().max() < 0.5 / 255 / 0.2  # 0 but for the rounding of pixels
        assert torch.equal(shown[1 : n - 2], clips[1 : n - 2])

    def test_a_second_draw_from_the_whole_video_where_all_frames_are_kept(
        self, synth_shards: Path, tmp_path: Path
    ) -> None:
        run = context_of(synth_shards, tmp_path, "protocol=released", "memory.frames=all")
        second, items = second_of(run, n_replayed=3)
        assert second.view is not None
        clip, n = training_view(run), len(items)
        plan = plan_items(
            items.provider.items, training_stream(run, (clip, second.view), 0), 0, 0, np.arange(n).repeat(1)
        )
        assert (plan.frames["clip"] != plan.frames["down_sampled"]).any()
        assert run.config.consistency_frames == "all"
        assert plan.frames["down_sampled"].max() > 8
        clips = torch.randint(0, 256, (n, 2, 3, 4, 4), dtype=torch.uint8)
        assert torch.equal(second.shown(clips, np.arange(n)), clips)

    def test_crops_and_flips_of_their_own(self, synth_shards: Path, tmp_path: Path) -> None:
        run = context_of(synth_shards, tmp_path, "protocol=released")
        second, items = second_of(run)
        assert second.view is not None
        views, many = (training_view(run), second.view), np.zeros(4000, np.int64)
        boxes, flips = [], []
        for epoch in range(400):
            plan = plan_items(items.provider.items, training_stream(run, views, 0), epoch, 0, many[:1])
            boxes.append(plan.boxes[0])
            flips.append(plan.flips[0])
        (own, other), same = np.array(flips).T, (np.array(boxes)[:, 0] == np.array(boxes)[:, 1]).all(1)
        # Independent: 1 of 2 flips agrees, and seldom a crop of 4 * 4 - 6 pairs of scales and 13 places.
        assert 0.4 < (own == other).mean() < 0.6
        assert same.mean() < 0.1
        shared = plan_items(items.provider.items, training_stream(run, (View(), View("b")), 0), 0, 0, many[:1])
        assert shared.boxes.shape == (1, 1, 4)


@pytest.mark.parametrize(("rule", "epoch"), [("first", 1), ("last", 3)])
def test_of_equal_epochs(rule: str, epoch: int, synth_shards: Path, tmp_path: Path) -> None:
    """All epochs are equal where nothing is learned; every second one is measured, and the last."""
    settings = ("training.learning_rate=1e-12", "training.epochs=4", "training.select_every=2", "model.dropout=0.0")
    select = ("training.select=best-reported", f"differences.best_epoch={rule}", "scenario.tasks=2")
    config = tiny_config(synth_shards, "finetune", *settings, *select, "model.backbone=test_convnext.r160_in1k")
    assert [task.selected_epoch for task in train(config, tmp_path / "run").tasks] == [epoch, epoch]


@pytest.mark.parametrize("method", ["naive", "icarl", "bic"])
def test_a_released_run_is_determined_by_its_settings(method: str, synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, method, "protocol=released", "consistency.weight=0.5", "training.batch_size=6")
    first, second = (train(config, tmp_path / name) for name in ("first", "second"))
    assert comparable(first) == comparable(second)
