"""The catalog of a data set: dataset.json, videos.parquet, instances.parquet, errors.jsonl.

The catalog is written from the records of published shards. It holds no times, host names or absolute paths, so the
same inputs and settings give the same bytes. Shards that it does not list do not exist for readers.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.header import ERRORS, FORMAT_VERSION, HEADER, INSTANCES, VIDEOS, header_bytes
from vclimb.pipeline.dataset.rows import FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.dataset.stored_catalog import StoredCatalog
from vclimb.pipeline.dataset.tables import instances_parquet, videos_parquet
from vclimb.pipeline.system.durable import replace_in_order


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
            "seconds": round(math.fsum(video.n_frames / video.fps for video in self.videos), 3),
            "bytes": sum(video.bytes for video in self.videos),
            "source_bytes": sum(video.source_bytes for video in self.videos),
            "errors": len(self.errors),
        }

    def write(self, folder: Path) -> None:
        """Write the four files. dataset.json, which holds the others' digests, takes its place last.

        Its draft is there before: where a run is killed in between, a table has a digest of the old or of the new one.
        """
        self.videos.sort(key=lambda video: video.shard)  # a run that was stopped may have published a later shard
        places = {video.key: place for place, video in enumerate(self.videos)}
        self.instances.sort(key=lambda instance: places[instance.key])
        self.errors = sorted(dict.fromkeys(self.errors), key=lambda error: (error.path, error.stage, error.reason))
        rows = [json.dumps(asdict(error), ensure_ascii=False, sort_keys=True) + "\n" for error in self.errors]
        files = {
            VIDEOS: videos_parquet(self.videos),
            INSTANCES: instances_parquet(self.instances),
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
        replace_in_order(
            {**{folder / name: data for name, data in files.items()}, folder / HEADER: header_bytes(header)}
        )

    @classmethod
    def read(cls, storage: Storage) -> Catalog:
        """Read a data set's catalog as rows, as `StoredCatalog.read` does as columns."""
        stored = StoredCatalog.read(storage)
        lists = [*stored.videos], [*stored.instances], stored.errors
        return cls(stored.name, stored.settings, stored.ffmpeg, stored.shards, *lists)

    def stored(self) -> StoredCatalog:
        """The catalog as columns, as a reader of the written files has it."""
        videos = StoredVideos.of(self.videos)
        instances = StoredInstances.of(self.instances, videos)
        return StoredCatalog(self.name, self.settings, self.ffmpeg, self.shards, videos, instances, self.errors)
