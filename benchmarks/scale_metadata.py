"""The catalog and the scenarios of a made-up data set of any size, as `prepare` would write them; there are no shards.

Nine tenths of the videos are for training. Four videos are of one recording, and every fourth instance is a segment in
seconds. `benchmarks/scale.py` measures with them.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vclimb.pipeline.dataset.header import ERRORS, FORMAT_VERSION, HEADER, INSTANCES, VIDEOS, header_bytes
from vclimb.pipeline.dataset.rows import INSTANCE_SCHEMA, VIDEO_SCHEMA
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles

CLASSES, TASKS = 400, 10
VIDEOS_PER_SHARD = 70
VIDEO_BYTES, FRAMES, GAP = 2_600_000, 250, 2048
JSON, PICKLE = "scenario.json", "tasks.pkl"


def make_metadata(folder: Path, n_videos: int) -> None:
    """Write the catalog of a data set of jpeg videos at 25 frames a second, and scenarios of all its instances."""
    draft = folder.with_suffix(".draft")
    draft.mkdir(parents=True, exist_ok=True)
    places = np.arange(n_videos)
    classes = [f"class{number:03d}" for number in range(CLASSES)]
    labels = [classes[number % CLASSES] for number in range(n_videos)]
    keys = [f"{label}/video_{number:09d}_000010" for number, label in enumerate(labels)]
    splits = ["val" if number % 20 == 18 else "test" if number % 20 == 19 else "train" for number in places // CLASSES]
    files = {
        VIDEOS: _parquet(_videos(keys, labels, places)),
        INSTANCES: _parquet(_instances(keys, labels, splits, places)),
        ERRORS: b"",
    }
    for name, data in files.items():
        (draft / name).write_bytes(data)
    (draft / HEADER).write_bytes(header_bytes(_header(n_videos, classes, files)))
    _write_scenarios(draft, classes, keys, splits)
    draft.rename(folder)


def _videos(keys: list[str], labels: list[str], places: np.ndarray[Any, Any]) -> pa.Table:
    n, in_shard = len(keys), places % VIDEOS_PER_SHARD
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    columns: dict[str, Any] = {
        "key": keys,
        "labels": pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32), pa.array(labels)),
        "group": [f"recording_{number // 4}" for number in range(n)],
        "source": [f"{key}.mp4" for key in keys],
        "source_sha256": digests,
        "source_bytes": 900_000 + places,
        "shard": places // VIDEOS_PER_SHARD,
        "offset": 512 + in_shard * (VIDEO_BYTES + GAP),
        "bytes": np.full(n, VIDEO_BYTES),
        "sha256": digests,
        "codec": ["jpeg"] * n,
        "width": np.full(n, 340),
        "height": np.full(n, 256),
        "fps": np.full(n, 25.0),
        "fps_fraction": ["25"] * n,
        "n_frames": np.full(n, FRAMES),
        "frame_seconds": pa.nulls(n, pa.list_(pa.float64())),
        "first_frame": in_shard * FRAMES,
    }
    return _table(columns, VIDEO_SCHEMA)


def _instances(keys: list[str], labels: list[str], splits: list[str], places: np.ndarray[Any, Any]) -> pa.Table:
    is_segment = places % 4 == 3
    columns: dict[str, Any] = {
        "key": keys,
        "label": labels,
        "split": splits,
        "start_seconds": pa.array(np.full(len(keys), 1.0), mask=~is_segment),
        "end_seconds": pa.array(np.full(len(keys), 9.0), mask=~is_segment),
        "start_frame": np.where(is_segment, 25, 0),
        "end_frame": np.where(is_segment, 225, FRAMES),
    }
    return _table(columns, INSTANCE_SCHEMA)


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _header(n_videos: int, classes: list[str], files: dict[str, bytes]) -> dict[str, Any]:
    settings, shards = EncodeSettings(), []
    for number in range(-(-n_videos // VIDEOS_PER_SHARD)):
        n = min(VIDEOS_PER_SHARD, n_videos - number * VIDEOS_PER_SHARD)
        digest, size = hashlib.sha256(f"{number}".encode()).hexdigest(), 512 + n * (VIDEO_BYTES + GAP)
        made = ShardFiles(f"made-{number:06d}.tar", size, digest, digest, digest, n, n * FRAMES)
        shards.append({"number": number, **asdict(made)})
    return {
        "name": "made",
        "format_version": FORMAT_VERSION,
        "settings": settings.to_json(),
        "settings_sha256": settings.digest(),
        "ffmpeg": ["made up"],
        "classes": classes,
        "totals": {
            "classes": len(classes),
            "videos": n_videos,
            "instances": n_videos,
            "frames": n_videos * FRAMES,
            "seconds": n_videos * FRAMES / 25,
            "bytes": n_videos * VIDEO_BYTES,
            "source_bytes": n_videos * 900_000 + n_videos * (n_videos - 1) // 2,
            "errors": 0,
        },
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "shards": shards,
    }


def _write_scenarios(folder: Path, classes: list[str], keys: list[str], splits: list[str]) -> None:
    """A scenario with the keys, as JSON, and a task file with the stems of the files."""
    per_task = len(classes) // TASKS
    tasks, listed = [], {split: [] for split in ("train", "val", "test")}  # type: dict[str, list[Any]]
    for first in range(0, len(classes), per_task):
        rows: dict[str, list[str]] = {split: [] for split in listed}
        stems: dict[str, dict[str, list[str]]] = {split: {} for split in listed}
        for number in range(first, first + per_task):
            for place in range(number, len(keys), CLASSES):
                row: dict[str, Any] = {"video": keys[place], "class": classes[number]}
                if place % 4 == 3:
                    row["seconds"] = [1.0, 9.0]
                rows[splits[place]].append(json.dumps(row))
            for split, items in stems.items():
                stem_places = range(number, len(keys), CLASSES)
                items[classes[number]] = [keys[p].partition("/")[2] for p in stem_places if splits[p] == split]
        lines = {split: ",\n".join(of_split) for split, of_split in rows.items()}
        parts = ", ".join(f'"{split}": [\n{of_split}]' for split, of_split in lines.items())
        tasks.append(f'{{"classes": {json.dumps(classes[first : first + per_task])}, {parts}}}')
        for split, items in stems.items():
            listed[split].append(items)
    head = '"format": "vclimb-scenario", "format_version": 1, "name": "made", "origin": "made up"'
    (folder / JSON).write_text(f'{{{head}, "tasks": [{",".join(tasks)}]}}')
    (folder / PICKLE).write_bytes(pickle.dumps(listed))
