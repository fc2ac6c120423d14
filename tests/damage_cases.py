"""Kinds of damage to a prepared data set, and the problems that `verify` must report for each."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.dataset.header import ERRORS
from vclimb.pipeline.dataset.shard import shard_paths


def flip(path: Path, offset: int, bit: int = 1) -> None:
    """Flip one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ bit]))


def member(tar: Path, name: str) -> tuple[int, int]:
    """Offset and size of a member's data."""
    with tarfile.open(tar) as archive:
        info = archive.getmember(name)
        return info.offset_data, info.size


@dataclass(frozen=True)
class Damage:
    """A function that damages a data set, the damaged file, and words of the problems of the damaged sample."""

    do: Callable[[Path, StoredVideo], None]
    file: str
    sample_words: tuple[str, ...] = ()


def tar_of(folder: Path, video: StoredVideo) -> Path:
    return StoredDataset.open(folder).shard_paths(video.shard)[0]


def flip_frame(folder: Path, video: StoredVideo) -> None:
    offset, size = StoredDataset.open(folder).frame_ranges(video)[3].tolist()
    flip(tar_of(folder, video), offset + size // 2)


def flip_mp4_header(folder: Path, video: StoredVideo) -> None:
    flip(tar_of(folder, video), video.offset + 8)


def flip_json(folder: Path, video: StoredVideo) -> None:
    """Change a digit of the width: the json stays valid, and only the catalog shows the damage."""
    offset, size = member(tar_of(folder, video), f"{video.key}.json")
    text = tar_of(folder, video).read_bytes()[offset : offset + size]
    flip(tar_of(folder, video), offset + text.index(b'"width": ') + 9)


def flip_tar_header(folder: Path, video: StoredVideo) -> None:
    flip(tar_of(folder, video), video.offset - 512)


def flip_padding(folder: Path, video: StoredVideo) -> None:
    flip(tar_of(folder, video), tar_of(folder, video).stat().st_size - 1)


def flip_index_line(folder: Path, video: StoredVideo) -> None:
    idx = tar_of(folder, video).with_suffix(".idx")
    flip(idx, idx.read_bytes().index(f"{video.key}.json".encode()) - 2)


def flip_frame_index(row: int, column: int) -> Callable[[Path, StoredVideo], None]:
    def do(folder: Path, video: StoredVideo) -> None:
        path = shard_paths(folder, tar_of(folder, video).stem)[2]
        table = np.load(path)
        table[video.first_frame + row, column] += 2**40 if column == 0 else 1
        np.save(path, table)

    return do


def truncate_tar(folder: Path, video: StoredVideo) -> None:
    with open(tar_of(folder, video), "r+b") as file:
        file.truncate(video.offset + video.bytes // 2)


def swap_videos(folder: Path, video: StoredVideo) -> None:
    """Write the shard again with the contents of two samples exchanged."""
    tar = tar_of(folder, video)
    with tarfile.open(tar) as archive:
        names = [info.name for info in archive]
        contents = {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    other = next(name for name in names if name.endswith(".mp4") and name != f"{video.key}.mp4")
    exchanged = {f"{video.key}.mp4": other, other: f"{video.key}.mp4"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(contents[exchanged.get(name, name)])
            archive.addfile(info, io.BytesIO(contents[exchanged.get(name, name)]))
    tar.write_bytes(buffer.getvalue())


def add_file(folder: Path, video: StoredVideo) -> None:
    (folder / "notes.txt").write_text("mine")


def empty_index(folder: Path, video: StoredVideo) -> None:
    tar_of(folder, video).with_suffix(".idx").write_bytes(b"")


def empty_frame_index(folder: Path, video: StoredVideo) -> None:
    shard_paths(folder, tar_of(folder, video).stem)[2].write_bytes(b"")


def edit_errors(folder: Path, video: StoredVideo) -> None:
    (folder / ERRORS).write_text('{"path": "x", "stage": "open", "reason": "", "stderr": ""}\n')


DAMAGES = {
    "a byte of a frame": Damage(
        flip_frame, ".tar", ("SHA-256 of its mp4", "frame 3: its bytes don't have the checksum")
    ),
    "a byte of the mp4's header": Damage(flip_mp4_header, ".tar", ("SHA-256 of its mp4",)),
    "a digit of the json": Damage(flip_json, ".tar", ("its json is not what the catalog says",)),
    "a byte of the tar's header": Damage(flip_tar_header, ".tar", ("its mp4 is not at byte",)),
    "a byte after the last member": Damage(flip_padding, ".tar"),
    "a digit of DALI's index": Damage(flip_index_line, ".idx", ("its line is not that of the tar",)),
    "an offset of the frame index": Damage(flip_frame_index(0, 0), ".npy"),
    "a size of the frame index": Damage(flip_frame_index(4, 1), ".npy"),
    "a checksum of the frame index": Damage(flip_frame_index(5, 2), ".npy"),
    "half a tar": Damage(truncate_tar, ".tar", ("SHA-256 of its mp4", "its json is missing")),
    "two videos exchanged": Damage(swap_videos, ".tar", ("SHA-256 of its mp4",)),
    "a file too many": Damage(add_file, "notes.txt"),
    "an empty index": Damage(empty_index, ".idx"),
    "an empty frame index": Damage(empty_frame_index, ".npy"),
    "a row of errors too many": Damage(edit_errors, ERRORS),
}
