"""Checking one shard: its files against the catalog and against each other, and its frames by decoding them."""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.pipeline.dataset.check import FileSlice, bad_h264_frames, bad_jpeg_frames
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import DALI_INDEX_VERSION
from vclimb.pipeline.dataset.tar_members import tar_members
from vclimb.pipeline.errors import DatasetError, DatasetFileError, TooManyFilesError
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.open_files import open_regular
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

    def at(self, folder: Path) -> Expected:
        """The same content, to be compared with the files in another folder."""
        moved = copy.copy(self)
        moved.dataset = self.dataset.at(folder)
        return moved


def shard_problems(expected: Expected, number: int) -> list[Problem]:
    """Check one shard's three files against the catalog and against each other, without decoding."""
    dataset, videos = expected.dataset, expected.videos[number]
    files = dataset.catalog.shards[number]
    tar, idx, frames = dataset.shard_paths(number)
    problems: list[Problem] = []
    digests = {tar: files.tar_sha256, idx: files.idx_sha256, frames: files.frames_sha256}
    readable = {path for path, digest in digests.items() if _is_readable(path, digest, problems)}
    try:
        dataset.frame_indices.table(number)
    except DatasetFileError as error:
        if frames in readable:
            problems.append(Problem(frames.name, None, error.problem))
        readable.discard(frames)
    if tar not in readable:
        return problems
    if tar.stat().st_size != files.tar_bytes:
        problems.append(Problem(tar.name, None, f"has {tar.stat().st_size} bytes, not {files.tar_bytes}"))
    members: dict[str, tuple[int, int]] = {}
    try:
        for member in tar_members(tar):  # members before a damaged place stay known
            members[member.name] = member.offset, member.size
    except ValueError as error:
        problems.append(Problem(tar.name, None, f"can't be read as a tar: {error}"))
    for video in videos:
        wrong = _sample_problems(dataset, tar, video, members, sample_json(video, expected.instances[video.key]))
        problems += [Problem(tar.name, video.key, what) for what in wrong]
        if frames in readable:
            problems += _frame_checksum_problems(dataset, tar, video)
    if idx in readable:
        problems += [Problem(idx.name, key, what) for key, what in _index_problems(idx, videos, members)]
    return problems


def _is_readable(path: Path, digest: str, problems: list[Problem]) -> bool:
    """Compare a file with its digest. Return whether it can be read at all."""
    try:
        if file_sha256(path) != digest:
            problems.append(Problem(path.name, None, "its SHA-256 is not the recorded one"))
    except TooManyFilesError:
        raise
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        problems.append(Problem(path.name, None, "is missing" if missing else f"can't be read: {error.strerror}"))
        return False
    return True


def _sample_problems(
    dataset: StoredDataset, tar: Path, video: StoredVideo, members: dict[str, tuple[int, int]], expected_json: bytes
) -> Iterator[str]:
    if members.get(f"{video.key}.mp4") != (video.offset, video.bytes):
        yield f"its mp4 is not at byte {video.offset} with {video.bytes} bytes"
    with dataset.open_video(video) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != video.sha256:
            yield "the SHA-256 of its mp4 is not the recorded one"
    offset, size = members.get(f"{video.key}.json", (0, -1))
    if size < 0:
        yield "its json is missing"
        return
    with FileSlice(tar, offset, size) as file:
        if size != len(expected_json) or file.read(size) != expected_json:
            yield "its json is not what the catalog says of the video"


def _frame_checksum_problems(dataset: StoredDataset, tar: Path, video: StoredVideo) -> Iterator[Problem]:
    try:
        dataset.frame_ranges(video)
        for frame in range(video.n_frames):  # one at a time: a long video does not fit in memory
            (data,), index = dataset.frame_indices.read(video.shard, np.array([video.first_frame + frame]))
            if zlib.crc32(data) != index[0, 2]:
                what = f"frame {frame}: its bytes don't have the checksum of the frame index"
                yield Problem(tar.name, video.key, what)
    except DatasetFileError as error:
        yield Problem(error.file, video.key, error.problem)
    except DatasetError as error:
        yield Problem(tar.name, video.key, str(error))


def _index_problems(
    idx: Path, videos: Sequence[StoredVideo], members: dict[str, tuple[int, int]]
) -> Iterator[tuple[str | None, str]]:
    expected = [
        " ".join(
            f"{suffix} {offset} {size} {video.key}.{suffix}"
            for suffix in ("mp4", "json")
            for offset, size in [members.get(f"{video.key}.{suffix}", (0, 0))]
        )
        for video in videos
    ]
    most = len(f"{DALI_INDEX_VERSION} {len(videos)}\n") + sum(len(line) + 1 for line in expected)
    with open(open_regular(idx), "rb") as file:
        text = file.read(most + 1).decode("utf-8", "replace")
    head, *lines = text.removesuffix("\n").split("\n")
    if head != f"{DALI_INDEX_VERSION} {len(videos)}" or len(lines) != len(videos):
        yield None, f"its first line is {head[:40]!r} for {len(videos)} videos and {len(lines)} lines"
    for video, line, right in zip(videos, lines, expected, strict=False):
        if line != right:
            yield video.key, "its line is not that of the tar"


def frame_problems(dataset: StoredDataset, number: int, videos: Sequence[StoredVideo]) -> list[Problem]:
    """Decode every frame of some videos of a shard. Problems that `shard_problems` reports are not reported again."""
    tar = dataset.shard_paths(number)[0]
    problems: list[Problem] = []
    if not tar.is_file():
        return problems
    for video in videos:
        try:
            ranges = dataset.frame_ranges(video)
            if video.codec == "jpeg":
                bad = list(bad_jpeg_frames(tar, ranges, video.width, video.height))
            else:
                with dataset.open_video(video) as file:
                    bad = list(bad_h264_frames(file, ranges, video.width, video.height))
        except DatasetError:
            continue
        except TooManyFilesError:
            raise
        except OSError as error:
            bad = [(0, f"can't be read: {error.strerror}")]
        problems += [Problem(tar.name, video.key, f"frame {frame}: {what}") for frame, what in bad]
    return problems
