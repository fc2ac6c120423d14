"""The layout `table`: a user's list of videos, well-formed, malformed and hostile."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_cases import JHMDB, LayoutContract, by_path, error_of, facts, needs_jhmdb, plant, says, write

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources import read_source

ROWS: list[dict[str, Any]] = [
    {"path": "walk/a.mp4", "label": "walk", "split": "training", "group": "g1", "t_start": None, "t_end": None},
    {"path": "walk/b.mp4", "label": "walk", "split": "validation", "group": None, "t_start": 1, "t_end": 2.5},
    {"path": "walk/b.mp4", "label": "run", "split": "", "group": "g2", "t_start": 0.5, "t_end": 1.0},
    {"path": "walk/gone.mp4", "label": "run", "split": "test", "group": "g3", "t_start": None, "t_end": 4},
]


def write_table(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format of the file's suffix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with file.open("w", newline="", encoding="utf-8-sig") as out:
            writer = csv.DictWriter(out, list(rows[0]), delimiter="\t" if file.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with three videos, and a file outside the folder."""
    plant(tmp_path, "secret.mp4", "far/x.mp4")
    return plant(tmp_path / "source", "walk/a.mp4", "walk/b.mp4", "c.mp4")


def error_of_rows(source: Path, *rows: dict[str, Any]) -> str:
    return error_of(write_table(source / "rows.jsonl", list(rows)), "table")


class TestTable(LayoutContract):
    layout = "table"
    annotation = "videos.csv"

    def plant(self, root: Path) -> None:
        plant(root, "walk/a.mp4", "walk/b.mp4", "walk/unlisted.mp4")
        write_table(root / "videos.csv", ROWS)


class TestContent:
    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
    def test_every_format_gives_the_same_table(self, source: Path, suffix: str) -> None:
        table = read_source(write_table(source / f"list{suffix}", ROWS))
        assert (table.layout, table.root) == ("table", source.resolve())
        videos = by_path(table)
        assert {path: facts(video) for path, video in videos.items()} == {
            "walk/a.mp4": [("walk", "train", None, None)],
            "walk/b.mp4": [("run", None, 0.5, 1.0), ("walk", "val", 1.0, 2.5)],
        }
        assert [(v.key, v.group) for v in videos.values()] == [("walk/b", "g2"), ("walk/a", "g1")]
        assert [(m.path, m.reason) for m in table.missing] == [("walk/gone.mp4", "listed, but not on disk")]

    def test_paths_are_relative_to_the_source_that_is_given(self, source: Path, tmp_path: Path) -> None:
        elsewhere = write_table(tmp_path / "lists/mine.csv", [{"path": "c.mp4", "label": "c"}])
        assert by_path(read_source(source, annotations=[elsewhere])).keys() == {"c.mp4"}
        assert "none of the 1 listed video can be used" in error_of(elsewhere)

    def test_columns_are_renamed(self, source: Path) -> None:
        rows = [{"file": "c.mp4", "class": 3, "label": "wrong", "fold": "Test"}]
        columns = {"path": "file", "label": "class", "split": "fold"}
        table = read_source(write_table(source / "list.parquet", rows), columns=columns)
        assert facts(table.videos[0])[0][:2] == ("3", "test")
        assert says(table, "path=file, label=class, split=fold; columns not used: label")

    def test_columns_that_are_not_there_list_those_that_are(self, source: Path) -> None:
        file = write_table(source / "list.csv", [{"file": "c.mp4", "label": "x"}])
        assert "no column 'path'; the columns are: file, label" in error_of(file)
        assert "--columns path=NAME" in error_of(file)
        assert "no column 'files'; the columns are: file, label" in error_of(file, path="files")
        message = error_of(file, pth="file")
        assert "'pth' is none of our columns; did you mean 'path'? allowed: path, label, split, group, key" in message

    def test_keys_that_are_given(self, source: Path) -> None:
        rows = [
            {"path": "c.mp4", "label": "x", "key": "walk/a"},
            {"path": "walk/a.mp4", "label": "x"},
            {"path": "walk/b.mp4", "label": "x", "key": "two words"},
        ]
        table = read_source(write_table(source / "list.jsonl", rows))
        keys = {video.path: video.key for video in table.videos}
        assert keys["c.mp4"] == "walk/a"
        assert keys["walk/a.mp4"].startswith("walk/a_mp4~")
        assert keys["walk/b.mp4"].startswith("two_words~")
        assert says(table, "1 key holding characters that no key can have", "'two words' became two_words~")
        again = [{"path": path, "label": "x", "key": key} for path, key in keys.items()]
        assert {v.path: v.key for v in read_source(write_table(source / "list.jsonl", again)).videos} == keys

    def test_a_row_that_is_listed_twice_counts_once(self, source: Path) -> None:
        row = {"path": "c.mp4", "label": "x"}
        table = read_source(write_table(source / "list.csv", [row, row, {"path": "./walk/../c.mp4", "label": "x"}]))
        assert facts(table.videos[0]) == [("x", None, None, None)]
        assert says(table, "1 video listed more than once with the same label")

    def test_the_table_of_a_folder_must_be_one(self, source: Path) -> None:
        assert "no table (videos.csv, videos.tsv" in error_of(source, "table")
        write_table(source / "list.csv", ROWS)
        assert "of other names: list.csv" in error_of(source, "table")
        write_table(source / "videos.csv", ROWS)
        write_table(source / "videos.parquet", ROWS)
        assert "2 tables are there" in error_of(source)
        assert read_source(source, annotations=[source / "list.csv"]).layout == "table"
        assert "suffix '.txt' is not that of a table" in error_of(write(source / "list.txt", "path,label\n"), "table")

    def test_a_table_without_rows_or_columns(self, source: Path) -> None:
        assert "empty" in error_of(write(source / "a.csv", ""), "table")
        assert "b.csv: lists no labelled video" in error_of(write(source / "b.csv", "path,label\n"), "table")
        assert "'path' stands more than once" in error_of(write(source / "c.csv", "path,path\n"), "table")
        assert "not valid CSV" in error_of(write(source / "d.csv", 'path,label\n"c.mp4,x\n'), "table")
        assert "not a parquet file" in error_of(write(source / "e.parquet", "PAR1"), "table")

    @needs_jhmdb
    def test_real_manifest(self) -> None:
        columns = {"label": "class", "split": "src_split", "group": "source_video"}
        table = read_source(JHMDB, annotations=[JHMDB / "manifest.csv"], columns=columns)
        assert (table.layout, len(table.videos), len(table.missing)) == ("table", 928, 0)
        splits_of_group: dict[str, set[str | None]] = {}
        for video in table.videos:
            splits_of_group.setdefault(f"{video.path.split('/')[0]}/{video.group}", set()).add(facts(video)[0][1])
        assert all(len(splits) == 1 for splits in splits_of_group.values())
        by_folder = read_source(JHMDB, "folder")
        assert {v.path: v.key for v in table.videos} == {v.path: v.key for v in by_folder.videos}
        tests = Counter(facts(video)[0][0] for video in table.videos if facts(video)[0][1] == "test")
        assert len(tests) == 21
        assert 11 <= min(tests.values()) <= max(tests.values()) <= 16


class TestMalformedRows:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"path": ""}, "the path is empty"),
            ({"path": None}, "the path is empty"),
            ({"path": ["c.mp4"]}, "path must be a text, not ['c.mp4']"),
            ({"path": "c\0.mp4"}, "holds a zero byte"),
            ({"label": "  "}, "the label is empty"),
            ({"label": None}, "the label is empty"),
            ({"label": 1.5}, "label must be a text, not 1.5"),
            ({"split": "dev"}, "split 'dev' is not known; allowed: train, training, val"),
            ({"t_start": 2, "t_end": 2}, "t_start 2 is not before t_end 2"),
            ({"t_end": 0}, "t_start 0 is not before t_end 0"),
            ({"t_start": -1}, "t_start -1 is negative"),
            ({"t_start": "soon"}, "t_start must be a number of seconds, not 'soon'"),
            ({"t_end": "inf"}, "t_end must be a number of seconds, not 'inf'"),
            ({"t_end": True}, "t_end must be a number of seconds, not True"),
        ],
    )
    def test_a_bad_field_is_named_with_its_row(self, source: Path, fields: dict[str, Any], words: str) -> None:
        good = {"path": "c.mp4", "label": "x"}
        message = error_of_rows(source, good, {**good, "path": "walk/a.mp4", **fields})
        assert "rows.jsonl row 2: " in message
        assert words in message

    def test_rows_are_counted_in_lines(self, source: Path) -> None:
        file = write(source / "rows.csv", 'path,label\nc.mp4,"two\nlines"\n\nc.mp4,\n')
        assert "rows.csv row 5: the label is empty" in error_of(file)
        assert "row 3: 1 fields" in error_of(write(source / "few.csv", "path,label\nc.mp4,x\nc.mp4\n"))
        marks = '{"path": "c.mp4", "label": "a\u2028b"}\n{"path": "c.mp4"}\n'
        assert "rows.jsonl row 2" in error_of(write(source / "rows.jsonl", marks))

    @pytest.mark.parametrize("name", ["group", "key"])
    def test_rows_of_a_path_must_agree(self, source: Path, name: str) -> None:
        row = {"path": "c.mp4", "label": "x"}
        message = error_of_rows(source, {**row, name: "one"}, row, {**row, name: "two"})
        assert f"row 3: {name} 'two' of 'c.mp4' is not the 'one'" in message
        assert "rows.jsonl row 1" in message

    def test_keys_of_different_paths_must_differ(self, source: Path) -> None:
        rows = [{"path": path, "label": "x", "key": "same"} for path in ("c.mp4", "walk/a.mp4")]
        message = error_of_rows(source, *rows)
        assert "key 'same' of 'walk/a.mp4' is that of 'c.mp4' too" in message
        assert "row 2" in message
        assert "row 1" in message

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=80), suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
    def test_any_bytes_end_in_a_source_error(self, source: Path, content: bytes, suffix: str) -> None:
        file = source / f"any{suffix}"
        file.write_bytes(content)
        with pytest.raises(SourceError, match=rf"any\{suffix}"):
            read_source(file, "table")


class TestPathsThatLeadOutside:
    """Whatever a table says, no file outside the source is touched unless that is allowed."""

    @pytest.mark.parametrize(
        "listed", ["../secret.mp4", "walk/../../secret.mp4", "/etc/passwd", "../gone.mp4", "/", ".."]
    )
    def test_a_path_that_climbs_out(self, source: Path, listed: str) -> None:
        message = error_of_rows(source, {"path": "c.mp4", "label": "x"}, {"path": listed, "label": "x"})
        assert f"rows.jsonl row 2: path {listed!r} lies outside of {str(source)!r}" in message
        assert "--allow-outside" in message

    @pytest.mark.parametrize("listed", ["link.mp4", "folder/x.mp4", "chain.mp4", "folder/../c.mp4/../../secret.mp4"])
    def test_a_path_that_leads_out_by_a_link(self, source: Path, listed: str) -> None:
        (source / "link.mp4").symlink_to("../secret.mp4")
        (source / "chain.mp4").symlink_to("link.mp4")
        (source / "folder").symlink_to("../far")
        assert f"row 1: path {listed!r} lies outside" in error_of_rows(source, {"path": listed, "label": "x"})

    def test_a_folder_with_the_same_beginning_is_outside(self, source: Path, tmp_path: Path) -> None:
        plant(tmp_path / "source-2", "x.mp4")
        assert "lies outside" in error_of_rows(source, {"path": str(tmp_path / "source-2/x.mp4"), "label": "x"})

    def test_what_stays_inside_is_taken(self, source: Path, tmp_path: Path) -> None:
        (source / "link.mp4").symlink_to("walk/a.mp4")
        (source / "broken.mp4").symlink_to("nowhere.mp4")
        (tmp_path / "alias").symlink_to("source")
        absolute = [str(source / "c.mp4"), str(tmp_path / "alias/walk/b.mp4")]
        listed = ["link.mp4", "broken.mp4", *absolute, "walk", "..x.mp4"]
        rows = [{"path": path, "label": "x"} for path in listed]
        table = read_source(write_table(source / "rows.jsonl", rows))
        assert by_path(table).keys() == {"link.mp4", "broken.mp4", "c.mp4", "walk/b.mp4"}
        assert {m.path: m.reason for m in table.missing} == {
            "walk": "listed, but it is a folder",
            "..x.mp4": "listed, but not on disk",
        }

    def test_outside_is_taken_where_it_is_allowed(self, source: Path, tmp_path: Path) -> None:
        (source / "link.mp4").symlink_to("../secret.mp4")
        listed = ["../secret.mp4", str(tmp_path / "far/x.mp4"), "link.mp4", "../gone.mp4"]
        file = write_table(source / "rows.csv", [{"path": path, "label": "x"} for path in listed])
        table = read_source(file, allow_outside=True)
        assert by_path(table).keys() == set(listed[:3])
        assert all(table.file(video).is_file() for video in table.videos)
        assert [missing.path for missing in table.missing] == ["../gone.mp4"]
