"""Planning a run: probing its videos, and cutting them into the shards of a plan on disk.

Probes come in any order and are needed in that of the plan. In between they lie in a file of this run, as the JSON that
the plan has of them: in memory are 24 bytes a video.
"""

from __future__ import annotations

import functools
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from pydantic import TypeAdapter

from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.sources.remote import RemoteSource, Source
from vclimb.pipeline.sources.table import Instance, SourceVideos, printable_path
from vclimb.pipeline.transcode.encode import estimated_bytes
from vclimb.pipeline.transcode.plan import Plan, ShardLine
from vclimb.pipeline.transcode.probe import Probe

_PROBE = TypeAdapter(Probe)
_INSTANCES = TypeAdapter(tuple[Instance, ...])
_NONE = -1
# Videos of a class follow one another and nearly always have the same instances.
_KNOWN_INSTANCES = 1024


class SourceFiles(Sequence[Source]):
    """Files of videos. They are made when they are asked for, since a million paths take 0.4 GB."""

    def __init__(self, root: Path, paths: Sequence[str], remote: RemoteSource | None = None) -> None:
        self._root, self._paths, self._remote = root, paths, remote

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, place: int) -> Source: ...
    @overload
    def __getitem__(self, place: slice) -> SourceFiles: ...
    def __getitem__(self, place: int | slice) -> Source | SourceFiles:
        if isinstance(place, slice):
            return SourceFiles(self._root, self._paths[place], self._remote)
        path = self._paths[place]
        return self._root / path if self._remote is None else self._remote.file(path)


class _ProbeFile:
    """Probes in a file, by the numbers of their videos.

    Attributes:
        sizes: Estimated size of each stored video.
        seconds: Duration of each video.
    """

    def __init__(self, file: BinaryIO, n_videos: int) -> None:
        self._file, self._end = file, 0
        self._offsets = array("q", [_NONE]) * n_videos
        self.sizes, self.seconds = array("q", [0]) * n_videos, array("d", [0.0]) * n_videos

    def put(self, number: int, probe: Probe, size: int) -> None:
        line = _json(_PROBE, probe).encode() + b"\n"
        self._file.write(line)
        self._offsets[number] = self._end
        self._end += len(line)
        self.sizes[number], self.seconds[number] = size, probe.duration_seconds

    def numbers(self) -> list[int]:
        """The numbers of the videos that have a probe."""
        found: list[int] = np.flatnonzero(np.asarray(self._offsets) != _NONE).tolist()
        return found

    def get(self, number: int) -> str:
        """The JSON of a video's probe."""
        self._file.seek(self._offsets[number])
        return self._file.readline().decode().rstrip()


@dataclass
class Planning:
    """What is to be planned, and where.

    Attributes:
        settings: Settings that the videos are stored with.
        name: Stem of the shards' file names.
        shard_bytes: Aimed size of a shard.
        first_number: Number of the first shard.
        needed_bytes: Estimated size of all planned videos, known after `write`.
    """

    settings: EncodeSettings
    name: str
    shard_bytes: int
    first_number: int
    needed_bytes: int = 0

    def write(
        self, videos: SourceVideos, probes: Iterable[tuple[int, Probe | VideoError]], work: Path, drafts: Path
    ) -> Plan:
        """Write the plan of some videos, which are in the order of `SourceVideos.in_order`, into the folder `work`.

        Args:
            probes: Numbers of the videos and their probes, in any order.
            drafts: Folder for unfinished files of this run.
        """
        errors: dict[int, VideoError] = {}
        path = drafts / "probes.jsonl"
        with open(path, "w+b") as file:
            stored = _ProbeFile(file, len(videos))
            for number, probe in probes:
                if isinstance(probe, VideoError):
                    errors[number] = probe
                else:
                    stored.put(number, probe, estimated_bytes(probe, self.settings))
            failed = [FailedVideo(printable_path(videos.paths[i]), **errors[i].to_json()) for i in sorted(errors)]
            plan = Plan.write(work, self.settings, self.name, failed, self._shards(videos, stored))
        path.unlink()
        return plan

    def _shards(self, videos: SourceVideos, stored: _ProbeFile) -> Iterator[ShardLine]:
        self.needed_bytes = sum(stored.sizes)
        planned = stored.numbers()

        @functools.lru_cache(_KNOWN_INSTANCES)
        def instances(segment: int) -> str:
            return _json(_INSTANCES, videos.segments[segment])

        cuts = cut_shards((stored.sizes[i] for i in planned), self.shard_bytes)
        for number, cut in enumerate(cuts, self.first_number):
            members = planned[cut]
            # As `json` writes it, piece by piece, since models of a million videos take half a minute.
            rows = ", ".join(
                f'{{"video": {{"path": {json.dumps(videos.paths[i])}, "key": {json.dumps(videos.keys[i])}, '
                f'"instances": {instances(segment)}, "group": {json.dumps(videos.groups[i])}}}, '
                f'"probe": {stored.get(i)}}}'
                for i, segment in zip(members, videos.segment[members].tolist(), strict=True)
            )
            line = f'{{"number": {number}, "videos": [{rows}]}}\n'.encode()
            yield ShardLine(number, line, len(members), sum(stored.seconds[i] for i in members))


def _json(kind: TypeAdapter[Any], content: object) -> str:
    return json.dumps(kind.dump_python(content, mode="json"))


def cut_shards(sizes: Iterable[int], shard_bytes: int) -> Iterator[slice]:
    """Cut videos of some sizes, in their order, into shards of about `shard_bytes` each.

    A video larger than that gets a separate shard.
    """
    start, stop, filled = 0, 0, 0
    for stop, size in enumerate(sizes, 1):
        if stop - 1 > start and filled + size > shard_bytes:
            yield slice(start, stop - 1)
            start, filled = stop - 1, 0
        filled += size
    if stop:
        yield slice(start, stop)


def spread_over_classes(videos: SourceVideos, limit: int) -> SourceVideos:
    """Choose `limit` videos from the classes in turn, so that a trial run sees every class.

    A larger limit chooses the same videos and more.
    """
    videos = videos.in_order()
    classes = videos.classes()
    rank = np.arange(len(videos)) - np.searchsorted(classes, classes)  # of a video in its class
    return videos.take(np.lexsort((classes, rank))[:limit].tolist())
