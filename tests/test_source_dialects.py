"""Tables as spreadsheets save them: delimiters, encodings, quotes, upper case, and what can't be a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_cases import by_path, error_of, facts, plant, says
from test_source_tables import ROWS, write_table

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources import read_source

TEXT = "path,label,split\nc.mp4,run,train\nwalk/a.mp4,walk,test\n"
VIDEOS = {"c.mp4": [("run", "train", None, None)], "walk/a.mp4": [("walk", "test", None, None)]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return plant(tmp_path / "source", "walk/a.mp4", "walk/b.mp4", "c.mp4", "a;b,c.mp4")


def read(file: Path) -> dict[str, list[tuple[str, str | None, float | None, float | None]]]:
    return {path: facts(video) for path, video in by_path(read_source(file)).items()}


def saved(source: Path, text: str, encoding: str = "utf-8", suffix: str = ".csv") -> Path:
    file = source / f"list{suffix}"
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_usual_delimiter_is_found(source: Path, delimiter: str, suffix: str) -> None:
    file = saved(source, TEXT.replace(",", delimiter), suffix=suffix)
    assert read(file) == VIDEOS
    unusual = suffix == ".csv" and delimiter != ","
    assert says(read_source(file), f"columns separated by {delimiter!r}") == unusual


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_with_a_mark_and_any_line_ends(source: Path, encoding: str, line_end: str) -> None:
    text = TEXT.replace("run", "rún 走").replace("\n", line_end)
    assert read(saved(source, text, encoding))["c.mp4"] == [("rún 走", "train", None, None)]
    if line_end != "\r":
        assert read(saved(source, text.replace(",", "\t"), encoding))["c.mp4"][0][0] == "rún 走"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_an_encoding_without_a_mark_is_named(source: Path, encoding: str) -> None:
    assert "zero bytes" in error_of(saved(source, TEXT, encoding))
    assert "UTF-16 without a byte order mark; save it as UTF-8" in error_of(saved(source, TEXT, encoding))


def test_broken_texts_are_named(source: Path) -> None:
    file = source / "list.csv"
    for data, words in {
        TEXT.encode("utf-16")[:-1]: "not UTF-16 text",
        "path,label\nc.mp4,ré\n".encode("latin-1"): "not UTF-8 text",
        b"path,label\nc.mp4,r\0n\n": "zero bytes",
    }.items():
        file.write_bytes(data)
        assert words in error_of(file)
        assert "save it as UTF-8" in error_of(file)


def test_the_delimiter_that_excel_names(source: Path) -> None:
    file = saved(source, "sep=;\r\n" + TEXT.replace(",", ";"))
    assert read(file) == VIDEOS
    assert "list.csv row 3: the label is empty" in error_of(saved(source, "sep=;\npath;label\nc.mp4;\n"))


def test_quoted_fields_hold_any_delimiter(source: Path) -> None:
    assert read(saved(source, 'path;label\n"a;b,c.mp4";"one;\ntwo, three"\n')) == {
        "a;b,c.mp4": [("one;\ntwo, three", None, None, None)]
    }
    assert read(saved(source, 'path,label\n"a;b,c.mp4",x;y\n')) == {"a;b,c.mp4": [("x;y", None, None, None)]}
    assert "row 2: 3 fields" in error_of(saved(source, "path;label\na;b,c.mp4;x\n"))
    assert "quote fields that hold ';'" in error_of(saved(source, "path;label\na;b,c.mp4;x\n"))


def test_names_of_columns_in_upper_case_or_with_spaces(source: Path) -> None:
    text = TEXT.replace("path,label,split", " Path , LABEL, Split ")
    assert read(saved(source, text)) == VIDEOS
    assert says(read_source(saved(source, text)), "path=Path, label=LABEL, split=Split")
    rows = [{"PATH": "c.mp4", "Label": "run", "Split": "train"}]
    for suffix in (".parquet", ".jsonl"):
        assert read(write_table(source / f"rows{suffix}", rows)) == {"c.mp4": VIDEOS["c.mp4"]}
    assert read(saved(source, "path,label,Label\nc.mp4,x,y\n"))["c.mp4"][0][0] == "x"
    message = error_of(saved(source, "path,Label,LABEL\nc.mp4,x,y\n"))
    assert "no column 'label'; the columns are: path, Label, LABEL" in message


def test_a_table_of_a_folder_is_found_whatever_its_dialect(source: Path) -> None:
    (source / "videos.csv").write_bytes(TEXT.replace(",", ";").replace("path", "Path").encode("utf-16"))
    table = read_source(source)
    assert table.layout == "table"
    assert len(table.videos) == 2
    other = saved(source, TEXT.replace(",", ";").replace("path", "Path"))
    (source / "videos.csv").unlink()
    assert read_source(source, annotations=[other]).layout == "table"


def test_kinetics_lists_with_semicolons(tmp_path: Path) -> None:
    plant(tmp_path, "videos/aaaaaaaaaaa_000001_000011.mp4")
    (tmp_path / "train.csv").write_text("label;youtube_id;time_start;time_end;split\nrun;aaaaaaaaaaa;1;11;train\n")
    table = read_source(tmp_path)
    assert table.layout == "kinetics"
    assert [instance.label for video in table.videos for instance in video.instances] == ["run"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty; its first row must name the columns"),
        ("\n\n", "empty; its first row must name the columns"),
        (";;;\n", "empty; its first row must name the columns"),
        ("path;label\n", "lists no labelled video"),
        ("path\nc.mp4\n", "no column 'label'; the columns are: path; name the one to use by --columns label=NAME"),
        ("path:label\nc.mp4:x\n", "(columns may be separated by ',' ';' '\\t' '|')"),
        ("path label\nc.mp4 x\n", "(columns may be separated by ',' ';' '\\t' '|')"),
        ("path;path\n", "column 'path' stands more than once"),
    ],
)
def test_what_is_no_table_is_explained(source: Path, text: str, words: str) -> None:
    assert words in error_of(saved(source, text))


def test_every_format_of_the_same_rows_in_every_dialect(source: Path) -> None:
    expected = read_source(write_table(source / "list.jsonl", ROWS))
    text = write_table(source / "list.csv", ROWS).read_text("utf-8-sig")
    for delimiter in ";\t|":
        for encoding in ("utf-8", "utf-16"):
            table = read_source(saved(source, text.replace(",", delimiter), encoding))
            assert (table.videos, table.missing) == (expected.videos, expected.missing)


def test_errors_are_source_errors(source: Path) -> None:
    file = source / "list.csv"
    file.write_text('"' + "x" * 200_000 + '"\n')  # a field over the limit of the parser
    with pytest.raises(SourceError):
        read_source(file)
