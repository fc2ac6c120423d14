"""The plan of a run: which video goes into which shard.

Shards are cut by the estimated size of their videos, so a plan depends on sources and settings alone, not on the number
of workers or on when a run was killed. A plan stays on disk until its run is complete; a later run follows it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.sources.table import Instance, SourceVideo, by_class_and_key
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.transcode.encode import estimated_bytes
from vclimb.pipeline.transcode.probe import Probe

PLAN = "plan.jsonl"


@dataclass(frozen=True)
class PlannedVideo:
    """A video of the source with its probe."""

    video: SourceVideo
    probe: Probe


@dataclass(frozen=True)
class PlannedShard:
    """The videos of a shard, in order."""

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
        """Write the plan into a folder: a header line, then a line for each video."""
        errors = [asdict(error) for error in self.errors]
        lines: list[dict[str, Any]] = [{"settings": self.settings.to_json(), "name": self.name, "errors": errors}]
        lines += [
            {"shard": shard.number, "video": asdict(planned.video), "probe": planned.probe.to_json()}
            for shard in self.shards
            for planned in shard.videos
        ]
        replace_file(folder / PLAN, "".join(json.dumps(line) + "\n" for line in lines).encode())

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in a folder; None if there is none."""
        try:
            lines = (folder / PLAN).read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        header = json.loads(lines[0])
        shards: dict[int, list[PlannedVideo]] = defaultdict(list)
        for line in filter(None, lines[1:]):
            row = json.loads(line)
            instances = tuple(Instance(**instance) for instance in row["video"]["instances"])
            video = SourceVideo(**{**row["video"], "instances": instances})
            shards[row["shard"]].append(PlannedVideo(video, Probe.from_json(row["probe"])))
        return cls(
            settings=EncodeSettings.from_json(header["settings"]),
            name=header["name"],
            shards=tuple(PlannedShard(number, tuple(videos)) for number, videos in sorted(shards.items())),
            errors=tuple(FailedVideo(**error) for error in header["errors"]),
        )


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
