"""The plan of a run: which video goes into which shard.

Shards are cut by the estimated size of their videos, so a plan depends on sources and settings alone, not on the number
of workers or on when a run was killed. A plan stays on disk until its run is complete; a later run follows it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.sources.table import SourceVideo, by_class_and_key
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.transcode.encode import estimated_bytes
from vclimb.pipeline.transcode.probe import Probe

PLAN = "plan.json"


@dataclass(frozen=True)
class PlannedVideo:
    video: SourceVideo
    probe: Probe


@dataclass(frozen=True)
class PlannedShard:
    number: int
    videos: tuple[PlannedVideo, ...]


@dataclass(frozen=True)
class Plan:
    """The shards that a run makes, and the videos that already failed while planning."""

    settings: EncodeSettings
    name: str
    shards: tuple[PlannedShard, ...]
    errors: tuple[FailedVideo, ...]

    def write(self, folder: Path) -> None:
        replace_file(folder / PLAN, json.dumps(_PLAN.dump_python(self, mode="json")).encode())

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in a folder; None if there is none."""
        try:
            return _PLAN.validate_python(json.loads((folder / PLAN).read_bytes()))
        except FileNotFoundError:
            return None


# The JSON itself is written and read by `json`, since a path may hold half a surrogate pair.
_PLAN = TypeAdapter(Plan)


def cut_shards(
    videos: Sequence[PlannedVideo], settings: EncodeSettings, shard_bytes: int, first_number: int
) -> tuple[PlannedShard, ...]:
    """Cut videos, sorted by class and key, into shards of about `shard_bytes` each, numbered from `first_number`.

    A video larger than that gets a separate shard.
    """
    shards: list[list[PlannedVideo]] = []
    filled = 0
    for planned in sorted(videos, key=lambda planned: by_class_and_key(planned.video)):
        size = estimated_bytes(planned.probe, settings)
        if not shards or filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(planned)
        filled += size
    return tuple(PlannedShard(first_number + i, tuple(videos)) for i, videos in enumerate(shards))


def spread_over_classes(videos: Sequence[SourceVideo], limit: int) -> list[SourceVideo]:
    """Choose `limit` videos from the classes in turn, so that a trial run sees every class.

    A larger limit chooses the same videos and more.
    """
    by_class: dict[str, list[SourceVideo]] = defaultdict(list)
    for video in sorted(videos, key=by_class_and_key):
        by_class[by_class_and_key(video)[0]].append(video)
    ranked = [(rank, label, video) for label, members in by_class.items() for rank, video in enumerate(members)]
    ranked.sort(key=lambda entry: (entry[0], entry[1]))
    return [video for _, _, video in ranked[:limit]]
