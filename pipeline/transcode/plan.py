"""The plan of a run: which video goes into which shard.

Shards are cut by the estimated size of their videos, so a plan depends on sources and settings alone, not on the number
of workers or on when a run was killed. A plan stays on disk until its run is complete; a later run follows it.

It is a file of JSON lines: the settings, then a line for each shard, and last the SHA-256 of the lines before. Shards
are written and read one by one, since the facts about a million videos would take gigabytes of memory.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import operator
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar, overload

import numpy as np
from pydantic import AfterValidator, TypeAdapter

from vclimb.pipeline.dataset.fields import Size
from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.sources.keys import is_key
from vclimb.pipeline.sources.table import SPLITS, SourceVideo
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.pipeline.system.plain_name import PlainName
from vclimb.pipeline.system.sealed_json import SEAL
from vclimb.pipeline.system.small_files import lines_of
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.work_file import damaged_work_file, parse_line

Content = TypeVar("Content")

PLAN = "plan.jsonl"
_CONSEQUENCE = "finished shards are kept, and the others are planned anew"
# A shard of 100,000 videos takes 60 MB.
_MAX_LINE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class PlannedVideo:
    video: SourceVideo
    probe: Probe


@dataclass(frozen=True)
class PlannedShard:
    number: Size
    videos: tuple[PlannedVideo, ...]


@dataclass(frozen=True)
class _Head:
    settings: EncodeSettings
    name: PlainName
    errors: tuple[FailedVideo, ...]


@dataclass
class _Index:
    """Where the shards of a plan lie in its file."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    n_videos: int = 0
    seconds: float = 0.0

    def add(self, offset: int, number: int, n_videos: int, seconds: float) -> None:
        self.numbers.append(number)
        self.offsets.append(offset)
        self.n_videos += n_videos
        self.seconds += seconds


@dataclass(frozen=True)
class ShardLine:
    """A shard as its line in a plan, and what a plan tells of all shards."""

    number: int  # Number of the shard.
    line: bytes  # JSON of the shard.
    n_videos: int  # Number of videos.
    seconds: float  # Duration of the videos.


class PlannedShards(Sequence[PlannedShard]):
    """Shards of a plan, each read from its file when it is asked for."""

    def __init__(self, path: Path, numbers: Sequence[int], offsets: Sequence[int]) -> None:
        self._path, self.numbers, self._offsets = path, numbers, offsets

    def without(self, done: Collection[int]) -> PlannedShards:
        """The shards whose numbers are not among those that are done."""
        left = [place for place, number in enumerate(self.numbers) if number not in done]
        return PlannedShards(
            self._path, [self.numbers[place] for place in left], [self._offsets[place] for place in left]
        )

    def numbered(self, number: int) -> PlannedShard | None:
        """The shard of a number; None if there is none."""
        place = bisect.bisect_left(self.numbers, number)
        return self[place] if place < len(self.numbers) and self.numbers[place] == number else None

    def paths(self) -> Iterator[str]:
        """The path of each video, without the checks that a shard gets when it is asked for."""
        for offset in self._offsets:
            for planned in self._at(offset, json.loads)["videos"]:
                yield planned["video"]["path"]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> PlannedShard: ...
    @overload
    def __getitem__(self, place: slice) -> PlannedShards: ...
    def __getitem__(self, place: int | slice) -> PlannedShard | PlannedShards:
        if isinstance(place, slice):
            return PlannedShards(self._path, self.numbers[place], self._offsets[place])
        return self._at(self._offsets[place], lambda line: parse_line(_SHARD, line))

    def _at(self, offset: int, parse: Callable[[bytes], Content]) -> Content:
        try:
            with open(self._path, "rb") as file:
                file.seek(offset)
                return parse(file.readline(_MAX_LINE_BYTES))
        except ValueError as error:
            raise damaged_work_file(self._path, str(error), _CONSEQUENCE) from None


class Plan:
    """The shards that a run makes, and the videos that already failed while planning.

    Attributes:
        settings: Settings that the videos are stored with.
        name: Stem of the shards' file names.
        errors: Videos that failed while planning.
        shards: The shards, in the order of their numbers.
        n_videos: Number of videos in the shards.
        seconds: Duration of these videos.
    """

    def __init__(self, path: Path, head: _Head, index: _Index) -> None:
        self.settings, self.name, self.errors = head.settings, head.name, head.errors
        self.shards = PlannedShards(path, index.numbers, index.offsets)
        self.n_videos, self.seconds = index.n_videos, index.seconds

    @classmethod
    def write(
        cls,
        folder: Path,
        settings: EncodeSettings,
        name: str,
        errors: Sequence[FailedVideo],
        shards: Iterable[ShardLine],
    ) -> Plan:
        """Write a plan into a folder, shard by shard."""
        head, index = _Head(settings, name, tuple(errors)), _Index()
        replace_file(folder / PLAN, _lines(head, shards, index))
        return cls(folder / PLAN, head, index)

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in a folder; None if there is none. Raises a DatasetError where it is damaged."""
        path = folder / PLAN
        try:
            return cls(path, *_checked(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise damaged_work_file(path, str(reason), _CONSEQUENCE) from None


def _last_line(digest: str) -> bytes:
    return json.dumps({SEAL: digest}).encode() + b"\n"


def _lines(head: _Head, shards: Iterable[ShardLine], index: _Index) -> Iterator[bytes]:
    """The lines of a plan's file. The index learns where the shards lie."""
    # By `json`, since a path may hold half a surrogate pair.
    line = json.dumps(_HEAD.dump_python(head, mode="json")).encode() + b"\n"
    digest, offset = hashlib.sha256(line), len(line)
    yield line
    for shard in shards:
        index.add(offset, shard.number, shard.n_videos, shard.seconds)
        digest.update(shard.line)
        offset += len(shard.line)
        yield shard.line
    yield _last_line(digest.hexdigest())


@collection_paused()
def _checked(path: Path) -> tuple[_Head, _Index]:
    """Read all of a plan, which somebody else may have written.

    Raises a ValueError where it has values that no run plans, or isn't as it was written.
    """
    head, index, is_whole = None, _Index(), False
    digest, offset = hashlib.sha256(), 0
    hashes = {"key": array("q"), "path": array("q")}  # the names of a million videos would take 0.3 GB
    for line in lines_of(path, _MAX_LINE_BYTES):
        if is_whole:
            raise ValueError("lines follow the SHA-256 of its content")
        if head is None:
            head = parse_line(_HEAD, line)
        elif line == _last_line(digest.hexdigest()):
            is_whole = True
        else:
            shard = parse_line(_SHARD, line)
            if index.numbers and shard.number <= index.numbers[-1]:
                raise ValueError("its shards are not in the order of their numbers")
            seconds = sum(planned.probe.duration_seconds for planned in shard.videos)
            index.add(offset, shard.number, len(shard.videos), seconds)
            for what in hashes:
                hashes[what].extend(map(hash, _names(what, shard)))
        digest.update(line)
        offset += len(line)
    if head is None or not is_whole:
        raise ValueError("its content doesn't have the SHA-256 that its last line names")
    for what, of_names in hashes.items():
        if len(np.unique(of_names)) < len(of_names):  # two names are the same, or have the same hash
            shards = PlannedShards(path, index.numbers, index.offsets)
            names = [name for shard in shards for name in _names(what, shard)]
            if len(set(names)) < len(names):
                raise ValueError(f"two of its videos have the same {what}")
    return head, index


def _names(what: str, shard: PlannedShard) -> Iterator[str]:
    return map(operator.attrgetter(f"video.{what}"), shard.videos)


def _checked_shard(shard: PlannedShard) -> PlannedShard:
    """Raise a ValueError where a shard has values that no run plans."""
    if not shard.videos:
        raise ValueError(f"shard {shard.number} has no videos")
    for video in (planned.video for planned in shard.videos):
        if not is_key(video.key):
            raise ValueError(f"{video.key!r:.60} is not a key")
        if not video.path or "\0" in video.path:
            raise ValueError(f"{video.path!r:.60} is not a path")
        for instance in video.instances:
            if instance.split not in (*SPLITS, None):
                raise ValueError(f"video {video.key!r} has an instance of split {instance.split!r:.20}")
    return shard


_HEAD = TypeAdapter(_Head)
_SHARD: TypeAdapter[PlannedShard] = TypeAdapter(Annotated[PlannedShard, AfterValidator(_checked_shard)])
