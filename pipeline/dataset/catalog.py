"""The catalog of a data set: dataset.json, videos.parquet, instances.parquet, errors.jsonl.

The catalog is written from the records of published shards. It holds no times, host names or absolute paths, so the
same inputs and settings give the same bytes. Shards that it does not list do not exist for readers.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.header import ERRORS, FORMAT_VERSION, HEADER, INSTANCES, VIDEOS, Totals, header_bytes
from vclimb.pipeline.dataset.key_index import KeyIndex
from vclimb.pipeline.dataset.packing import exact_sum
from vclimb.pipeline.dataset.rows import FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.dataset.stored_catalog import StoredCatalog
from vclimb.pipeline.dataset.tables import instances_table, parquet_of, videos_table
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

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the four files, and return the totals.

        dataset.json, which holds the others' digests, takes its place last.
        Its draft is there before: where a run is killed in between, a table has a digest of the old or of the new one.
        """
        self.videos.sort(key=attrgetter("shard"))  # a run that was stopped may have published a later shard
        videos, instances = videos_table(self.videos), self._instances_in_order()
        self.errors = sorted(dict.fromkeys(self.errors), key=lambda error: (error.path, error.stage, error.reason))
        rows = [json.dumps(asdict(error), ensure_ascii=False, sort_keys=True) + "\n" for error in self.errors]
        files = {
            VIDEOS: parquet_of(videos),
            INSTANCES: parquet_of(instances),
            ERRORS: "".join(rows).encode(),
        }
        classes = sorted(pc.unique(instances["label"]).to_pylist())
        counts = {"classes": len(classes), "instances": len(instances), "errors": len(self.errors), **_sums(videos)}
        totals = {name: counts[name] for name in Totals.model_fields}
        header = {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "settings": self.settings.to_json(),
            "settings_sha256": self.settings.digest(),
            "ffmpeg": sorted(self.ffmpeg),
            "classes": classes,
            "totals": totals,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "shards": [{"number": number, **asdict(shard)} for number, shard in sorted(self.shards.items())],
        }
        replace_in_order(
            {**{folder / name: data for name, data in files.items()}, folder / HEADER: header_bytes(header)}
        )
        return totals

    def _instances_in_order(self) -> pa.Table:
        """Put the instances in the order of their videos, and return them as a table."""
        keys = pa.array(map(attrgetter("key"), self.videos), pa.string(), size=len(self.videos))
        of_instances = pa.array(map(attrgetter("key"), self.instances), pa.string(), size=len(self.instances))
        rows = KeyIndex(keys).rows_of(of_instances)
        if (rows < 0).any():
            raise KeyError(self.instances[int(np.argmin(rows))].key)
        if (rows[1:] < rows[:-1]).any():
            self.instances = [self.instances[place] for place in np.argsort(rows, kind="stable").tolist()]
        return instances_table(self.instances)

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


def _sums(videos: pa.Table) -> dict[str, Any]:
    """Counts, bytes and seconds over the videos."""
    n_frames, n_bytes, n_source_bytes = (videos[name].to_numpy() for name in ("n_frames", "bytes", "source_bytes"))
    return {
        "videos": len(videos),
        "frames": exact_sum(n_frames),
        "seconds": round(math.fsum((n_frames / videos["fps"].to_numpy()).tolist()), 3),
        "bytes": exact_sum(n_bytes),
        "source_bytes": exact_sum(n_source_bytes),
    }
