"""The catalog of a data set: dataset.json, videos.parquet, instances.parquet, errors.jsonl.

The catalog is written from the records of published shards. It holds no times, host names or absolute paths, so the
same inputs and settings give the same bytes. Shards that it does not list do not exist for readers.
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
from pydantic import TypeAdapter

from vclimb.pipeline.dataset.rows import INSTANCE_SCHEMA, VIDEO_SCHEMA, FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.errors import DatasetError, DatasetMissingError
from vclimb.pipeline.system.durable import replace_file

FORMAT_VERSION = 1
HEADER, VIDEOS, INSTANCES, ERRORS = "dataset.json", "videos.parquet", "instances.parquet", "errors.jsonl"
_VIDEOS = TypeAdapter(list[StoredVideo])
_SETTINGS = TypeAdapter(EncodeSettings)


@dataclass
class ShardRecord:
    """The catalog rows of one published shard."""

    number: int  # Number of the shard.
    files: ShardFiles | None  # Files of the shard. None: none of its videos could be stored, so there are no files.
    videos: list[StoredVideo] = field(default_factory=list)  # Stored videos, in the shard's order.
    instances: list[StoredInstance] = field(default_factory=list)  # Instances, in the videos' order.
    errors: list[FailedVideo] = field(default_factory=list)  # Videos and instances that could not be stored.


@dataclass
class Catalog:
    name: str  # Stem of the shards' file names.
    settings: EncodeSettings  # Settings that all videos are stored with.
    ffmpeg: list[str]  # Versions of ffmpeg that wrote the data set.
    shards: dict[int, ShardFiles] = field(default_factory=dict)  # Shard number to the shard's files.
    videos: list[StoredVideo] = field(default_factory=list)  # Stored videos, in the shards' order.
    instances: list[StoredInstance] = field(default_factory=list)  # Instances, in the videos' order.
    errors: list[FailedVideo] = field(default_factory=list)  # Videos and instances that could not be stored, by path.

    def add(self, record: ShardRecord) -> None:
        """Add a shard's record. Of a shard that is already there, only new errors count; `write` drops repeats."""
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
        return sorted({instance.label for instance in self.instances})

    def totals(self) -> dict[str, Any]:
        """Counts, bytes and seconds over the data set."""
        return {
            "classes": len(self.classes),
            "videos": len(self.videos),
            "instances": len(self.instances),
            "frames": sum(video.n_frames for video in self.videos),
            "seconds": round(sum(video.n_frames / video.fps for video in self.videos), 3),
            "bytes": sum(video.bytes for video in self.videos),
            "source_bytes": sum(video.source_bytes for video in self.videos),
            "errors": len(self.errors),
        }

    def write(self, folder: Path) -> None:
        """Write the four files; dataset.json, which holds the others' digests, comes last."""
        self.errors = sorted(dict.fromkeys(self.errors), key=lambda error: (error.path, error.stage, error.reason))
        rows = [json.dumps(asdict(error), ensure_ascii=False, sort_keys=True) + "\n" for error in self.errors]
        files = {
            VIDEOS: _parquet([video.to_row() for video in self.videos], VIDEO_SCHEMA),
            INSTANCES: _parquet([asdict(instance) for instance in self.instances], INSTANCE_SCHEMA),
            ERRORS: "".join(rows).encode(),
        }
        header = {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "settings": self.settings.to_json(),
            "settings_sha256": self.settings.digest(),
            "ffmpeg": sorted(self.ffmpeg),
            "classes": self.classes,
            "totals": self.totals(),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "shards": [{"number": number, **asdict(shard)} for number, shard in sorted(self.shards.items())],
        }
        header["sha256"] = _header_sha256(header)
        for name, data in files.items():
            replace_file(folder / name, data)
        replace_file(folder / HEADER, (json.dumps(header, indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, storage: Storage) -> Catalog:
        """Read a data set's catalog.

        A run that was killed while it wrote the catalog may leave rows of shards that dataset.json doesn't list yet;
        they don't count.

        Raises:
            DatasetError: There is no catalog, it is damaged, or it has another format version.
        """
        header = read_header(storage)
        try:
            shards = {row.pop("number"): ShardFiles(**row) for row in header["shards"]}
            rows = _rows(storage.read(VIDEOS), VIDEO_SCHEMA)
            videos = _VIDEOS.validate_python([row for row in rows if row["shard"] in shards])
            keys = {video.key for video in videos}
            instances = _rows(storage.read(INSTANCES), INSTANCE_SCHEMA)
            return cls(
                name=header["name"],
                settings=_SETTINGS.validate_python(header["settings"]),
                ffmpeg=header["ffmpeg"],
                shards=shards,
                videos=videos,
                instances=[StoredInstance(**row) for row in instances if row["key"] in keys],
                errors=[FailedVideo(**json.loads(line)) for line in storage.read(ERRORS).split(b"\n") if line],
            )
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, pa.ArrowException) as error:
            raise DatasetError(f"the catalog of {storage} is damaged: {type(error).__name__}: {error}") from None


def read_header(storage: Storage) -> dict[str, Any]:
    """The content of dataset.json.

    Raises:
        DatasetMissingError: There is no dataset.json.
        DatasetError: dataset.json isn't JSON, has another format version, or isn't as it was written.
    """
    try:
        header: dict[str, Any] = json.loads(storage.read(HEADER))
        version = header["format_version"]
    except FileNotFoundError:
        raise DatasetMissingError(
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
    """SHA-256 of the content of dataset.json without the digest itself, as canonical JSON."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def _rows(parquet: bytes, schema: pa.Schema) -> list[dict[str, Any]]:
    # Without arrow's threads: a thread that touches a Python object while this process forks or exits makes the child
    # hang or the process abort.
    table = pq.ParquetFile(pa.BufferReader(parquet), pre_buffer=False).read(use_threads=False)
    rows: list[dict[str, Any]] = table.select(schema.names).cast(schema).to_pylist()
    return rows
