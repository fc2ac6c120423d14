"""The catalog of a data set as it is read: its tables as columns, every digest, value and reference in them checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from itertools import chain
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc

from vclimb.pipeline.dataset.arrow_memory import system_memory
from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.header import ERRORS, HEADER, INSTANCES, VIDEOS, Header, open_digested, read_header
from vclimb.pipeline.dataset.packing import exact_sum
from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.dataset.tables import check_videos, read_errors, read_instances, read_videos
from vclimb.pipeline.errors import DatasetFileError, VclimbError

Files = dict[str, tuple[BufferedIOBase, Header]]
"""Open tables by name, each with the header that holds its SHA-256."""


@dataclass(frozen=True)
class StoredCatalog:
    name: str  # Stem of the shards' file names.
    settings: EncodeSettings  # Settings that all videos are stored with.
    ffmpeg: list[str]  # Versions of ffmpeg that wrote the data set.
    shards: dict[int, ShardFiles]  # Shard number to the shard's files.
    videos: StoredVideos  # Stored videos, in the shards' order.
    instances: StoredInstances  # Instances, in the videos' order.
    errors: list[FailedVideo]  # Videos and instances that could not be stored, by path.

    @cached_property
    def classes(self) -> list[str]:
        """Class names in alphabetical order."""
        labels = self.instances.columns.column("label")
        return sorted(labels.dictionary.take(pc.unique(labels.indices)).to_pylist())

    def totals(self) -> dict[str, Any]:
        """Counts, bytes and seconds over the data set."""
        parts = [*self.videos.parts()]
        seconds = ((part.numbers("n_frames") / part.rates()).tolist() for part in parts)
        return {
            "classes": len(self.classes),
            "videos": len(self.videos),
            "instances": len(self.instances),
            "frames": sum(exact_sum(part.numbers("n_frames")) for part in parts),
            "seconds": round(math.fsum(chain.from_iterable(seconds)), 3),
            "bytes": sum(exact_sum(part.numbers("bytes")) for part in parts),
            "source_bytes": sum(exact_sum(part.numbers("source_bytes")) for part in parts),
            "errors": len(self.errors),
        }

    @classmethod
    def read(cls, storage: Storage, *, with_errors: bool = True) -> Self:
        """Read a data set's catalog; every digest, value and reference in it is checked.

        A run that was killed while it wrote the catalog may leave rows of shards that dataset.json doesn't list yet;
        they don't count.

        Args:
            with_errors: Whether to read `errors.jsonl` too.

        Raises:
            DatasetError: There is no catalog, it is damaged, or it has another format version.
        """
        with system_memory():
            return cls._read_whole(storage, with_errors)

    @classmethod
    def _read_whole(cls, storage: Storage, with_errors: bool) -> Self:
        header = read_header(storage)
        while True:
            try:
                return cls._read(storage, header, with_errors)
            except DatasetFileError:
                before, header = header, read_header(storage)
                if header == before:  # otherwise a run has replaced the catalog meanwhile
                    raise

    @classmethod
    def _read(cls, storage: Storage, header: Header, with_errors: bool) -> Self:
        names = (VIDEOS, INSTANCES, ERRORS) if with_errors else (VIDEOS, INSTANCES)
        files: Files = {}
        with ExitStack() as opened:
            for name in names:
                files[name] = open_digested(storage, header, name)
                opened.enter_context(files[name][0])
            return cls._of_files(storage, header, files)

    @classmethod
    def _of_files(cls, storage: Storage, header: Header, files: Files) -> Self:
        shards = {shard.number: shard.files() for shard in header.shards}
        with _damage(storage, VIDEOS):
            file, source = files[VIDEOS]
            videos = read_videos(file, source.totals.videos)
            if source is not header:
                videos = videos.take(np.flatnonzero(np.isin(videos.numbers("shard"), [*shards])))
            check_videos(videos, header)
        with _damage(storage, INSTANCES):
            file, source = files[INSTANCES]
            instances = read_instances(file, source.totals.instances, videos, known_only=source is not header)
        errors = []
        if ERRORS in files:
            with _damage(storage, ERRORS):
                file, source = files[ERRORS]
                errors = read_errors(file.read(), source.totals.errors)
        catalog = cls(header.name, header.settings, header.ffmpeg, shards, videos, instances, errors)
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
