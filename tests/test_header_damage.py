"""A dataset.json that changed, or that somebody made with the right digest, is refused in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_dataset import Content, edit_header

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.header import HEADER, VIDEOS
from vclimb.pipeline.errors import DatasetError, DatasetFileError
from vclimb.pipeline.transcode.verify import verify


@pytest.fixture
def folder(jpeg_folder: Path, tmp_path: Path) -> Path:
    """A copy of a prepared data set, to be changed."""
    return shutil.copytree(jpeg_folder, tmp_path / "tiny")


def _shard(change: Content) -> Callable[[Content], object]:
    return lambda content: content["shards"][0].update(change)


def _top(change: Content) -> Callable[[Content], object]:
    return lambda content: content.update(change)


HEADERS: dict[str, tuple[Callable[[Content], Any], str]] = {
    "a tar in another folder": (_shard({"tar": "../secret/x.tar"}), "shards.0.tar"),
    "a tar by its whole path": (_shard({"tar": "/etc/x.tar"}), "shards.0.tar"),
    "a tar of another folder of Windows": (_shard({"tar": "..\\x.tar"}), "shards.0.tar"),
    "a tar without a name": (_shard({"tar": ""}), "shards.0.tar"),
    "a tar with a NUL": (_shard({"tar": "x\0.tar"}), "shards.0.tar"),
    "a tar that is none": (_shard({"tar": "x.zip"}), "shards.0.tar"),
    "a tar of no bytes": (_shard({"tar_bytes": 0}), "shards.0.tar_bytes"),
    "a tar of half a byte": (_shard({"tar_bytes": 1.5}), "shards.0.tar_bytes"),
    "a yes for a number": (_shard({"n_videos": True}), "shards.0.n_videos"),
    "a number of 60 digits": (_shard({"number": 10**60}), "shards.0.number"),
    "a negative shard": (_shard({"number": -1}), "shards.0.number"),
    "a shard twice": (lambda content: content["shards"].append(content["shards"][0]), "listed twice"),
    "no shards": (_top({"shards": []}), ""),
    "shards that are no list": (_top({"shards": {"0": {}}}), "shards"),
    "another number of videos": (_shard({"n_videos": 10**9}), ""),
    "a name in another folder": (_top({"name": "../escaped"}), "name"),
    "a field that nobody knows": (_top({"extra": 1}), "extra"),
    "a field less": (lambda content: content.pop("totals"), "totals: field required"),
    "an unknown codec": (lambda content: content["settings"].update(codec="av1"), "codec 'av1' is not known"),
    "a rate that takes for ever": (lambda content: content["settings"].update(fps="9e999999999"), "settings.fps"),
    "another setting": (lambda content: content["settings"].update(quality=7), "settings_sha256"),
    "other classes": (_top({"classes": ["class0"]}), "its totals or classes"),
    "other totals": (lambda content: content["totals"].update(frames=1), "its totals or classes"),
    "a digest that is none": (lambda content: content["files"].update({VIDEOS: "x"}), "files.videos.parquet"),
    "a file more": (lambda content: content["files"].update({"../x": "0" * 64}), "files.../x"),
}


@pytest.mark.parametrize(("change", "words"), HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_do_not_fit_are_refused(folder: Path, change: Callable[[Content], Any], words: str) -> None:
    edit_header(folder, change)
    with pytest.raises(DatasetFileError) as caught:
        StoredDataset.open(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


TEXTS = {
    "nothing": b"",
    "a list": b"[1]",
    "deeply nested": b'{"a":' * 100_000,
    "a number of 5,000 digits": b'{"format_version":' + b"1" * 5_000 + b"}",
    "not UTF-8": b'{"format_version": 1, "name": "\xff"}',
    "another version": b'{"format_version": 2}',
    "a version that is true": b'{"format_version": true}',
    "no digest": b'{"format_version": 1}',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_other_texts_for_a_header_are_refused(folder: Path, text: bytes) -> None:
    (folder / HEADER).write_bytes(text)
    with pytest.raises(DatasetError):
        StoredDataset.open(folder)
    with pytest.raises(DatasetError):
        verify(folder, workers=1, progress=False)
