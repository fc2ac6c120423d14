"""Checking one shard: its files against the catalog and against each other, and its frames by decoding them."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.pipeline.dataset.catalog import VIDEOS
from vclimb.pipeline.dataset.check import FrameRanges, bad_h264_frames, bad_jpeg_frames
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import DALI_INDEX_VERSION
from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.transcode.assembly import sample_json


@dataclass(frozen=True)
class Problem:
    """A difference between a data set and its catalog."""

    file: str  # Name of the file in the data set's folder.
    key: str | None  # Key of the video, where the problem concerns one.
    what: str  # One sentence.

    def __str__(self) -> str:
        return f"{self.file}: {f'{self.key}: ' if self.key else ''}{self.what}"


class Expected:
    """The content of the catalog, by shard and by key."""

    def __init__(self, dataset: StoredDataset) -> None:
        self.dataset = dataset
        self.videos: defaultdict[int, list[StoredVideo]] = defaultdict(list)
        for video in dataset.videos:
            self.videos[video.shard].append(video)
        self.instances: defaultdict[str, list[StoredInstance]] = defaultdict(list)
        for instance in dataset.instances:
            self.instances[instance.key].append(instance)


def shard_problems(expected: Expected, number: int) -> list[Problem]:
    """Check one shard's three files against the catalog and against each other, without decoding."""
    dataset, videos = expected.dataset, expected.videos[number]
    files = dataset.catalog.shards[number]
    tar, idx, frames = dataset.shard_paths(number)
    problems: list[Problem] = []
    for path, digest in ((tar, files.tar_sha256), (idx, files.idx_sha256), (frames, files.frames_sha256)):
        if not path.exists():
            problems.append(Problem(path.name, None, "is missing"))
        elif file_sha256(path) != digest:
            problems.append(Problem(path.name, None, "its SHA-256 is not the recorded one"))
    if len(videos) != files.n_videos:
        problems.append(
            Problem(VIDEOS, None, f"lists {len(videos)} videos in {tar.name}, which holds {files.n_videos}")
        )
    if not tar.exists():
        return problems
    if tar.stat().st_size != files.tar_bytes:
        problems.append(Problem(tar.name, None, f"has {tar.stat().st_size} bytes, not {files.tar_bytes}"))
    members: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(tar) as archive:
            for member in archive:  # members before a damaged place stay known
                members[member.name] = member.offset_data, member.size
    except (tarfile.TarError, OSError, ValueError) as error:
        problems.append(Problem(tar.name, None, f"can't be read as a tar: {error}"))
    for video in videos:
        wrong = _sample_problems(dataset, tar, video, members, sample_json(video, expected.instances[video.key]))
        problems += [Problem(tar.name, video.key, what) for what in wrong]
    if idx.exists():
        problems += [Problem(idx.name, key, what) for key, what in _index_problems(idx, videos, members)]
    return problems


def _sample_problems(
    dataset: StoredDataset, tar: Path, video: StoredVideo, members: dict[str, tuple[int, int]], expected_json: bytes
) -> Iterator[str]:
    if members.get(f"{video.key}.mp4") != (video.offset, video.bytes):
        yield f"its mp4 is not at byte {video.offset} with {video.bytes} bytes"
    with dataset.open_video(video) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != video.sha256:
            yield "the SHA-256 of its mp4 is not the recorded one"
    if json_member := members.get(f"{video.key}.json"):
        with open(tar, "rb") as archive:
            archive.seek(json_member[0])
            if archive.read(json_member[1]) != expected_json:
                yield "its json is not what the catalog says of the video"
    else:
        yield "its json is missing"
    try:
        ranges = dataset.frame_ranges(video)
        if not _in_order(ranges, video):
            yield "its frame ranges don't lie one after another within its mp4"
            return
        for frame in range(video.n_frames):  # one at a time: a long video does not fit in memory
            (data,), index = dataset.frame_indices.read(video.shard, np.array([video.first_frame + frame]))
            if zlib.crc32(data) != index[0, 2]:
                yield f"frame {frame}: its bytes don't have the checksum of the frame index"
    except DatasetError as error:
        yield str(error)


def _in_order(ranges: FrameRanges, video: StoredVideo) -> bool:
    starts, sizes, ends = ranges[:, 0], ranges[:, 1], ranges.sum(axis=1)
    within = (sizes > 0) & (sizes <= video.bytes) & (starts >= video.offset) & (ends <= video.offset + video.bytes)
    return bool(within.all() and (starts[1:] >= ends[:-1]).all())


def _index_problems(
    idx: Path, videos: Sequence[StoredVideo], members: dict[str, tuple[int, int]]
) -> Iterator[tuple[str | None, str]]:
    head, *lines = idx.read_text("utf-8", "replace").removesuffix("\n").split("\n")
    if head != f"{DALI_INDEX_VERSION} {len(videos)}" or len(lines) != len(videos):
        yield None, f"its first line is {head!r} for {len(videos)} videos and {len(lines)} lines"
    for video, line in zip(videos, lines, strict=False):
        expected = " ".join(
            f"{suffix} {offset} {size} {video.key}.{suffix}"
            for suffix in ("mp4", "json")
            for offset, size in [members.get(f"{video.key}.{suffix}", (0, 0))]
        )
        if line != expected:
            yield video.key, "its line is not that of the tar"


def frame_problems(dataset: StoredDataset, number: int, videos: Sequence[StoredVideo]) -> list[Problem]:
    """Decode every frame of some videos of a shard. Problems that `shard_problems` reports are not reported again."""
    tar = dataset.shard_paths(number)[0]
    problems: list[Problem] = []
    if not tar.exists():
        return problems
    for video in videos:
        try:
            ranges = np.asarray(dataset.frame_ranges(video))
            if not _in_order(ranges, video):
                continue
            if video.codec == "jpeg":
                bad = list(bad_jpeg_frames(tar, ranges, video.width, video.height))
            else:
                with dataset.open_video(video) as file:
                    bad = list(bad_h264_frames(file, ranges, video.width, video.height))
        except DatasetError:
            continue
        except OSError as error:
            bad = [(0, f"can't be read: {error.strerror}")]
        problems += [Problem(tar.name, video.key, f"frame {frame}: {what}") for frame, what in bad]
    return problems
