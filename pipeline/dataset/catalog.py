"""The catalog of a data set: dataset.json, videos.parquet, instances.parquet, errors.jsonl.

It is written from the records of the published shards and holds no times, host names or absolute paths, so the
same inputs and settings give the same bytes. What it does not list does not exist.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vclimb.pipeline.dataset.shard import ShardFiles, write_atomically
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.errors import DatasetError, SettingsError
from vclimb.pipeline.transcode.encode import EncodeSettings

FORMAT_VERSION = 1
HEADER, VIDEOS, INSTANCES, ERRORS = "dataset.json", "videos.parquet", "instances.parquet", "errors.jsonl"

VIDEO_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("group", pa.string()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("source_bytes", pa.int64()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("fps_fraction", pa.string()),
        ("n_frames", pa.int64()),
        ("first_frame", pa.int64()),
    ]
)
INSTANCE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
    ]
)


@dataclass
class ShardRecord:
    """What one published shard holds: rows for the catalog."""

    number: int
    files: ShardFiles | None
    videos: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ShardRecord:
        """The record that `to_json` wrote."""
        return cls(**{**row, "files": ShardFiles(**row["files"]) if row["files"] else None})


@dataclass
class Catalog:
    """All that is known of a data set.

    Attributes:
        name: stem of the shards' file names.
        settings: how its videos are stored.
        ffmpeg: versions of ffmpeg that wrote it.
        shards: by number.
        videos: rows of VIDEO_SCHEMA, in the shards' order.
        instances: rows of INSTANCE_SCHEMA, in the videos' order.
        errors: rows `{path, stage, reason, stderr}`, by path.
    """

    name: str
    settings: EncodeSettings
    ffmpeg: list[str]
    shards: dict[int, ShardFiles] = field(default_factory=dict)
    videos: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, record: ShardRecord) -> None:
        """Take in a shard's record. Of a shard that is already there, only the errors; `write` drops repeated ones."""
        self.errors += record.errors
        if record.number in self.shards:
            return
        if record.files is not None:
            self.shards[record.number] = record.files
        self.videos += record.videos
        self.instances += record.instances

    @property
    def classes(self) -> list[str]:
        """Class names in alphabetical order."""
        return sorted({row["label"] for row in self.instances})

    def totals(self) -> dict[str, Any]:
        """Counts, bytes and seconds over the data set."""
        return {
            "classes": len(self.classes),
            "videos": len(self.videos),
            "instances": len(self.instances),
            "frames": sum(row["n_frames"] for row in self.videos),
            "seconds": round(sum(row["n_frames"] / row["fps"] for row in self.videos), 3),
            "bytes": sum(row["bytes"] for row in self.videos),
            "source_bytes": sum(row["source_bytes"] for row in self.videos),
            "errors": len(self.errors),
        }

    def write(self, folder: Path) -> None:
        """Write the four files; dataset.json, which holds the others' digests, comes last."""
        videos = _parquet(self.videos, VIDEO_SCHEMA)
        instances = _parquet(self.instances, INSTANCE_SCHEMA)
        self.errors = [dict(row) for row in dict.fromkeys(tuple(sorted(row.items())) for row in self.errors)]
        self.errors.sort(key=lambda row: (row["path"], row["stage"], row["reason"]))
        errors = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in self.errors).encode()
        header = {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "settings": self.settings.to_json(),
            "settings_sha256": self.settings.digest(),
            "ffmpeg": sorted(self.ffmpeg),
            "classes": self.classes,
            "totals": self.totals(),
            "files": {
                name: hashlib.sha256(data).hexdigest()
                for name, data in ((VIDEOS, videos), (INSTANCES, instances), (ERRORS, errors))
            },
            "shards": [{"number": number, **asdict(files)} for number, files in sorted(self.shards.items())],
        }
        write_atomically(folder / VIDEOS, videos)
        write_atomically(folder / INSTANCES, instances)
        write_atomically(folder / ERRORS, errors)
        header["sha256"] = _header_sha256(header)
        write_atomically(folder / HEADER, (json.dumps(header, indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, storage: Storage) -> Catalog:
        """Read a data set's catalog. A run that was killed while it wrote one may leave rows of shards that
        dataset.json doesn't list yet; they don't count.

        Raises:
            DatasetError: there is none, it is damaged, or its format version is not ours.
        """
        header = read_header(storage)
        try:
            shards = {row["number"]: _files_of(row) for row in header["shards"]}
            videos = _rows(storage.read(VIDEOS), VIDEO_SCHEMA)
            videos = [row for row in videos if row["shard"] in shards]
            keys = {row["key"] for row in videos}
            instances = _rows(storage.read(INSTANCES), INSTANCE_SCHEMA)
            return cls(
                name=header["name"],
                settings=EncodeSettings.from_json(header["settings"]),
                ffmpeg=header["ffmpeg"],
                shards=shards,
                videos=videos,
                instances=[row for row in instances if row["key"] in keys],
                errors=[json.loads(line) for line in storage.read(ERRORS).split(b"\n") if line],
            )
        except (OSError, ValueError, KeyError, TypeError, SettingsError, pa.ArrowException) as error:
            raise DatasetError(f"the catalog of {storage} is damaged: {type(error).__name__}: {error}") from None


def read_header(storage: Storage) -> dict[str, Any]:
    """The content of dataset.json.

    Raises:
        DatasetError: it isn't there, isn't JSON, has another format version, or isn't as it was written.
    """
    try:
        header: dict[str, Any] = json.loads(storage.read(HEADER))
        version = header["format_version"]
    except FileNotFoundError:
        raise DatasetError(
            f"{storage} is not a prepared data set (no {HEADER}); make one with `vclimb prepare SOURCE --out {storage}`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{HEADER} of {storage} can't be read: {type(error).__name__}: {error}") from None
    if version != FORMAT_VERSION:
        raise DatasetError(f"{storage} has format version {version}; this vclimb reads version {FORMAT_VERSION}")
    if header.pop("sha256", None) != _header_sha256(header):
        raise DatasetError(
            f"{HEADER} of {storage} is damaged or was edited: its content doesn't have the SHA-256 that it names; "
            "restore it from a copy, or prepare the data set again"
        )
    return header


def _header_sha256(header: dict[str, Any]) -> str:
    """Digest of the content of dataset.json but for the digest itself, as canonical JSON."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _files_of(row: dict[str, Any]) -> ShardFiles:
    return ShardFiles(**{name: value for name, value in row.items() if name != "number"})


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def _rows(parquet: bytes, schema: pa.Schema) -> list[dict[str, Any]]:
    # Without arrow's threads: one that touches a Python object while this process forks (for a subprocess) or exits
    # hangs the one and aborts the other.
    table = pq.ParquetFile(pa.BufferReader(parquet), pre_buffer=False).read(use_threads=False)
    rows: list[dict[str, Any]] = table.select(schema.names).cast(schema).to_pylist()
    return rows
