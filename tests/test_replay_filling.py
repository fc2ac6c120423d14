"""A budget in bytes is used: filled to 95 % unless no candidate fits in the rest, and never exceeded."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory_store_cases import bytes_of, files_of
from stream_cases import provider_of

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.class_encoder import ClassEncoder
from vclimb.memory.replay import ClassInstances, MemorySettings, ReplayMemory
from vclimb.memory.smaller_videos import FILLED
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.errors import SettingsError


@pytest.fixture(scope="module")
def provider(jpeg_folder: Path) -> InstanceProvider:
    return provider_of(jpeg_folder)


def candidates(label: int, items: list[int], n_features: int = 0, n_logits: int = 0) -> ClassInstances:
    draw = np.random.default_rng(label)
    features = draw.normal(size=(len(items), n_features)).astype(np.float32) if n_features else None
    logits = {"logits": draw.normal(size=(len(items), n_logits)).astype(np.float16)} if n_logits else {}
    return ClassInstances(label, f"class {label}", np.array(items, np.int64), None, features, logits)


def names_of(memory: MemoryStore, label: int) -> set[tuple[str, int]]:
    """Video and first frame of each exemplar of a class."""
    if label not in memory.classes:
        return set()
    exemplars = [memory.exemplar(label, rank) for rank in range(memory.classes[label].n_exemplars)]
    return {(exemplar.key, exemplar.start_frame) for exemplar in exemplars}


def fits_in_rest(provider: InstanceProvider, wanted: MemorySettings, new: ClassInstances, memory: MemoryStore) -> bool:
    """Whether a candidate of a new class that isn't kept would fit in the rest of the budget, by a wide margin."""
    left = wanted.budget.amount - sum(files_of(memory.path).values())
    kept = names_of(memory, new.label)
    encoder = ClassEncoder(wanted, provider, new)
    for exemplar, (_, n_bytes) in zip(
        encoder.encode_places(range(len(new.items))), encoder.sizes(range(len(new.items))), strict=True
    ):
        overhead = 250 + (0 if kept else encoder.class_bytes + 200) + (2048 if new.arrays else 0)  # files are shared
        if (exemplar.key, exemplar.start_frame) not in kept and n_bytes + overhead <= left:
            return True
    return False


tasks_of_classes = st.lists(
    st.lists(st.lists(st.integers(0, 15), max_size=8, unique=True), min_size=1, max_size=3), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tasks=tasks_of_classes,
    amount=st.integers(3_000, 200_000),
    codec=st.sampled_from(["copy", "jpeg:40@32", "raw@16", "features:fp32", "features:fp16", "features:int8"]),
    n_features=st.sampled_from([16, 1280]),
    n_logits=st.sampled_from([0, 21, 400]),
    frames=st.sampled_from([1, 4, "all"]),
    video_choice=st.sampled_from(["random", "spread"]),
    n_kept=st.integers(0, 2_000),
)
@example([[[*range(8)], [*range(8, 14)], [14, 15]]], 30_000, "copy", 1280, 21, 4, "random", 0)
@example([[[*range(8)], [*range(8, 14)], [14, 15]]], 20_000, "features:fp16", 1280, 0, 4, "random", 0)
@example([[[*range(8)], [*range(8, 14)], [14, 15]]], 100_000, "copy", 1280, 0, "all", "random", 500)
def test_budgets_are_filled_and_never_exceeded(
    provider: InstanceProvider,
    tasks: list[list[list[int]]],
    amount: int,
    codec: str,
    n_features: int,
    n_logits: int,
    frames: Any,
    video_choice: str,
    n_kept: int,
) -> None:
    wanted = MemorySettings(budget=MemoryBudget("bytes", amount), frames=frames, codec=codec, video_choice=video_choice)
    arrays = {"statistics/mean": np.arange(n_kept, dtype=np.float32)} if n_kept else {}
    with tempfile.TemporaryDirectory() as folder:
        memory, seen = ReplayMemory(Path(folder) / "m.zarr", wanted), list[int]()
        before: dict[int, list[Any]] = {}
        for task in tasks:
            new = [candidates(len(seen) + place, items, n_features, n_logits) for place, items in enumerate(task)]
            seen += [one.label for one in new]
            try:
                report = memory.update(provider, new, seen, arrays=arrays)
            except SettingsError:
                assert amount < 4 * n_kept + 2500
                return
            on_disk, stored = sum(files_of(memory.path).values()), memory.open()
            assert report.usage.files.apparent == on_disk <= amount
            assert sum(report.usage.part_bytes.values()) == on_disk
            assert ("features" in report.usage.part_bytes) == (codec.startswith("features") and len(stored) > 0)
            if on_disk < FILLED * amount:
                assert not any(fits_in_rest(provider, wanted, one, stored) for one in new)
            ranked = {
                label: [stored.exemplar(label, rank).key for rank in range(kept.n_exemplars)]
                for label, kept in stored.classes.items()
            }
            assert all(keys == before.get(label, keys)[: len(keys)] for label, keys in ranked.items())
            before = ranked
            again = bytes_of(memory.path)
            memory.update(provider, new, seen, arrays=arrays)
            assert bytes_of(memory.path) == again


def test_smaller_videos_fill_what_a_large_one_leaves(provider: InstanceProvider, tmp_path: Path) -> None:
    """Each class has a share below its first exemplar; without rebalancing, most of the budget stays unused."""
    new = [candidates(0, [*range(6)]), candidates(1, [*range(6, 11)]), candidates(2, [*range(11, 16)])]
    used = {}
    for rebalance in (None, True, False):
        wanted = MemorySettings(budget=MemoryBudget("bytes", 30_000), frames="all", rebalance=rebalance)
        memory = ReplayMemory(tmp_path / f"{rebalance}.zarr", wanted)
        used[rebalance] = memory.update(provider, new, [0, 1, 2]).usage.files.apparent
    assert bytes_of(tmp_path / "None.zarr") == bytes_of(tmp_path / "True.zarr")
    assert used[False] < used[True] <= 30_000


@pytest.mark.parametrize(("budget", "rebalances"), [("9v", False), ("90f", False), ("9MB", True), ("all", False)])
def test_only_budgets_in_bytes_are_rebalanced_by_default(budget: str, rebalances: bool) -> None:
    parsed = MemoryBudget.parse(budget)
    assert MemorySettings(budget=parsed).rebalances == rebalances
    assert MemorySettings(budget=parsed, rebalance=not rebalances).rebalances != rebalances
