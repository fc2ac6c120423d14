"""The replay memory over tasks: budgets, quotas, ranks and bytes on disk, with real shards, codecs and files."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_cases import prepare_tiny, provider_of

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.replay import ClassInstances, MemorySettings, ReplayMemory
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import segment_centres
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import from_table


@pytest.fixture(scope="module")
def provider(jpeg_folder: Path) -> InstanceProvider:
    return provider_of(jpeg_folder)


def candidates(label: int, items: Sequence[int]) -> ClassInstances:
    return ClassInstances(label, f"class {label}", np.array(items, np.int64))


def keys_by_rank(memory: MemoryStore) -> dict[int, list[tuple[str, int, tuple[int, ...]]]]:
    return {
        label: [
            (exemplar.key, exemplar.start_frame, tuple(exemplar.frames.tolist()))
            for exemplar in (memory.exemplar(label, rank) for rank in range(memory.classes[label].n_exemplars))
        ]
        for label in memory.classes
    }


def bytes_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@dataclass(frozen=True)
class Course:
    """Tasks, each with classes of items, and the settings of the memory."""

    tasks: list[list[list[int]]]
    settings: MemorySettings


@st.composite
def courses(draw: st.DrawFn) -> Course:
    tasks = draw(
        st.lists(
            st.lists(st.lists(st.integers(0, 15), min_size=0, max_size=6, unique=True), min_size=1, max_size=3),
            min_size=1,
            max_size=4,
        )
    )
    budget = draw(
        st.one_of(
            st.builds(MemoryBudget, st.just("videos"), st.integers(1, 30)),
            st.builds(MemoryBudget, st.just("frames"), st.integers(1, 90)),
            st.builds(MemoryBudget, st.just("bytes"), st.integers(500, 120_000)),
            st.sampled_from([MemoryBudget("none"), MemoryBudget("all")]),
        )
    )
    memory = MemorySettings(
        budget=budget,
        frames=draw(st.sampled_from([1, 3, 8, "all"])),
        frame_choice=draw(st.sampled_from(["uniform", "random", "diverse", "middle"])),
        video_choice=draw(st.sampled_from(["random", "spread"])),
        codec=draw(st.sampled_from(["copy", "jpeg:40@32", "raw@16"])),
        rebalance=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
    )
    return Course(tasks, memory)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(course=courses())
def test_budgets_hold_ranks_survive_and_bytes_are_those_on_disk(provider: InstanceProvider, course: Course) -> None:
    budget = course.settings.budget
    seen: list[int] = []
    sizes: dict[int, int] = {}
    before: dict[int, list[tuple[str, int, tuple[int, ...]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        memory = ReplayMemory(Path(folder) / "memory.zarr", course.settings)
        for task in course.tasks:
            new = [candidates(len(seen) + number, items) for number, items in enumerate(task)]
            sizes |= {one.label: len(one.items) for one in new}
            seen += [one.label for one in new]
            report = memory.update(provider, new, seen)

            stored = memory.open()
            kept = keys_by_rank(stored)
            usage = report.usage
            assert usage.files.apparent == bytes_on_disk(memory.path)
            assert usage.videos == sum(map(len, kept.values())) == len(stored)
            assert usage.frames == sum(len(frames) for exemplars in kept.values() for _, _, frames in exemplars)
            used = {"videos": usage.videos, "frames": usage.frames, "bytes": usage.files.apparent}
            if budget.kind in used and (usage.videos or budget.kind != "bytes"):
                assert used[budget.kind] <= budget.amount
            if budget.kind == "none":
                assert usage.videos == 0
            if budget.kind == "all":
                assert {label: len(kept.get(label, [])) for label in seen} == sizes

            for label, exemplars in before.items():
                assert kept.get(label, []) == exemplars[: len(kept.get(label, []))]  # the last-ranked were dropped
            assert report.added == sum(len(kept.get(one.label, [])) for one in new)
            if budget.kind == "videos" and not course.settings.rebalance:
                quota = [budget.amount // len(seen) + (place < budget.amount % len(seen)) for place in range(len(seen))]
                assert [len(kept.get(label, [])) for label in seen] == [
                    min(share, sizes[label]) for share, label in zip(quota, seen, strict=True)
                ]
            before = kept


@pytest.mark.parametrize("rebalance", [False, True])
def test_what_a_class_cannot_use_goes_to_others_if_asked(
    provider: InstanceProvider, tmp_path: Path, rebalance: bool
) -> None:
    wanted = MemorySettings(budget=MemoryBudget("videos", 9), frames=2, rebalance=rebalance)
    memory = ReplayMemory(tmp_path / "m.zarr", wanted)
    memory.update(provider, [candidates(0, [0]), candidates(1, range(1, 10)), candidates(2, range(10, 16))], [0, 1, 2])
    assert {n: stored.n_exemplars for n, stored in memory.open().classes.items()} == (
        {0: 1, 1: 4, 2: 4} if rebalance else {0: 1, 1: 3, 2: 3}
    )


def test_exemplars_are_the_frames_that_were_chosen(provider: InstanceProvider, tmp_path: Path) -> None:
    memory = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("all"), frames=4))
    items = list(range(len(provider.items)))
    memory.update(provider, [candidates(0, items)], [0])
    stored = memory.open()
    by_name = {
        (exemplar.key, exemplar.start_frame, exemplar.end_frame): exemplar for exemplar in exemplars_of(stored, 0)
    }
    assert len(by_name) == len(items)
    for item in items:
        key, n_frames = str(provider.items.keys[item]), int(provider.items.n_frames[item])
        start = int(provider.start_frames[item])
        exemplar = by_name[key, start, start + n_frames]
        chosen = np.unique(segment_centres(np.array(n_frames), 4)) if n_frames > 4 else np.arange(n_frames)
        assert exemplar.frames.tolist() == (start + chosen).tolist()
        theirs = provider.read(item, chosen)
        pixels = [decode_clip(clip, exemplar.width, exemplar.height, str) for clip in (exemplar.clip, theirs)]
        np.testing.assert_array_equal(*pixels)


def exemplars_of(stored: MemoryStore, label: int) -> list[object]:
    return [stored.exemplar(label, rank) for rank in range(stored.classes[label].n_exemplars)]


def test_an_update_that_is_done_again_changes_nothing(provider: InstanceProvider, tmp_path: Path) -> None:
    """A run is killed after its memory was updated, and resumed from before the update."""
    memory = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("bytes", 60_000), frames=2))
    memory.update(provider, [candidates(0, range(6))], [0])
    memory.update(provider, [candidates(1, range(6, 12))], [0, 1])
    files = {path: path.read_bytes() for path in memory.path.rglob("*") if path.is_file()}
    report = memory.update(provider, [candidates(1, range(6, 12))], [0, 1])
    assert report.added == 0
    assert {path: path.read_bytes() for path in memory.path.rglob("*") if path.is_file()} == files


def test_a_damaged_candidate_is_passed_over(
    tiny_videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider = provider_of(prepare_tiny(tiny_videos, tmp_path / "tiny", "jpeg"))
    tar = tmp_path / "tiny" / "tiny-000000.tar"
    index = np.load(tmp_path / "tiny" / "tiny-000000.frames.npy")
    data = bytearray(tar.read_bytes())
    for offset, size, _ in index[: int(provider.items.n_frames[0])].tolist():
        data[offset + size // 2] ^= 1
    tar.write_bytes(data)
    memory = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("videos", 5), frames=2))
    with caplog.at_level(logging.WARNING):
        report = memory.update(provider, [candidates(0, range(6))], [0])
    assert report.added == 5
    assert len(report.skipped) == 1
    assert str(provider.items.keys[0]) in report.skipped[0]
    assert "passed over as an exemplar" in caplog.text


def test_what_does_not_fit_together_is_refused(provider: InstanceProvider, tmp_path: Path) -> None:
    memory = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("videos", 5)))
    memory.update(provider, [candidates(0, range(6))], [0])
    with pytest.raises(SettingsError, match=r"label id 0 is in .* but not among the 1 classes seen"):
        memory.update(provider, [candidates(1, range(6))], [1])
    other = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("videos", 5), codec="jpeg:50"))
    with pytest.raises(SettingsError, match="holds exemplars encoded as copy, not jpeg:50"):
        other.update(provider, [candidates(1, range(6))], [0, 1])
    small = ReplayMemory(tmp_path / "s.zarr", MemorySettings(budget=MemoryBudget("bytes", 100)))
    with pytest.raises(SettingsError, match="but a memory without exemplars takes"):
        small.update(provider, [candidates(0, range(6))], [0])
    for wrong in ({"codec": "jpg"}, {"frame_choice": "best"}, {"video_choice": "best"}, {"frames": 0}):
        with pytest.raises(SettingsError):
            from_table(MemorySettings, {"budget": MemoryBudget("all"), **wrong})


def test_classes_without_exemplars_are_named(
    provider: InstanceProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("videos", 2)))
    memory.update(provider, [candidates(label, [label]) for label in range(3)], [0, 1, 2])
    assert "1 of 3 classes seen keep no exemplar (label id 2 is the first): 2v doesn't hold one of each" in caplog.text


def test_the_documented_way_without_vclimb_reads_a_memory(
    provider: InstanceProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = ReplayMemory(tmp_path / "memory.zarr", MemorySettings(budget=MemoryBudget("all"), frames=3))
    memory.update(provider, [candidates(0, range(6))], [0])
    text = (Path(__file__).parents[1] / "docs" / "memory.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) >= 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippets[0], names)
    first = memory.open().exemplar(0, 0)
    assert names["key"] == first.key
    assert names["units"] == list(first.clip.units)
    assert [frame for frame in names["frames"].tolist() if frame >= 0] == first.frames.tolist()
    exec(snippets[1].replace("label=7", "label=0"), names)
    assert names["exemplar"].key == first.key
    assert names["damaged"] == ()
