"""Features in place of frames, and logits beside them: kept, counted, read, checked and refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from memory_store_cases import bytes_of, files_of, make_exemplar, new_class, update
from test_memory_arrays import rewrite_index

from vclimb.memory.api import Memory
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.class_encoder import ClassInstances
from vclimb.memory.feature_codec import FEATURE_SCALE, FeatureCodec, parse_feature_codec
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.errors import ExemplarDamagedError, MemoryEmptyError, MemoryStoreError
from vclimb.memory.store.new_class import NewClass, exemplar_chunk_rows
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import FEATURES, LOGITS
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import SettingsError, VclimbError

KEEPS = {3: "features", 4: "frames and logits", 5: "frames"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A memory of a class with features, one with logits beside its frames, and one with frames alone."""
    with MemoryWriter.open(tmp_path / "memory.zarr") as writer:
        update(writer, [new_class(label, 3, keeps=keeps) for label, keeps in KEEPS.items()])
    return tmp_path / "memory.zarr"


# Types of numbers

any_features = arrays_of.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-60_000, 60_000, width=32)
)


@settings(deadline=None, max_examples=60)
@given(any_features)
def test_rounding_errors_are_within_those_that_are_documented(features: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    largest = np.abs(features).max(axis=1, keepdims=True).astype(np.float64)
    bounds = {
        "fp32": np.zeros_like(features, np.float64),
        "fp16": np.maximum(np.abs(features) / 2048.0, 2.0**-25),
        "int8": np.broadcast_to(largest / 254 * (1 + 1e-5) + 1e-37, features.shape),
    }
    for dtype, bound in bounds.items():
        codec = FeatureCodec(dtype)
        decoded = codec.decode(codec.encode(features))
        assert (decoded.dtype, decoded.shape) == (np.float32, features.shape)
        assert (np.abs(decoded.astype(np.float64) - features) <= bound).all()


def test_features_of_many_exemplars_are_decoded_at_once() -> None:
    codec = parse_feature_codec("features:int8")
    videos = np.random.default_rng(0).normal(size=(5, 2, 16)).astype(np.float32)
    each = [codec.encode(video) for video in videos]
    together = codec.decode({name: np.stack([one[name] for one in each]) for name in (FEATURES, FEATURE_SCALE)})
    assert np.array_equal(together, np.stack([codec.decode(one) for one in each]))
    assert codec.encode(videos[0, 0])[FEATURES].shape == (1, 16)  # one feature of the whole clip


@pytest.mark.parametrize(
    ("codec", "features", "says"),
    [
        ("features:fp16", [70_000.0], "features up to 70000 don't fit in fp16"),
        ("features:int8", [np.nan], "features hold NaN or infinity"),
        ("features:fp32", [1.0, -np.inf], "features hold NaN or infinity"),
    ],
)
def test_features_that_cannot_be_kept(codec: str, features: list[float], says: str) -> None:
    with pytest.raises(VclimbError, match=says):
        parse_feature_codec(codec).encode(np.array(features))


def test_settings() -> None:
    kept = MemorySettings(budget=MemoryBudget.parse("64MB"), codec="features")
    assert (kept.encoding, kept.needs_features) == ("features:fp16", True)
    with pytest.raises(SettingsError, match=r"features:fp8.* allowed: features:fp32, features:fp16, features:int8"):
        kept.replaced(codec="features:fp8")
    with pytest.raises(SettingsError, match=r"budget 90f counts frames, and memory\.codec features keeps none"):
        kept.replaced(budget=MemoryBudget.parse("90f"))
    with pytest.raises(SettingsError, match="keeps features in place of frames, and frames are needed here"):
        kept.fitting("jpeg")


# The memory


def test_what_is_kept_is_read_and_counted(path: Path) -> None:
    memory = Memory.open(path)
    store, usage = memory.store, memory.usage
    made = [make_exemplar(3000 + rank, keeps="features") for rank in range(3)]
    for name in (FEATURES, FEATURE_SCALE):
        assert np.array_equal(store.rows(3, name), np.stack([one.arrays[name] for one in made]))
        assert np.array_equal(store.exemplar(3, 1).arrays[name], made[1].arrays[name])
    assert store.rows(4, LOGITS).dtype == np.float16
    assert not store.encoded(4, 0).arrays
    assert not (path / store.classes[3].folder / "frames").exists()

    sizes = files_of(path)
    for part in (FEATURES, LOGITS):
        of_part = {file: n for file, n in sizes.items() if f"/{part}" in file}
        assert usage.part_bytes[part] == sum(of_part.values())
    assert sum(usage.part_bytes.values()) == sum(sizes.values()) == memory.bytes_on_disk
    assert usage.index_bytes + sum(one.files.apparent for one in usage.classes) == memory.bytes_on_disk
    assert [(one.videos, one.frames) for one in usage.classes] == [(3, 0), (3, 9), (3, 9)]
    assert memory.verify() == ()
    memory.sheet(path.parent / "sheet.png")


@pytest.mark.parametrize(
    ("name", "row_bytes", "n_rows", "rows"),
    [(FEATURES, 4, 90, 1), (LOGITS, 42, 90, 32), (LOGITS, 42, 5, 5), (LOGITS, 202, 90, 10), (LOGITS, 9000, 90, 1)],
)
def test_small_rows_share_files(name: str, row_bytes: int, n_rows: int, rows: int) -> None:
    assert exemplar_chunk_rows(name, row_bytes, n_rows) == rows


def test_many_logits_shrink_to_the_bytes_that_were_foreseen(tmp_path: Path) -> None:
    with MemoryWriter.open(tmp_path / "m.zarr") as writer:
        update(writer, [new_class(0, 70, keeps="frames and logits")])
        for n_kept in (40, 32, 9, 1):
            foreseen = writer.empty_bytes + writer.class_bytes(0, n_kept)
            store = writer.commit({0: n_kept})
            assert sum(files_of(store.path).values()) == foreseen
            made = [make_exemplar(rank, keeps="frames and logits").arrays[LOGITS] for rank in range(n_kept)]
            assert np.array_equal(store.rows(0, LOGITS), np.stack(made))


def test_frames_cannot_be_replayed_where_none_are_kept(path: Path) -> None:
    with pytest.raises(MemoryEmptyError, match="class 'class 3' keeps features in their place"):
        ExemplarProvider(MemoryStore.open(path))


@pytest.mark.parametrize(("label", "name", "file"), [(3, FEATURES, "c.1.0.0"), (4, LOGITS, "c.0.0")])
@pytest.mark.parametrize("is_missing", [False, True])
def test_damage_is_named(path: Path, label: int, name: str, file: str, is_missing: bool) -> None:
    store = MemoryStore.open(path)
    place = path / store.classes[label].folder / name / file
    if is_missing:
        place.unlink()
    else:
        place.write_bytes(place.read_bytes()[:-1] + b"\0")
    reason = "the file is missing" if is_missing else "its bytes don't fit their checksum"
    with pytest.raises(ExemplarDamagedError, match=f"{name} of exemplar . of class 'class {label}' .*{file}.*{reason}"):
        store.rows(label, name)
    found = [*store.verify()]
    ranks = [1] if name == FEATURES else [0, 1, 2]  # those of the logits share a file
    assert [(one.label, one.rank) for one in found] == [(label, rank) for rank in ranks]
    assert {one.reason for one in found} == {reason}


PLACE = "exemplars/c0003g1/features"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda nodes: nodes[PLACE].update(shape=[4, 2, 40]), "3 rows as in table"),
        (lambda nodes: nodes[PLACE].update(shape=[3]), "chunk_shape is"),
        (lambda nodes: nodes[PLACE]["chunk_grid"]["configuration"].update(chunk_shape=[3, 2, 40]), "chunks of up to 1"),
        (lambda nodes: nodes[PLACE].update(data_type="bool"), "data_type must be"),
        (lambda nodes: nodes.pop(PLACE), "frames is missing, and so is features"),
        (lambda nodes: nodes.update({f"{PLACE}/x": nodes[PLACE]}), "no place"),
        (lambda nodes: nodes.update({"exemplars/c0003g1/means": nodes[PLACE]}), "no place of a class"),
        (lambda nodes: nodes.pop("exemplars/c0005g1/frames"), "frames is missing, and so is features"),
        (lambda nodes: nodes.update({"features": nodes["exemplars"]}), "'features' is no place in a memory"),
    ],
)
def test_an_index_that_says_what_exemplars_cannot_keep(path: Path, change: Callable[[Any], Any], says: str) -> None:
    rewrite_index(path, change)
    with pytest.raises(MemoryStoreError, match=rf"zarr\.json: .*{says}"):
        MemoryStore.open(path)


def with_arrays(**arrays: Any) -> Any:
    return replace(make_exemplar(1), arrays=arrays)


FEATURES_ALONE = make_exemplar(1, keeps="features")


@pytest.mark.parametrize(
    ("exemplars", "says"),
    [
        ([with_arrays(logits=np.ones(3)), with_arrays(logits=np.ones(4))], "all must keep arrays of the same names"),
        ([with_arrays(logits=np.ones(3)), make_exemplar(2)], "all must keep arrays of the same names"),
        ([with_arrays(means=np.ones(3))], "can't keep 'means' of float64"),
        ([with_arrays(logits=np.ones(3, np.complex64))], "can't keep 'logits' of complex64"),
        ([with_arrays(logits=np.array(3.0))], "one axis or more"),
        ([replace(FEATURES_ALONE, arrays={"logits": np.ones(3)})], "neither frames nor features"),
        ([FEATURES_ALONE, replace(make_exemplar(2), arrays=FEATURES_ALONE.arrays)], "of the codecs jpeg, none"),
    ],
)
def test_exemplars_that_cannot_be_stored(path: Path, exemplars: list[Any], says: str) -> None:
    before = bytes_of(path)
    with MemoryWriter.open(path) as writer, pytest.raises(SettingsError, match=says):
        writer.stage(NewClass(9, "nine", "jpeg:75", exemplars))
    assert bytes_of(path) == before


def test_candidates_that_can_be_read_keep_their_arrays() -> None:
    logits = np.arange(12, dtype=np.float16).reshape(4, 3)
    candidates = ClassInstances(0, "zero", np.array([2, 5, 7, 9]), None, None, {LOGITS: logits})
    readable = candidates.readable(np.array([1, 5, 9]), np.arange(3)[:, None])
    assert readable.items.tolist() == [5, 9]
    assert readable.arrays[LOGITS].tolist() == logits[[1, 3]].tolist()
    assert readable.features is not None
    assert readable.features.tolist() == [[1], [2]]
