"""The catalog of a data set: dataset.json, videos.parquet, instances.parquet, errors.jsonl.

The catalog is written from the records of published shards. It holds no times, host names or absolute paths, so the
same inputs and settings give the same bytes. Shards that it does not list do not exist for readers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.header import (
    ERRORS,
    FORMAT_VERSION,
    HEADER,
    INSTANCES,
    VIDEOS,
    Header,
    header_bytes,
    read_digested,
    read_header,
)
from vclimb.pipeline.dataset.rows import FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.dataset.tables import (
    check_instances,
    check_videos,
    instances_parquet,
    read_errors,
    read_instances,
    read_videos,
    videos_parquet,
)
from vclimb.pipeline.errors import DatasetFileError, VclimbError
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
            "seconds": round(sum(video.n_frames / video.fps for video in self.videos), 3),
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
    def read(cls, storage: Storage, *, with_errors: bool = True) -> Catalog:
        """Read a data set's catalog; every digest, value and reference in it is checked.

        A run that was killed while it wrote the catalog may leave rows of shards that dataset.json doesn't list yet;
        they don't count.

        Args:
            with_errors: Whether to read `errors.jsonl` too.

        Raises:
            DatasetError: There is no catalog, it is damaged, or it has another format version.
        """
        header = read_header(storage)
        while True:
            try:
                return cls._read(storage, header, with_errors)
            except DatasetFileError:
                before, header = header, read_header(storage)
                if header == before:  # otherwise a run has replaced the catalog meanwhile
                    raise

    @classmethod
    def _read(cls, storage: Storage, header: Header, with_errors: bool) -> Catalog:
        shards = {shard.number: ShardFiles(**shard.model_dump(exclude={"number"})) for shard in header.shards}
        catalog = cls(header.name, header.settings, header.ffmpeg, shards)
        names = (VIDEOS, INSTANCES, ERRORS) if with_errors else (VIDEOS, INSTANCES)
        files = {name: read_digested(storage, header, name) for name in names}
        with _damage(storage, VIDEOS):
            data, source = files[VIDEOS]
            videos = read_videos(data, source.totals.videos)
            catalog.videos = [video for video in videos if source is header or video.shard in shards]
            check_videos(catalog.videos, header)
        with _damage(storage, INSTANCES):
            data, source = files[INSTANCES]
            instances, keys = read_instances(data, source.totals.instances), {video.key for video in catalog.videos}
            catalog.instances = [instance for instance in instances if source is header or instance.key in keys]
            check_instances(catalog.instances, catalog.videos)
        if with_errors:
            with _damage(storage, ERRORS):
                data, source = files[ERRORS]
                catalog.errors = read_errors(data, source.totals.errors)
        totals = {**catalog.totals(), "errors": header.totals.errors}
        if header.totals.model_dump() != totals or header.classes != catalog.classes:
            raise DatasetFileError(str(storage), HEADER, "its totals or classes are not those of the tables")
        return catalog


@contextmanager
def _damage(storage: Storage, name: str) -> Iterator[None]:
    try:
        yield
    except VclimbError:
        raise
    except ValueError as error:
        raise DatasetFileError(str(storage), name, str(error)) from None
