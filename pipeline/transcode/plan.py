"""The plan of a run: which video goes into which shard.

Shards are cut by the estimated size of their videos, so a plan depends on sources and settings alone, not on the number
of workers or on when a run was killed. A plan stays on disk until its run is complete; a later run follows it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, TypeAdapter

from vclimb.pipeline.dataset.fields import Size
from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.sources.keys import is_key
from vclimb.pipeline.sources.table import SPLITS, SourceVideo, by_class_and_key
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.plain_name import PlainName
from vclimb.pipeline.transcode.encode import estimated_bytes
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.work_file import read_work_file, work_bytes

PLAN = "plan.json"
_CONSEQUENCE = "finished shards are kept, and the others are planned anew"


@dataclass(frozen=True)
class PlannedVideo:
    video: SourceVideo
    probe: Probe


@dataclass(frozen=True)
class PlannedShard:
    number: Size
    videos: tuple[PlannedVideo, ...]


@dataclass(frozen=True)
class Plan:
    """The shards that a run makes, and the videos that already failed while planning."""

    settings: EncodeSettings
    name: PlainName
    shards: tuple[PlannedShard, ...]
    errors: tuple[FailedVideo, ...]

    def write(self, folder: Path) -> None:
        replace_file(folder / PLAN, work_bytes(_PLAN, self))

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in a folder; None if there is none. Raises a DatasetError where it is damaged."""
        try:
            return read_work_file(folder / PLAN, _PLAN, _CONSEQUENCE)
        except FileNotFoundError:
            return None


def _checked(plan: Plan) -> Plan:
    """Raise a ValueError where a plan, which somebody else may have written, has values that no run plans."""
    numbers = [shard.number for shard in plan.shards]
    if numbers != sorted(set(numbers)):
        raise ValueError("its shards are not in the order of their numbers")
    videos = [planned.video for shard in plan.shards for planned in shard.videos]
    for what, names in (("key", [video.key for video in videos]), ("path", [video.path for video in videos])):
        if len(set(names)) < len(names):
            raise ValueError(f"two of its videos have the same {what}")
    if not all(shard.videos for shard in plan.shards):
        raise ValueError("one of its shards has no videos")
    for video in videos:
        if not is_key(video.key):
            raise ValueError(f"{video.key!r:.60} is not a key")
        if not video.path or "\0" in video.path:
            raise ValueError(f"{video.path!r:.60} is not a path")
        for instance in video.instances:
            if instance.split not in (*SPLITS, None):
                raise ValueError(f"video {video.key!r} has an instance of split {instance.split!r:.20}")
    return plan


def leads_outside(path: str) -> bool:
    """Whether a path that is relative to a source's root may leave it, as only a table may allow."""
    return os.path.isabs(path) or ".." in path.split("/")


_PLAN: TypeAdapter[Plan] = TypeAdapter(Annotated[Plan, AfterValidator(_checked)])


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
