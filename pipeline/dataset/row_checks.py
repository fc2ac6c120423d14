"""Checks of a data set's rows against its shards and one another, one by one, which say what is wrong with a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vclimb.pipeline.codecs.encoded import MAX_PIXELS
from vclimb.pipeline.dataset.header import Header, StoredShard
from vclimb.pipeline.dataset.rows import StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import ShardFiles


def check_videos(videos: Sequence[StoredVideo], header: Header) -> None:
    """Compare the videos of a data set with its shards. Raises a ValueError that names a video that doesn't fit."""
    seen: set[str] = set()
    shards = iter(header.shards)
    for shard, members in _by_shard(videos):
        stored = next(shards, None)
        if stored is None or stored.number != shard:
            raise ValueError(f"its videos are not in the order of the shards, at shard {shard}")
        check_members(members, stored, header.settings.codec)
        seen.update(video.key for video in members)
    if next(shards, None) is not None:
        raise ValueError("it has no videos of a shard that is listed")
    if len(seen) != len(videos):
        raise ValueError("two videos have the same key")


def _by_shard(videos: Sequence[StoredVideo]) -> Iterator[tuple[int, Sequence[StoredVideo]]]:
    start = 0
    for stop in range(1, len(videos) + 1):
        if stop == len(videos) or videos[stop].shard != videos[start].shard:
            yield videos[start].shard, videos[start:stop]
            start = stop


def check_members(videos: Sequence[StoredVideo], shard: StoredShard | ShardFiles, codec: str) -> None:
    """Compare the videos of a shard with it and one another. Raises a ValueError that names one that doesn't fit."""
    first_frame, end = 0, 0
    for video in videos:
        if video.codec != codec:
            raise ValueError(f"video {video.key!r} has codec {video.codec!r:.20}, and the data set {codec!r}")
        if video.width * video.height > MAX_PIXELS:
            raise ValueError(f"video {video.key!r} has {video.width}x{video.height} pixels; most: {MAX_PIXELS}")
        if video.first_frame != first_frame or video.offset < end or video.offset + video.bytes > shard.tar_bytes:
            raise ValueError(f"video {video.key!r} does not lie behind the video before it, within {shard.tar}")
        first_frame, end = first_frame + video.n_frames, video.offset + video.bytes
    if (len(videos), first_frame) != (shard.n_videos, shard.n_frames):
        raise ValueError(
            f"it lists {len(videos)} videos of {first_frame} frames in {shard.tar}, "
            f"which holds {shard.n_videos} of {shard.n_frames}"
        )


def check_instances(instances: Sequence[StoredInstance], videos: Sequence[StoredVideo]) -> None:
    """Compare the instances of a data set with its videos. Raises a ValueError that names an instance."""
    by_key = {video.key: (place, video) for place, video in enumerate(videos)}
    labels: dict[str, dict[str, None]] = {video.key: {} for video in videos}
    before = 0
    for instance in instances:
        if instance.key not in by_key:
            raise ValueError(f"an instance is of video {instance.key!r}, which is not there")
        place, video = by_key[instance.key]
        if not instance.start_frame < instance.end_frame <= video.n_frames:
            raise ValueError(
                f"an instance of video {instance.key!r} has the frames from {instance.start_frame} to "
                f"{instance.end_frame} of {video.n_frames}"
            )
        if place < before:
            raise ValueError(f"the instances of video {instance.key!r} are not in the order of the videos")
        before = place
        labels[instance.key][instance.label] = None
    for video in videos:
        if video.labels != tuple(labels[video.key]):
            raise ValueError(f"the classes of video {video.key!r} are not those of its instances")
