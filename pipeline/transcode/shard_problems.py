"""Checking one shard: its files against the catalog and against each other, and its frames by decoding them."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.dataset.check import FileSlice, FrameIndex, bad_h264_frames, bad_jpeg_frames
from vclimb.pipeline.dataset.frame_index import FrameIndices
from vclimb.pipeline.dataset.picture_order import bad_references
from vclimb.pipeline.dataset.rows import StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import DALI_INDEX_VERSION, ShardFiles, shard_paths
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.dataset.tar_members import tar_members
from vclimb.pipeline.errors import DatasetError, DatasetFileError, TooManyFilesError
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.open_files import OpenFile, open_regular
from vclimb.pipeline.transcode.assembly import sample_json

_SPAN_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Problem:
    """A difference between a data set and its catalog."""

    file: str  # Name of the file in the data set's folder.
    key: str | None  # Key of the video, where the problem concerns one.
    what: str  # One sentence.

    def __str__(self) -> str:
        return f"{self.file}: {f'{self.key}: ' if self.key else ''}{self.what}"


@dataclass(frozen=True)
class ExpectedShard:
    """A shard as the catalog has it."""

    number: int  # Number of the shard.
    files: ShardFiles  # Files of the shard.
    b_frames: int  # Setting that the videos are stored with.
    videos: Sequence[StoredVideo]  # Videos to check, in the shard's order.
    instances: Sequence[StoredInstance]  # Instances of the videos.

    def names(self) -> tuple[str, str, str]:
        """Names of the tar, the DALI index and the frame index."""
        tar, idx, frames = self.paths(Path())
        return tar.name, idx.name, frames.name

    def paths(self, folder: Path) -> tuple[Path, Path, Path]:
        return shard_paths(folder, self.files.tar.removesuffix(".tar"))

    def frame_indices(self, folder: Path) -> FrameIndices:
        return FrameIndices(LocalStorage(folder), {self.number: self.files}, self.b_frames)


def shard_problems(shard: ExpectedShard, folder: Path) -> list[Problem]:
    """Check the three files of a shard in a folder against the catalog and each other, without decoding."""
    tar, idx, frames = shard.paths(folder)
    files, indices = shard.files, shard.frame_indices(folder)
    problems: list[Problem] = []
    digests = {tar: files.tar_sha256, idx: files.idx_sha256, frames: files.frames_sha256}
    readable = {path for path, digest in digests.items() if _is_readable(path, digest, problems)}
    try:
        indices.table(shard.number)
    except DatasetFileError as error:
        if frames in readable:
            problems.append(Problem(frames.name, None, error.problem))
        readable.discard(frames)
    if tar not in readable:
        return problems
    file = OpenFile(tar)
    if file.n_bytes != files.tar_bytes:
        problems.append(Problem(tar.name, None, f"has {file.n_bytes} bytes, not {files.tar_bytes}"))
    members: dict[str, tuple[int, int]] = {}
    try:
        for member in tar_members(tar):  # members before a damaged place stay known
            members[member.name] = member.offset, member.size
    except ValueError as error:
        problems.append(Problem(tar.name, None, f"can't be read as a tar: {error}"))
    instances: defaultdict[str, list[StoredInstance]] = defaultdict(list)
    for instance in shard.instances:
        instances[instance.key].append(instance)
    for video in shard.videos:
        wrong = _sample_problems(file, video, members, sample_json(video, instances[video.key]))
        problems += [Problem(tar.name, video.key, what) for what in wrong]
        if frames in readable:
            problems += _frame_checksum_problems(indices, file, tar.name, video)
    if idx in readable:
        problems += [Problem(idx.name, key, what) for key, what in _index_problems(idx, shard.videos, members)]
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
    file: OpenFile, video: StoredVideo, members: dict[str, tuple[int, int]], expected_json: bytes
) -> Iterator[str]:
    if members.get(f"{video.key}.mp4") != (video.offset, video.bytes):
        yield f"its mp4 is not at byte {video.offset} with {video.bytes} bytes"
    digest = hashlib.sha256()
    end = min(video.offset + video.bytes, file.n_bytes)
    for start in range(video.offset, end, _SPAN_BYTES):
        digest.update(os.pread(file.descriptor, min(_SPAN_BYTES, end - start), start))
    if digest.hexdigest() != video.sha256:
        yield "the SHA-256 of its mp4 is not the recorded one"
    offset, size = members.get(f"{video.key}.json", (0, -1))
    if size < 0:
        yield "its json is missing"
    elif size != len(expected_json) or os.pread(file.descriptor, size, offset) != expected_json:
        yield "its json is not what the catalog says of the video"


def _frame_checksum_problems(indices: FrameIndices, file: OpenFile, tar: str, video: StoredVideo) -> Iterator[Problem]:
    try:
        index = indices.of_video(video)
        in_file = np.argsort(index[:, 0])
        for first, stop in _spans(index[in_file]):
            for frame in _bad_frames(indices, file, video, index, in_file[first:stop]):
                what = f"frame {frame}: its bytes don't have the checksum of the frame index"
                yield Problem(tar, video.key, what)
    except DatasetFileError as error:
        yield Problem(error.file, video.key, error.problem)
    except DatasetError as error:
        yield Problem(tar, video.key, str(error))


def _spans(index: FrameIndex) -> Iterator[tuple[int, int]]:
    """The first row and the end of runs of rows whose frames fit into memory, as those of a long video don't."""
    ends = index[:, 0] + index[:, 1]
    first = 0
    while first < len(index):
        stop = max(first + 1, int(np.searchsorted(ends, index[first, 0] + _SPAN_BYTES, "right")))
        yield first, stop
        first = stop


def _bad_frames(
    indices: FrameIndices, file: OpenFile, video: StoredVideo, index: FrameIndex, frames: Indices
) -> Iterator[int]:
    """Those of some frames, in the order of the file, whose bytes don't have their checksums."""
    begin, end = int(index[frames[0], 0]), int(index[frames[-1], :2].sum())
    try:
        data = memoryview(os.pread(file.descriptor, end - begin, begin) if end <= file.n_bytes else b"")
    except OSError:
        data = memoryview(b"")
    if len(data) == end - begin:
        for frame, (offset, size, checksum) in zip(frames.tolist(), index[frames].tolist(), strict=True):
            if zlib.crc32(data[offset - begin : offset - begin + size]) != checksum:
                yield frame
        return
    for frame in frames.tolist():  # the error names the frame that can't be read
        (piece,), row = indices.read(video.shard, np.array([video.first_frame + frame]))
        if zlib.crc32(piece) != row[0, 2]:
            yield frame


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


def frame_problems(shard: ExpectedShard, folder: Path) -> list[Problem]:
    """Decode every frame of a shard's videos. Problems that `shard_problems` reports are not reported again."""
    tar = shard.paths(folder)[0]
    indices = shard.frame_indices(folder)
    problems: list[Problem] = []
    if not tar.is_file():
        return problems
    for video in shard.videos:
        try:
            ranges = indices.of_video(video)[:, :2]
            if video.codec == "jpeg":
                bad = list(bad_jpeg_frames(tar, ranges, video.width, video.height))
            else:
                with FileSlice(tar, video.offset, video.bytes) as file:
                    bad = list(bad_h264_frames(file, ranges, video.width, video.height))
                bad = bad or list(bad_references(tar, ranges))
        except DatasetError:
            continue
        except TooManyFilesError:
            raise
        except OSError as error:
            bad = [(0, f"can't be read: {error.strerror}")]
        problems += [Problem(tar.name, video.key, f"frame {frame}: {what}") for frame, what in bad]
    return problems
