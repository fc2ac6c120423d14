"""Planning a run: probing its videos, and cutting them into the shards of a plan on disk.

Probes come in any order and are needed in that of the plan. In between they lie in a file of this run: in memory are
the places of the probes in it, 8 bytes a video.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, overload

from pydantic import TypeAdapter

from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.sources.remote import RemoteSource, Source
from vclimb.pipeline.sources.table import SourceVideo, by_class_and_key, printable_path
from vclimb.pipeline.transcode.encode import estimated_bytes
from vclimb.pipeline.transcode.plan import Plan, PlannedVideo, cut_shards
from vclimb.pipeline.transcode.probe import Probe

_PROBE = TypeAdapter(Probe)
_NONE = -1


class SourceFiles(Sequence[Source]):
    """Files of videos. They are made when they are asked for, since a million paths take 0.4 GB."""

    def __init__(self, root: Path, videos: Sequence[SourceVideo], remote: RemoteSource | None = None) -> None:
        self._root, self._videos, self._remote = root, videos, remote

    def __len__(self) -> int:
        return len(self._videos)

    @overload
    def __getitem__(self, place: int) -> Source: ...
    @overload
    def __getitem__(self, place: slice) -> SourceFiles: ...
    def __getitem__(self, place: int | slice) -> Source | SourceFiles:
        if isinstance(place, slice):
            return SourceFiles(self._root, self._videos[place], self._remote)
        path = self._videos[place].path
        return self._root / path if self._remote is None else self._remote.file(path)


class _ProbeFile:
    """Probes in a file, by the numbers of their videos."""

    def __init__(self, file: BinaryIO, n_videos: int) -> None:
        self._file, self._end = file, 0
        self._offsets = array("q", [_NONE]) * n_videos

    def put(self, index: int, probe: Probe) -> None:
        line = _PROBE.dump_json(probe) + b"\n"
        self._file.write(line)
        self._offsets[index] = self._end
        self._end += len(line)

    def get(self, index: int) -> Probe | None:
        """The probe of a video; None if there is none."""
        if self._offsets[index] == _NONE:
            return None
        self._file.seek(self._offsets[index])
        return _PROBE.validate_json(self._file.readline())


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
        self, videos: Sequence[SourceVideo], probes: Iterable[tuple[int, Probe | VideoError]], work: Path, drafts: Path
    ) -> Plan:
        """Write the plan of some videos, which are in the order of `in_order`, into the folder `work`.

        Args:
            probes: Numbers of the videos and their probes, in any order.
            drafts: Folder for unfinished files of this run.
        """
        errors: dict[int, VideoError] = {}
        path = drafts / "probes.jsonl"
        with open(path, "w+b") as file:
            stored = _ProbeFile(file, len(videos))
            for index, probe in probes:
                if isinstance(probe, VideoError):
                    errors[index] = probe
                else:
                    stored.put(index, probe)
            failed = [FailedVideo(printable_path(videos[i].path), **errors[i].to_json()) for i in sorted(errors)]
            shards = cut_shards(self._planned(videos, stored), self.settings, self.shard_bytes, self.first_number)
            plan = Plan.write(work, self.settings, self.name, failed, shards)
        path.unlink()
        return plan

    def _planned(self, videos: Sequence[SourceVideo], stored: _ProbeFile) -> Iterable[PlannedVideo]:
        self.needed_bytes = 0
        for index, video in enumerate(videos):
            if (probe := stored.get(index)) is not None:
                self.needed_bytes += estimated_bytes(probe, self.settings)
                yield PlannedVideo(video, probe)


def in_order(videos: Iterable[SourceVideo]) -> list[SourceVideo]:
    """Sort videos as a plan has them: by class, so that a class lies together on disk, and by key."""
    return sorted(videos, key=by_class_and_key)
