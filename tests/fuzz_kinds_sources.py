"""Sound samples of scenarios and of lists of videos, and how each of their files is read."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_cases import Kind

import vclimb
from vclimb.pipeline.sources import read_source

PLAIN_SCENARIO = {
    "format": "vclimb-scenario",
    "format_version": 1,
    "name": "two",
    "tasks": [
        {
            "classes": ["a", "b"],
            "train": [{"video": "v0", "class": "a", "frames": [0, 9]}, {"video": "v1", "class": "b", "group": "g"}],
            "test": [{"video": "v2", "class": "a", "seconds": [0.5, 1.5]}, {"video": "v3", "class": "b"}],
        },
        {"classes": ["c"], "train": [{"video": "v4", "class": "c"}], "test": [{"video": "v5", "class": "c"}]},
    ],
}
TASK_FILE = {
    "train": [{"Surfing": ["v_Surfing_g01_c01", "v_Surfing_g02_c01"], "Fencing": ["v_Fencing_g01_c01"]}, {"C": ["x"]}],
    "val": [{"Fencing": [], "Surfing": ["v_Surfing_g03_c01"]}, {"C": []}],
    "test": [{"Surfing": ["v_Surfing_g01_c02"], "Fencing": []}, {"C": ["y"]}],
}
SEGMENTS_FILE = {
    split: [{"C": [{"filename": f"{split}1.mp4", "t_start": "0.5", "t_end": "7.0"}]}]
    for split in ("train", "val", "test")
}
ROWS: list[dict[str, Any]] = [
    {"path": "walk/a.mp4", "label": "walk", "split": "training", "group": "g1", "t_start": None, "t_end": None},
    {"path": "walk/b.mp4", "label": "walk", "split": "validation", "group": None, "t_start": 1, "t_end": 2.5},
    {"path": "walk/b.mp4", "label": "run", "split": "", "group": "g2", "t_start": 0.5, "t_end": 1.0},
    {"path": "walk/gone.mp4", "label": "run", "split": "test", "group": "g3", "t_start": None, "t_end": 4},
]
SOURCES = {
    "kinetics": (
        "annotations/train.csv",
        "label,youtube_id,time_start,time_end,split,is_cc\nabseiling,-abcdefghij,1,11,train,0\n"
        '"playing, loud",whole_video,5,15,train,0\nabseiling,gone,0,10,train,0\n',
        ("train/abseiling/-abcdefghij_000001_000011.mp4", "whole_video.mkv", "val/whole_video.mp4"),
    ),
    "activitynet": (
        "activity_net.v1-3.min.json",
        json.dumps(
            {
                "version": "1.3",
                "taxonomy": [],
                "database": {
                    name: {"subset": subset, "duration": 99.5, "annotations": [{"label": "Polo", "segment": [1, 20.5]}]}
                    for name, subset in (("aaa", "training"), ("-bb", "validation"), ("eee", "testing"))
                },
            }
        ),
        ("train/v_aaa.mp4", "v_-bb.mkv", "v_zzz.mp4"),
    ),
    "ssv2": (
        "labels/train.json",
        json.dumps([{"id": name, "label": "x", "template": "Holding [something]"} for name in ("78687", 7)]),
        ("20bn-something-something-v2/78687.webm", "20bn-something-something-v2/7.webm"),
    ),
    "ucf101": (
        "ucfTrainTestlist/trainlist01.txt",
        "Surfing/v_Surfing_g08_c02.avi 88\r\nSurfing/v_Surfing_g09_c01.avi 88\r\n",
        ("UCF-101/Surfing/v_Surfing_g01_c01.avi", "UCF-101/Surfing/v_Surfing_g08_c02.avi"),
    ),
    "hmdb51": (
        "splits/brush_hair_test_split1.txt",
        "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \nApril_09_brush_hair_u_nm_np1_ba_goo_1.avi 2 \n",
        tuple(f"brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_{n}.avi" for n in range(3)),
    ),
}
FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".json": "json", ".txt": "bytes"}


def make_source_samples(samples: Path) -> None:
    """Write scenarios and lists of videos, as vclimb and others write them."""
    folder = samples / "scenario"
    folder.mkdir()
    (folder / "scenario.json").write_text(json.dumps(PLAIN_SCENARIO))
    (folder / "videos.pkl").write_bytes(pickle.dumps(TASK_FILE, 2))
    (folder / "segments.pkl").write_bytes(pickle.dumps(SEGMENTS_FILE, 4))
    _write_tables(samples / "table")
    for layout, (file, text, videos) in SOURCES.items():
        for video in videos:
            (samples / layout / video).parent.mkdir(parents=True, exist_ok=True)
            (samples / layout / video).write_bytes(b"")
        (samples / layout / file).parent.mkdir(parents=True, exist_ok=True)
        (samples / layout / file).write_bytes(text.encode())
    labels = json.dumps({"Holding something": "0", "Putting something onto something": "1"})
    (samples / "ssv2" / "labels" / "labels.json").write_text(labels)
    (samples / "ucf101/ucfTrainTestlist/testlist01.txt").write_text("Surfing/v_Surfing_g01_c01.avi\r\n")


def _write_tables(folder: Path) -> None:
    (folder / "walk").mkdir(parents=True)
    for name in ("walk/a.mp4", "walk/b.mp4", "walk/unlisted.mp4"):
        (folder / name).write_bytes(b"")
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
        (folder / f"videos{suffix}").write_text(text.getvalue(), "utf-8")
    (folder / "videos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "videos.parquet")


def read_scenario(file: str) -> Callable[[Path], object]:
    """Read a scenario, and count its instances."""

    def read(folder: Path) -> object:
        scenario = vclimb.Scenario.open(folder / file)
        json.dumps(scenario.report().to_json())
        if file == "segments.pkl":
            untrimmed = vclimb.Scenario.open(folder / file, untrimmed=True)
            return repr((scenario.name, scenario.tasks, untrimmed.tasks))
        return repr((scenario.name, scenario.tasks))

    return read


def read_table(file: str) -> Callable[[Path], object]:
    return lambda folder: repr(read_source(folder / file, "table"))


def read_layout(folder: Path) -> object:
    return repr(read_source(folder, folder.name))


def source_kinds() -> list[Kind]:
    """List the kinds of files that `make_source_samples` made."""
    kinds = []
    for file, file_format in {"scenario.json": "json", "videos.pkl": "pickle", "segments.pkl": "pickle"}.items():
        kinds.append(Kind(f"scenario {file}", "scenario", file, read_scenario(file), file_format))
    for suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
        kinds.append(
            Kind(f"table {suffix}", "table", f"videos{suffix}", read_table(f"videos{suffix}"), FORMATS[suffix])
        )
    for layout, (file, _, _) in SOURCES.items():
        kinds.append(Kind(f"source {layout}", layout, file, read_layout, FORMATS[Path(file).suffix]))
    return kinds
