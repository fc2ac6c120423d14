"""Shard files made by others, with right digests: refused, or listed by `verify`, by file; never a crash or a hang."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_dataset import NO_FILES, edit_header, put_no_file, put_shard_file
from stream_cases import provider_of, settings_of

from vclimb.pipeline.dataset.check import bad_h264_frames
from vclimb.pipeline.dataset.dataset import StoredDataset, as_webdataset
from vclimb.pipeline.dataset.tar_members import tar_members
from vclimb.pipeline.errors import DatasetError, DatasetFileError
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.transcode.shard_problems import Problem
from vclimb.pipeline.transcode.verify import verify

TAR, IDX, FRAMES = "tiny-000000.tar", "tiny-000000.idx", "tiny-000000.frames.npy"


@pytest.fixture
def folder(jpeg_folder: Path, tmp_path: Path) -> Path:
    """A copy of a prepared data set, to be changed."""
    return shutil.copytree(jpeg_folder, tmp_path / "tiny")


def problems(folder: Path, decode: bool = True) -> list[Problem]:
    return verify(folder, decode=decode, workers=1, progress=False).problems


def saved(table: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(table))
    return file.getvalue()


def edited(change: Callable[[np.ndarray], object]) -> Callable[[bytes], bytes]:
    """A change of a frame index's table."""

    def edit(data: bytes) -> bytes:
        table = np.load(io.BytesIO(data))
        changed = change(table)
        return saved(table if changed is None else changed)

    return edit


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, np.load(io.BytesIO(data)))
    return file.getvalue()


def of_shape(text: bytes) -> Callable[[bytes], bytes]:
    """Replace the shape in the header, which keeps its length."""

    def edit(data: bytes) -> bytes:
        header = data[10 : data.index(b"\n") + 1]
        start, end = header.index(b"("), header.index(b")") + 1
        changed = header[:start] + text + header[end:-1].rstrip()
        return data[:10] + changed.ljust(len(header) - 1) + b"\n" + data[10 + len(header) :]

    return edit


def put(row: int, column: int, value: int) -> Callable[[bytes], bytes]:
    def change(table: np.ndarray) -> None:
        table[row, column] = value

    return edited(change)


INDICES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "half a header": lambda data: data[:40],
    "a header that can't be parsed": lambda data: data.replace(b"{'descr'", b"{{'escr'"),
    "an unclosed header": lambda data: data.replace(b"}", b" ", 1),
    "another version": lambda data: data[:6] + b"\x07" + data[7:],
    "a long header": lambda data: data[:8] + b"\xff\xff" + data[10:],
    "an npz": zipped,
    "a pickle": lambda data: saved(np.array([{"a": 1}], object)),
    "other numbers": edited(lambda table: table.astype(np.float64)),
    "big-endian numbers": edited(lambda table: table.astype(">i8")),
    "columns first": edited(lambda table: np.asfortranarray(table)),
    "two columns": edited(lambda table: table[:, :2]),
    "one dimension": edited(lambda table: table.reshape(-1)),
    "a frame less": edited(lambda table: table[:-1]),
    "a frame more": edited(lambda table: np.concatenate([table, table[-1:]])),
    "no frames": edited(lambda table: table[:0]),
    "a shape of 2^40 frames": of_shape(b"(1099511627776, 3)"),
    "a negative shape": of_shape(b"(-1, 3)"),
    "a shape of 5,000 digits": lambda data: data[:10] + b"{'descr': '<i8', 'shape': (" + b"9" * 5_000 + b", 3)}\n",
    "bytes behind the table": lambda data: data + bytes(24),
    "a negative offset": put(0, 0, -512),
    "an offset behind the tar": put(-1, 0, 2**40),
    "the largest offset": put(3, 0, 2**63 - 1),
    "a negative size": put(1, 1, -1),
    "a size of nothing": put(1, 1, 0),
    "a huge size": put(1, 1, 2**62),
    "a size that overlaps": edited(lambda table: table.__setitem__((1, 1), table[1, 1] + 10**4)),
    "frames exchanged": edited(lambda table: table.__setitem__(slice(0, 2), table[[1, 0]])),
    "a checksum of 33 bits": put(2, 2, 2**32),
    "a negative checksum": put(2, 2, -1),
}


@pytest.mark.parametrize("change", INDICES.values(), ids=INDICES.keys())
def test_a_frame_index_that_does_not_fit_is_refused(folder: Path, change: Callable[[bytes], bytes]) -> None:
    put_shard_file(folder, "frames", change((folder / FRAMES).read_bytes()))
    dataset = StoredDataset.open(folder)
    video = dataset.videos[0]
    for read in (dataset.frame_ranges, lambda video: dataset.decode_frame(video, 0)):
        with pytest.raises(DatasetFileError, match=FRAMES):
            read(video)
    assert [problem.file for problem in problems(folder)] == [FRAMES]


def test_a_frame_index_of_other_videos_of_the_tar_is_refused(folder: Path) -> None:
    """All rows lie one after another within the tar, but not within the videos."""
    whole = StoredDataset.open(folder)
    first = whole.videos[0]
    put_shard_file(folder, "frames", put(0, 0, first.offset - 1)((folder / FRAMES).read_bytes()))
    with pytest.raises(DatasetFileError, match=f"frames of '{first.key}' do not lie within its mp4"):
        StoredDataset.open(folder).frame_ranges(first)
    assert (FRAMES, first.key) in [(problem.file, problem.key) for problem in problems(folder)]


@pytest.mark.parametrize("name", [TAR, IDX, FRAMES])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_one_row(folder: Path, name: str, kind: str) -> None:
    put_no_file(folder / name, kind)
    rows = problems(folder)
    assert [row.file for row in rows] == [name]
    assert ("is missing" if kind == "gone" else "can't be read: it is not a regular file") in rows[0].what
    if name != IDX:
        with pytest.raises(DatasetError, match=name):
            StoredDataset.open(folder).decode_frame(StoredDataset.open(folder).videos[0], 0)


def bomb(data: bytes) -> bytes:
    return gzip.compress(data + bytes(64 * 2**20), 9)


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE, format: int = tarfile.USTAR_FORMAT) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(format)


def base256(size: int) -> bytes:
    """A header whose size is written as a binary number, as GNU tar writes large ones."""
    header = bytearray(member("x.mp4", 0))
    header[124:136] = b"\x80" + struct.pack(">xxxq", size) if size >= 0 else b"\xff" * 12
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    return bytes(header)


TARS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "a gzip bomb": bomb,
    "an xz archive": lambda data: __import__("lzma").compress(data, preset=0),
    "a bzip2 archive": lambda data: __import__("bz2").compress(data, 1),
    "a zip": lambda data: b"PK\x03\x04" + data,
    "a member of 8 TB": lambda data: base256(2**43) + data,
    "a member of -1 bytes": lambda data: base256(-1) + data,
    "a member that is longer than the tar": lambda data: member("x.mp4", 2**32) + data,
    "a long name of 4 GB": lambda data: member("././@LongLink", 2**32, b"L", tarfile.GNU_FORMAT) + data,
    "extended headers of 4 GB": lambda data: member("pax", 2**32, b"x") + data,
    "a link": lambda data: member("x.mp4", 0, tarfile.SYMTYPE) + data,
    "a sparse file": lambda data: member("x.mp4", 0, tarfile.GNUTYPE_SPARSE) + data,
    "half a block": lambda data: data[:300],
    "text": lambda data: b"<html>" * 1_000,
}


@pytest.mark.parametrize("change", TARS.values(), ids=TARS.keys())
def test_a_tar_that_is_not_plain_is_named_and_not_expanded(
    folder: Path, change: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = change((folder / TAR).read_bytes())
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("it was opened by tarfile"))
    for module in ("gzip.GzipFile", "lzma.LZMAFile", "bz2.BZ2File"):
        monkeypatch.setattr(f"{module}.read", lambda *_: pytest.fail("it was decompressed"))
    put_shard_file(folder, "tar", data)
    rows = problems(folder)
    assert {row.file for row in rows} == {TAR, IDX}
    assert [row for row in rows if row.key is None and "can't be read as a tar: " in row.what]
    with pytest.raises(DatasetFileError, match=TAR):
        as_webdataset(folder)
    if data:
        edit_header(folder, lambda content: content["shards"][0].update(tar_bytes=len(data)))
        with pytest.raises(DatasetError):
            StoredDataset.open(folder).decode_frame(StoredDataset.open(folder).videos[0], 0)


def test_members_are_those_of_tarfile(folder: Path) -> None:
    with tarfile.open(folder / TAR, "r:") as archive:
        expected = [(info.name, info.offset_data, info.size) for info in archive]
    assert [tuple(member) for member in tar_members(folder / TAR)] == expected


@pytest.mark.parametrize("declared", [2**40, 2**53])
def test_sizes_beyond_the_tar_are_not_allocated(folder: Path, declared: int) -> None:
    """Catalog and frame index agree on a huge tar, of which little is there."""
    put_shard_file(folder, "frames", put(-1, 1, declared // 2)((folder / FRAMES).read_bytes()))
    edit_header(folder, lambda content: content["shards"][0].update(tar_bytes=declared))
    dataset = StoredDataset.open(folder)
    last = [video for video in dataset.videos if video.shard == 0][-1]
    with pytest.raises(DatasetError):
        dataset.decode_frame(last, last.n_frames - 1)
    with pytest.raises(DatasetError, match=f"ends within the {declared // 2} bytes"):
        dataset.frame_indices.read(0, np.array([last.first_frame + last.n_frames - 1]))
    assert {row.file for row in problems(folder)} == {TAR, FRAMES}


TEXTS = {
    "nothing": b"",
    "not text": b"\xff" * 100,
    "a long line": b"v1.2 " + b"9" * 10**6,
    "other lines": b"v1.2 2\n\n\n",
    "many lines": b"\n" * 10**6,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_another_index_for_dali_is_named(folder: Path, text: bytes) -> None:
    put_shard_file(folder, "idx", text)
    rows = problems(folder)
    assert {row.file for row in rows} == {IDX}
    assert all(len(row.what) < 200 for row in rows)


def test_a_stream_names_the_frame_index(folder: Path) -> None:
    provider = provider_of(folder)
    (folder / FRAMES).write_bytes(saved(np.zeros((1, 3), np.int64)))
    with (
        CpuClipStream(provider, settings_of(), workers=0) as stream,
        pytest.raises(DatasetFileError, match=f"{FRAMES} of .* is damaged: its SHA-256 is not the recorded one"),
    ):
        list(stream)


@pytest.mark.parametrize("kind", ["another codec", "a playlist", "more frames"])
def test_an_mp4_that_does_not_hold_the_stored_frames_is_named(h264_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = shutil.copytree(h264_folder, tmp_path / "tiny")
    dataset = StoredDataset.open(folder)
    video = max(dataset.videos, key=lambda video: video.n_frames)
    tar = bytearray((folder / TAR).read_bytes())
    mp4 = slice(video.offset, video.offset + video.bytes)
    if kind == "another codec":
        start = video.offset + tar[mp4].index(b"avc1", tar[mp4].index(b"stsd"))
        tar[start : start + 4] = b"zzzz"
    elif kind == "a playlist":
        secret = tmp_path / "secret.ts"
        tar[mp4] = f"#EXTM3U\n#EXTINF:1,\nfile:{secret}\n#EXT-X-ENDLIST\n".encode().ljust(video.bytes)
    put_shard_file(folder, "tar", bytes(tar))
    if kind == "more frames":
        ranges = dataset.frame_ranges(video)[:-1]
        with dataset.open_video(video) as file:
            rows = [what for _, what in bad_h264_frames(file, ranges, video.width, video.height)]
        assert rows == [f"follows the {video.n_frames - 1} frames of the frame index"]
        return
    rows = [row.what for row in problems(folder) if row.key == video.key]
    assert any(row.startswith("frame 0: ") for row in rows)
    assert ("frame 0: is not H.264" in rows) == (kind == "another codec")
