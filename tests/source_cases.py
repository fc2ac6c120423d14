"""Small sources of empty files, and the contract of every layout."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import SourceTable, SourceVideo
from vclimb.pipeline.sources.tree import has_video_suffix

SHARED = Path(__file__).parents[1] / "../shared"
JHMDB = SHARED / "data/jhmdb21"
UCF101_LISTS = SHARED / "splits/ucf101"
needs_jhmdb = pytest.mark.skipif(not JHMDB.is_dir(), reason="the J-HMDB videos (../shared/data/jhmdb21) are not here")
needs_lists = pytest.mark.skipif(not UCF101_LISTS.is_dir(), reason="the UCF101 lists (../shared/splits) are not here")


MALFORMED = (b"\xff\xfe\x00", b"{", b"[" * 100_000, b'[{"id": 1}, 2]', b'{"database": {"x": 1}}', b'"\\ud800"')


def plant(root: Path, *paths: str) -> Path:
    """Make empty files, with their folders. Readers never open a video."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def write(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def by_class_and_key(video: SourceVideo) -> tuple[str, str]:
    return (min((i.label for i in video.instances), default=""), video.key)


def by_path(table: SourceTable) -> dict[str, SourceVideo]:
    return {video.path: video for video in table.videos}


def facts(video: SourceVideo) -> list[tuple[str, str | None, float | None, float | None]]:
    return [(i.label, i.split, i.start_seconds, i.end_seconds) for i in video.instances]


def says(table: SourceTable, *words: str) -> bool:
    return any(all(word in note for word in words) for note in table.notes)


def error_of(source: Path, layout: str = "auto", annotations: Iterable[Path] = (), **columns: str) -> str:
    with pytest.raises(SourceError) as caught:
        read_source(source, layout, annotations=list(annotations), columns=columns)
    return str(caught.value)


class LayoutContract:
    """Contract of every layout. A subclass makes a small source of its layout."""

    layout: str
    annotation: str | None = None
    """A file of that source whose content a test may damage."""

    def plant(self, root: Path) -> None:
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        root = tmp_path / "source"
        root.mkdir()
        self.plant(root)
        return root

    def test_videos_are_real_unique_sorted_and_labelled(self, source: Path) -> None:
        table = read_source(source, self.layout)
        assert table.layout == self.layout
        assert table.root == source.resolve()
        assert len(table.videos) >= 2
        assert len({video.key for video in table.videos}) == len(table.videos)
        assert list(table.videos) == sorted(table.videos, key=by_class_and_key)
        assert all(os.path.lexists(table.file(video)) for video in table.videos)
        assert not {video.path for video in table.videos} & {missing.path for missing in table.missing}
        instances = [instance for video in table.videos for instance in video.instances]
        assert all(video.instances for video in table.videos)
        assert all(instance.label.strip() for instance in instances)
        assert {instance.split for instance in instances} <= {"train", "val", "test", None}

    def test_reading_again_gives_the_same_table(self, source: Path) -> None:
        assert read_source(source, self.layout) == read_source(source, self.layout)

    def test_auto_finds_the_layout_and_says_so(self, source: Path) -> None:
        table = read_source(source)
        assert table.layout == self.layout
        assert table.notes[0].startswith("layout auto: found ")
        assert table.notes[0].endswith(f", so reading as {self.layout}")
        assert table.videos == read_source(source, self.layout).videos

    def test_a_source_without_videos_is_an_error(self, source: Path) -> None:
        for file in [file for file in source.rglob("*") if has_video_suffix(file.name)]:
            file.unlink()
        message = error_of(source, self.layout)
        assert "no videos" in message or "can be used" in message
        assert str(source) in message

    def test_malformed_annotations_are_one_clear_error(self, source: Path) -> None:
        if self.annotation is None:
            pytest.skip("the layout has no annotation files")
        file = source / self.annotation
        for content in (
            b"\xff\xfe\x00",
            b"{",
            b"[" * 100_000,
            b'[{"id": 1}, 2]',
            b'{"database": {"x": 1}}',
            b'"\\ud800"',
        ):
            file.write_bytes(content)
            message = error_of(source, self.layout, [file])
            assert file.name in message, f"{content[:20]!r}: {message}"

    def test_an_annotation_file_that_is_not_there_is_an_error(self, source: Path) -> None:
        assert "'nowhere.csv' are not there" in error_of(source, self.layout, [Path("nowhere.csv")])
