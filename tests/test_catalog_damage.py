"""A catalog that changed, by accident or by somebody's hand, is refused in one sentence that names the file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_dataset import (
    NO_FILES,
    Content,
    accepted_flips,
    edit_header,
    edit_rows,
    parquet_bytes,
    put_file,
    put_no_file,
    sample_of_bits,
)

from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.header import DRAFT, ERRORS, HEADER, INSTANCES, VIDEOS
from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.transcode.verify import verify


@pytest.fixture
def folder(jpeg_folder: Path, tmp_path: Path) -> Path:
    """A copy of a prepared data set, to be changed."""
    return shutil.copytree(jpeg_folder, tmp_path / "tiny")


def assert_refused(folder: Path, name: str, *words: str) -> None:
    """Check that a data set does not open, and that `verify` has a row for the damage."""
    with pytest.raises(DatasetError) as caught:
        StoredDataset.open(folder)
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    assert len(message) < 1000
    for word in words:
        assert word in message
    assert name in [problem.file for problem in verify(folder, workers=1, progress=False).problems]


@pytest.mark.parametrize("name", [HEADER, VIDEOS, INSTANCES])
def test_a_flipped_bit_is_refused(folder: Path, name: str) -> None:
    bits = sample_of_bits(folder / name, 200)
    if name == HEADER:  # white space may change
        content = json.loads((folder / name).read_bytes())
        for bit in accepted_flips(folder, name, bits):
            data = bytearray((folder / name).read_bytes())
            data[bit // 8] ^= 1 << bit % 8
            assert json.loads(data) == content
    else:
        assert accepted_flips(folder, name, bits) == []
        assert accepted_flips(folder, name, range(64)) == []


def test_a_changed_list_of_errors_is_refused_and_shards_are_still_checked(folder: Path) -> None:
    (folder / ERRORS).write_text('{"path": "x", "stage": "open", "reason": "", "stderr": ""}\n')
    assert_refused(folder, ERRORS, "its SHA-256 is not the one in dataset.json", "restore it from a copy")
    report = verify(folder, workers=1, progress=False)
    assert [problem.file for problem in report.problems] == [ERRORS]
    assert report.n_videos == 12


def test_a_table_is_not_excused_by_an_unfinished_run(folder: Path) -> None:
    """While a run is unfinished, tables may be those of the next dataset.json, and no others."""
    (folder / ".work").mkdir()
    (folder / DRAFT).write_bytes((folder / HEADER).read_bytes())
    assert accepted_flips(folder, VIDEOS, sample_of_bits(folder / VIDEOS, 50)) == []


@pytest.mark.parametrize("n_replaced", [0, 1, 2, 3])
def test_a_catalog_whose_writing_was_cut_short_is_the_old_one(
    folder: Path, n_replaced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is killed after some of the files of the next catalog were put in place."""
    whole = Catalog.read(LocalStorage(folder))
    older = Catalog.read(LocalStorage(folder))
    last = max(older.shards)
    del older.shards[last]
    older.videos = [video for video in older.videos if video.shard != last]
    keys = {video.key for video in older.videos}
    older.instances = [instance for instance in older.instances if instance.key in keys]
    older.write(folder)
    expected = Catalog.read(LocalStorage(folder))
    replaced: list[Path] = []
    replace = os.replace

    def replace_some(draft: Path, path: Path) -> None:
        if len(replaced) == n_replaced:
            raise KeyboardInterrupt
        replace(draft, path)
        replaced.append(path)

    monkeypatch.setattr("vclimb.pipeline.system.durable.os.replace", replace_some)
    with pytest.raises(KeyboardInterrupt):
        whole.write(folder)
    monkeypatch.undo()
    assert Catalog.read(LocalStorage(folder)) == expected
    whole.write(folder)
    assert Catalog.read(LocalStorage(folder)) == whole
    assert not (folder / DRAFT).exists()


def test_a_catalog_that_is_replaced_while_it_is_read_is_the_new_one(folder: Path) -> None:
    """Between dataset.json and the tables, a run publishes another catalog, whole."""
    storage = LocalStorage(folder)
    older = Catalog.read(storage)
    older.name = "renamed"

    class Replacing(LocalStorage):
        def read(self, name: str) -> bytes:
            data = super().read(name)
            if older.errors == [] and name == HEADER:
                older.errors = [FailedVideo("x.mp4", "open", "not a video")]
                older.write(folder)
            return data

    assert Catalog.read(Replacing(folder)) == older
    assert Catalog.read(storage) == older


def first(change: Content) -> Callable[[list[Content]], object]:
    return lambda rows: rows[0].update(change)


ROWS = {
    "an unknown shard": (VIDEOS, first({"shard": 99}), "shard 99"),
    "a negative shard": (VIDEOS, first({"shard": -1}), "shard"),
    "a video behind its tar": (VIDEOS, first({"offset": 2**40}), "does not lie"),
    "a negative offset": (VIDEOS, first({"offset": -512}), "row 0.offset"),
    "a huge video": (VIDEOS, first({"bytes": 2**62}), "row 0.bytes"),
    "a video of no bytes": (VIDEOS, first({"bytes": 0}), "row 0.bytes"),
    "a video of no frames": (VIDEOS, first({"n_frames": 0}), "row 0.n_frames"),
    "a billion frames": (VIDEOS, first({"n_frames": 10**9}), "does not lie"),
    "another first frame": (VIDEOS, first({"first_frame": 1}), "does not lie"),
    "a missing value": (VIDEOS, first({"sha256": None}), "row 0.sha256"),
    "no list of labels": (VIDEOS, first({"labels": None}), "row 0.labels"),
    "a missing label": (VIDEOS, first({"labels": [None]}), "row 0.labels.0"),
    "other labels": (VIDEOS, first({"labels": ["class1", "class2"]}), "the classes of video"),
    "a digest that is none": (VIDEOS, first({"sha256": "../x"}), "row 0.sha256"),
    "a digest in capitals": (VIDEOS, first({"sha256": "A" * 64}), "row 0.sha256"),
    "a digest of other letters": (VIDEOS, first({"sha256": "g" * 64}), "row 0.sha256"),
    "another codec": (VIDEOS, first({"codec": "h264"}), "has codec 'h264'"),
    "a side of no pixels": (VIDEOS, first({"width": 0}), "row 0.width"),
    "a huge picture": (VIDEOS, first({"width": 60_000, "height": 60_000}), "pixels"),
    "a rate that takes for ever": (VIDEOS, first({"fps_fraction": "1e999999999"}), "row 0.fps_fraction"),
    "times of other frames": (VIDEOS, first({"frame_seconds": [0.0]}), "frame_seconds"),
    "times that fall": (VIDEOS, lambda rows: rows[0].update(frame_seconds=[1.0, 0.0]), "frame_seconds"),
    "a time that is no number": (VIDEOS, first({"frame_seconds": [float("nan")]}), "frame_seconds"),
    "a rate of zero": (VIDEOS, first({"fps_fraction": "0"}), "row 0.fps_fraction"),
    "a rate by zero": (VIDEOS, first({"fps_fraction": "1/0"}), "row 0.fps_fraction"),
    "two rates": (VIDEOS, first({"fps": 1.0}), "row 0: fps"),
    "a rate that is no number": (VIDEOS, first({"fps": float("nan")}), "row 0: fps"),
    "a key that is a path": (VIDEOS, first({"key": "../../x"}), "is not a key"),
    "an empty key": (VIDEOS, first({"key": ""}), "is not a key"),
    "the same key twice": (VIDEOS, lambda rows: rows[1].update(key=rows[0]["key"]), "two videos have the same key"),
    "another order": (VIDEOS, lambda rows: rows.reverse(), ""),
    "a row too many": (VIDEOS, lambda rows: rows.append(rows[-1]), "rows, not"),
    "no rows": (VIDEOS, lambda rows: rows.clear(), "0 rows, not 12"),
    "an instance of no video": (INSTANCES, first({"key": "nobody"}), "'nobody', which is not there"),
    "an instance beyond its video": (INSTANCES, first({"end_frame": 10**6}), "1000000 of"),
    "an instance of no frames": (INSTANCES, first({"end_frame": 0}), "row 0.end_frame"),
    "an instance before its video": (INSTANCES, first({"start_frame": -3}), "row 0.start_frame"),
    "an instance of another class": (INSTANCES, first({"label": "unheard of"}), "classes of video"),
    "an unknown split": (INSTANCES, first({"split": "dev"}), "row 0.split"),
    "an endless time": (INSTANCES, first({"end_seconds": float("inf")}), "row 0.end_seconds"),
    "no label": (INSTANCES, first({"label": None}), "row 0.label"),
    "instances in another order": (INSTANCES, lambda rows: rows.reverse(), "not in the order of the videos"),
}


@pytest.mark.parametrize(("name", "change", "words"), ROWS.values(), ids=ROWS.keys())
def test_rows_that_do_not_fit_are_refused(
    folder: Path, name: str, change: Callable[[list[Content]], object], words: str
) -> None:
    edit_rows(folder, name, change)
    assert_refused(folder, INSTANCES if words.startswith("the classes") else name, words)


def _columns(change: Callable[[pa.Table], pa.Table]) -> Callable[[bytes], bytes]:
    return lambda data: parquet_bytes(change(pq.read_table(pa.BufferReader(data))))


def _not_utf8(table: pa.Table) -> pa.Table:
    offsets = b"".join((2 * row).to_bytes(4, "little") for row in range(len(table) + 1))
    bad = pa.StringArray.from_buffers(len(table), pa.py_buffer(offsets), pa.py_buffer(b"\xff\xfe" * len(table)))
    return table.set_column(table.schema.get_field_index("source"), "source", bad)


def _many_equal_rows(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1)] * 2_000).combine_chunks()


def _long_text(table: pa.Table) -> pa.Table:
    index = table.schema.get_field_index("source")
    return table.set_column(index, "source", pa.array(["x" * 2**20] * len(table)))


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "Parquet"),
    "not parquet": (lambda data: b"PAR1" + bytes(100) + b"PAR1", ""),
    "half a file": (lambda data: data[: len(data) // 2], ""),
    "a huge footer": (lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:], ""),
    "a footer that is gone": (lambda data: data[:4] + bytes(len(data) - 12) + data[-8:], ""),
    "a column less": (_columns(lambda table: table.drop_columns(["sha256"])), "its columns are not key: string"),
    "a column more": (_columns(lambda table: table.append_column("x", table["key"])), "its columns are not"),
    "numbers as text": (
        _columns(lambda table: table.set_column(7, "offset", table["offset"].cast(pa.string()))),
        "its columns are not",
    ),
    "text that is not UTF-8": (_columns(_not_utf8), ""),
    "other columns": (lambda data: parquet_bytes(pa.table({"a": [1]})), "its columns are not"),
}


@pytest.mark.parametrize(("change", "words"), FILES.values(), ids=FILES.keys())
def test_files_that_are_no_such_table_are_refused(folder: Path, change: Callable[[bytes], bytes], words: str) -> None:
    put_file(folder, VIDEOS, change((folder / VIDEOS).read_bytes()))
    assert_refused(folder, VIDEOS, words)


@pytest.mark.parametrize("make", [_many_equal_rows, _long_text])
def test_small_tables_that_claim_to_be_huge_are_refused_unread(
    folder: Path, make: Callable[[pa.Table], pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make(pq.read_table(folder / VIDEOS))
    put_file(folder, VIDEOS, parquet_bytes(table, compression="zstd", use_dictionary=make is _many_equal_rows))
    edit_header(folder, lambda content: content["totals"].update(videos=len(table)))
    monkeypatch.setattr("vclimb.pipeline.dataset.tables._MOST_ROWS_PER_BYTE", 0.1)
    monkeypatch.setattr("vclimb.pipeline.dataset.tables._ALWAYS_ALLOWED_BYTES", 2**16)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("it was read"))
    assert_refused(folder, VIDEOS, "it claims to hold")


@pytest.mark.parametrize("line", [b"[]", b"{", b'{"path": 1, "stage": "", "reason": ""}', b"\xff", b'{"a":' * 10_000])
def test_errors_that_are_no_rows_are_refused(folder: Path, line: bytes) -> None:
    put_file(folder, ERRORS, line + b"\n")
    edit_header(folder, lambda content: content["totals"].update(errors=1))
    assert_refused(folder, ERRORS, "line 1")


@pytest.mark.parametrize("name", [HEADER, VIDEOS, INSTANCES, ERRORS])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_without_waiting(folder: Path, name: str, kind: str) -> None:
    put_no_file(folder / name, kind)
    with pytest.raises(DatasetError, match=name):
        StoredDataset.open(folder)


def test_digests_of_the_test_helpers_are_right(folder: Path) -> None:
    """An unchanged content opens: the cases above are refused for what they change."""
    edit_header(folder, lambda content: None)
    for name in (VIDEOS, INSTANCES):
        edit_rows(folder, name, lambda rows: None)
    put_file(folder, ERRORS, (folder / ERRORS).read_bytes())
    assert len(StoredDataset.open(folder).videos) == 12
    content = json.loads((folder / HEADER).read_bytes())
    assert content["files"][VIDEOS] == hashlib.sha256((folder / VIDEOS).read_bytes()).hexdigest()
