"""Exemplars and memories for tests, and their contents as plain values."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from vclimb.memory.store.exemplar import NO_FRAMES, Exemplar
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_array import AnyArray
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.codecs.encoded import one_unit_a_frame, one_unit_for_all
from vclimb.pipeline.errors import VclimbError

# label id -> name, encoding and the exemplars by rank, each as a tuple of plain values
Contents = dict[int, tuple[str, str, list[tuple[Any, ...]]]]


def make_exemplar(
    number: int, n_frames: int = 3, codec: str = "jpeg", unit_bytes: int = 60, keeps: str = "frames"
) -> Exemplar:
    """Make an exemplar whose bytes depend on a number: one unit for each frame, or for `h264` one for all.

    Args:
        keeps: What is kept: `frames`, `frames and logits`, or `features`.
    """
    dice = random.Random(number)
    start = dice.randrange(50)
    frames = np.array(sorted(dice.sample(range(start, start + 4 * n_frames), n_frames)), np.int64)

    def unit() -> bytes:
        return dice.randbytes(dice.randint(unit_bytes // 2, unit_bytes))

    if codec == "h264":
        clip = one_unit_for_all(codec, unit(), n_frames)
    else:
        clip = one_unit_a_frame(codec, [unit() for _ in range(n_frames)])
    arrays: dict[str, AnyArray] = {}
    if keeps == "frames and logits":
        arrays = {"logits": np.array([dice.random() for _ in range(21)], np.float16)}
    if keeps == "features":
        frames, clip = np.empty(0, np.int64), NO_FRAMES
        features = np.array([[dice.randint(-127, 127) for _ in range(40)] for _ in range(2)], np.int8)
        arrays = {"features": features, "features_scale": np.array([dice.random(), 1], np.float32)}
    return Exemplar(f"v_{number:03d}", start, start + 4 * n_frames, frames, clip, 32, 24, arrays)


def new_class(label: int, n_exemplars: int, **options: Any) -> NewClass:
    exemplars = [make_exemplar(1000 * label + number, **options) for number in range(n_exemplars)]
    return NewClass(label, f"class {label}", "jpeg:75", exemplars)


def plain(exemplar: Exemplar) -> tuple[Any, ...]:
    """Convert an exemplar to values that can be compared."""
    clip = exemplar.clip
    assert (exemplar.frames.dtype, clip.unit.dtype, clip.position.dtype) == (np.int64,) * 3
    kept = tuple((name, array.dtype.name, str(array.tolist())) for name, array in sorted(exemplar.arrays.items()))
    return (
        *(exemplar.key, exemplar.start_frame, exemplar.end_frame, exemplar.width, exemplar.height, clip.codec),
        *(tuple(exemplar.frames.tolist()), tuple(clip.unit.tolist()), tuple(clip.position.tolist())),
        tuple(clip.units),
        *([kept] if kept else []),
    )


def expected_contents(classes: Sequence[NewClass]) -> Contents:
    return {new.label: (new.name, new.encoding, [plain(exemplar) for exemplar in new.exemplars]) for new in classes}


def contents(memory: MemoryStore) -> Contents:
    """Read all exemplars of a memory, one by one."""
    return {
        label: (
            stored.name,
            stored.encoding,
            [plain(memory.exemplar(label, rank)) for rank in range(memory.classes[label].n_exemplars)],
        )
        for label, stored in memory.classes.items()
    }


def contents_by_zarr(path: Path, **options: Any) -> Contents:
    """Read the same as `contents`, by nothing but zarr and NumPy, as the documentation shows it."""
    classes: Contents = {}
    for _, group in zarr.open_group(path, mode="r", **options)["exemplars"].groups():
        fields = [(name, kind, *map(tuple, shape)) for name, kind, *shape in group["table"].attrs["fields"]]
        table = group["table"][:].view(np.dtype(fields))[:, 0]
        exemplars = []
        # Without consolidated metadata the arrays of a class may shrink one after the other.
        arrays = {name: array[:] for name, array in group.arrays() if name not in ("frames", "table")}
        payloads = group["frames"][:] if "frames" in group else np.empty((len(table), 0), np.uint8)
        for rank, (payload, row) in enumerate(zip(payloads, table, strict="use_consolidated" not in options)):
            frames = row["frames"][row["frames"] >= 0].astype(np.int64)
            ends = np.cumsum(row["unit_bytes"][row["unit_bytes"] >= 0])
            units = [piece.tobytes() for piece in np.split(payload, ends)[:-1]]
            codec = group.attrs["codec"]
            is_video = len(units) < len(frames)
            clip = one_unit_for_all(codec, units[0], len(frames)) if is_video else one_unit_a_frame(codec, units)
            of_rank = {name: array[rank] for name, array in arrays.items()}
            start, end, width, height = (int(row[name]) for name in ("start_frame", "end_frame", "width", "height"))
            exemplars.append(plain(Exemplar(row["key"].decode(), start, end, frames, clip, width, height, of_rank)))
        classes[group.attrs["label"]] = (group.attrs["class_name"], group.attrs["encoding"], exemplars)
    return classes


def files_of(path: Path) -> dict[str, int]:
    """List all files below a folder, relative to it, with their sizes."""
    found = {}
    for place, _, names in os.walk(path):
        for name in names:
            file = os.path.join(place, name)
            found[os.path.relpath(file, path)] = os.lstat(file).st_size
    return found


def folders_of(path: Path) -> set[str]:
    return {os.path.relpath(place, path) for place, _, _ in os.walk(path)}


def has_no_strays(path: Path) -> bool:
    """Check that the files and folders are exactly those of the memory's classes."""
    files, folders = {"zarr.json", "exemplars/zarr.json"}, {".", "exemplars"}
    for stored in MemoryStore.open(path).classes.values():
        names = ["table", *(["frames"] if stored.frames.files else []), *stored.arrays]
        folders |= {stored.folder, *(f"{stored.folder}/{name}" for name in names)}
        files |= {f"{stored.folder}/{name}zarr.json" for name in ("", *(f"{name}/" for name in names))}
        for name in names:
            in_chunk = 1 if name in ("frames", "features") else 32
            zeros = ".0.0" if name == "features" else ".0"
            n_chunks = -(-stored.n_exemplars // in_chunk)
            if name in stored.arrays and name != "features":
                n_chunks = len(stored.arrays[name].files)  # a small class has smaller chunks
            files |= {f"{stored.folder}/{name}/c.{number}{zeros}" for number in range(n_chunks)}
    assert set(files_of(path)) == files
    assert folders_of(path) == folders
    return True


def digest(found: Contents) -> str:
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


# One update of many kinds: two classes join, one is shrunk, one is dropped, one stays.
OLD = [
    new_class(0, 3, unit_bytes=3000, keeps="frames and logits"),
    *(new_class(label, 3, unit_bytes=3000) for label in (1, 2)),
]
ADDED = [new_class(3, 3, keeps="features"), new_class(4, 3, unit_bytes=3000)]
KEEP = {0: 1, 1: 0, 3: 2}


def update(writer: MemoryWriter, add: Sequence[NewClass], keep: Mapping[int, int] | None = None) -> MemoryStore:
    """Stage classes and commit; an error leaves nothing staged."""
    try:
        for new in add:
            writer.stage(new)
        return writer.commit(keep)
    except BaseException:
        with suppress(VclimbError):
            writer.rollback()
        raise


def size_if_kept(writer: MemoryWriter, keep: Mapping[int, int] | None = None) -> int:
    """Forecast the bytes of all files after `commit(keep)`."""
    keep = keep or {}
    return writer.empty_bytes + sum(writer.class_bytes(label, keep.get(label, 10**9)) for label in writer.labels)


def make_old(path: Path) -> None:
    """Make the memory before the update."""
    with MemoryWriter.open(path) as writer:
        update(writer, OLD)


def make_new(path: Path) -> None:
    """Make the memory after the update, from whatever state a stopped update left."""
    with MemoryWriter.open(path) as writer:
        if writer.memory.generation < 1:
            update(writer, OLD)
        if writer.memory.generation < 2:
            update(writer, ADDED, KEEP)


def bytes_of(path: Path) -> dict[str, bytes]:
    """Read all files below a folder, by their paths relative to it."""
    return {file: (path / file).read_bytes() for file in files_of(path)}
