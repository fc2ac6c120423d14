"""The layouts of published data sets, with real annotation files where available."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from source_cases import (
    JHMDB,
    UCF101_LISTS,
    LayoutContract,
    by_path,
    error_of,
    facts,
    needs_jhmdb,
    needs_lists,
    plant,
    says,
    write,
)

from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.hmdb51 import source_video


class TestUCF101(LayoutContract):
    layout = "ucf101"
    annotation = "ucfTrainTestlist/trainlist01.txt"

    def plant(self, root: Path) -> None:
        plant(root, "UCF-101/Surfing/v_Surfing_g01_c01.avi", "UCF-101/Surfing/v_Surfing_g08_c02.avi")
        plant(
            root, "UCF-101/HandstandPushups/v_HandStandPushups_g25_c01.avi", "UCF-101/Surfing/other.avi", "extra/x.mp4"
        )
        train = "Surfing/v_Surfing_g08_c02.avi 88\r\nSurfing/v_Surfing_g09_c01.avi 88\r\n"
        write(root / "ucfTrainTestlist/trainlist01.txt", train)
        write(root / "ucfTrainTestlist/testlist01.txt", "Surfing/v_Surfing_g01_c01.avi\r\n\r\n")
        write(root / "ucfTrainTestlist/trainlist02.txt", "")

    def test_splits_groups_and_keys(self, source: Path) -> None:
        table = read_source(source, "ucf101")
        assert {video.key: (facts(video)[0][:2], video.group) for video in table.videos} == {
            "v_Surfing_g08_c02": (("Surfing", "train"), "v_Surfing_g08"),
            "v_Surfing_g01_c01": (("Surfing", "test"), "v_Surfing_g01"),
            "v_HandStandPushups_g25_c01": (("HandstandPushups", None), "v_HandStandPushups_g25"),
        }
        assert [missing.path for missing in table.missing] == ["Surfing/v_Surfing_g09_c01.avi"]
        assert says(table, "1 video in none of the lists", "v_HandStandPushups_g25_c01.avi")
        assert says(table, "not named as in UCF101", "other.avi")
        assert says(table, "found splits 1, 2: using split 1")

    def test_without_lists_there_are_no_splits(self, tmp_path: Path) -> None:
        table = read_source(plant(tmp_path, "A/v_A_g01_c01.avi", "copy/v_A_g01_c01.mp4"))
        assert (table.layout, [facts(v)[0] for v in table.videos]) == ("ucf101", [("A", None, None, None)])
        assert says(table, "no trainlist01.txt and testlist01.txt", "no splits")
        assert says(table, "1 video with the name of another one ignored", "copy/v_A_g01_c01.mp4")

    @pytest.mark.parametrize(
        "line", ["../v_A_g01_c01.avi 1", "/etc/v_A_g01_c01.avi", "A/../v_A_g01_c01.avi", "v_A.avi"]
    )
    def test_a_line_of_another_form_is_named(self, source: Path, line: str) -> None:
        write(source / "ucfTrainTestlist/testlist01.txt", f"Surfing/v_Surfing_g01_c01.avi\n{line}\n")
        message = error_of(source, "ucf101")
        assert "testlist01.txt row 2" in message
        assert line in message

    def test_lists_that_are_no_pair_or_overlap_are_errors(self, source: Path, tmp_path: Path) -> None:
        train = source / "ucfTrainTestlist/trainlist01.txt"
        assert "testlist01.txt is not" in error_of(source, "ucf101", [train])
        write(source / "ucfTrainTestlist/testlist01.txt", "Surfing/v_Surfing_g08_c02.avi")
        assert "testlist01.txt row 1: 'v_Surfing_g08_c02.avi' stands in the train list" in error_of(source, "ucf101")
        assert "not an annotation file" in error_of(source, "ucf101", [write(tmp_path / "lists.txt", "")])

    @needs_lists
    def test_real_lists(self, tmp_path: Path) -> None:
        lines = [f.read_text().split() for f in sorted(UCF101_LISTS.glob("*list02.txt"))]
        listed = [word for words in lines for word in words if word.endswith(".avi")]
        present = [path for path in listed if path.startswith(("HandstandPushups/", "ApplyEyeMakeup/"))]
        plant(tmp_path, *present)
        table = read_source(tmp_path, annotations=[UCF101_LISTS])
        assert (len(table.videos), len(table.videos) + len(table.missing)) == (len(present), 13320)
        splits = Counter(facts(video)[0][:2] for video in table.videos)
        assert splits["HandstandPushups", "train"] == 100
        assert splits["HandstandPushups", "test"] == 28
        assert says(table, "found splits 1, 2, 3: using split 1")
        second = [UCF101_LISTS / "trainlist02.txt", UCF101_LISTS / "testlist02.txt"]
        of_second = read_source(tmp_path, annotations=second)
        assert [v.key for v in of_second.videos] == [v.key for v in table.videos]
        assert of_second.videos != table.videos


class TestHMDB51(LayoutContract):
    layout = "hmdb51"
    annotation = "splits/brush_hair_test_split1.txt"

    def plant(self, root: Path) -> None:
        names = [f"April_09_brush_hair_u_nm_np1_ba_goo_{i}.avi" for i in range(4)]
        plant(
            root, *(f"brush_hair/{name}" for name in names), "stray.avi", "walk/same_walk_f.avi", "run/same_walk_f.avi"
        )
        codes = "".join(f"{name} {code} \n" for name, code in zip(names, (1, 2, 0), strict=False))
        write(root / "splits/brush_hair_test_split1.txt", codes + "gone_brush_hair_u.avi 1\n")
        write(root / "splits/brush_hair_test_split2.txt", "")

    def test_codes_groups_and_notes(self, source: Path) -> None:
        table = read_source(source, "hmdb51")
        videos = by_path(table)
        splits = [facts(videos[f"brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_{i}.avi"])[0][1] for i in range(4)]
        assert splits == ["train", "test", None, None]
        assert videos["brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi"].group == "April_09"
        assert videos["run/same_walk_f.avi"].group is None
        assert [missing.path for missing in table.missing] == ["brush_hair/gone_brush_hair_u.avi"]
        assert says(table, "3 videos in none of the split files")
        assert says(table, "1 video outside of any class folder ignored: stray.avi")
        assert says(table, "using split 1")

    def test_a_code_that_is_none_is_named(self, source: Path) -> None:
        write(source / "splits/walk_test_split1.txt", "a.avi 1\nb.avi 3\n")
        assert "walk_test_split1.txt row 2: 'b.avi 3'" in error_of(source, "hmdb51")

    @needs_jhmdb
    def test_groups_and_splits_of_real_videos(self, tmp_path: Path) -> None:
        with (JHMDB / "manifest.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            assert source_video(Path(row["path"]).stem, row["class"]) == row["source_video"]
            with (tmp_path / f"{row['class']}_test_split1.txt").open("a") as file:
                file.write(f"{Path(row['path']).name} { ({'train': 1, 'test': 2}[row['hmdb_split1']]) } \n")
        table = read_source(JHMDB, annotations=[tmp_path])
        assert table.layout == "hmdb51"
        expected = {row["path"]: row["hmdb_split1"] for row in rows}
        assert {path: facts(video)[0][1] for path, video in by_path(table).items()} == expected


class TestKinetics(LayoutContract):
    layout = "kinetics"
    annotation = "annotations/train.csv"

    def plant(self, root: Path) -> None:
        train = """label,youtube_id,time_start,time_end,split,is_cc
abseiling,-abcdefghij,1,11,train,0
"playing, loud",whole_video,5,15,train,0
abseiling,gone,0,10,train,0
"""
        val = """youtube_id,time_end,time_start,label
short_names,20,10,abseiling
whole_video,33.5,23.5,abseiling
"""
        write(root / "annotations/train.csv", train)
        write(root / "annotations/kinetics_val.csv", val)
        plant(root, "train/abseiling/-abcdefghij_000001_000011.mp4", "whole_video.mkv", "videos/short_names_10_20.webm")
        plant(root, "unlisted_000001_000011.mp4", "val/abseiling/whole_video.mp4")

    def test_names_of_the_usual_downloaders(self, source: Path) -> None:
        table = read_source(source, "kinetics")
        videos = by_path(table)
        assert {path: facts(video) for path, video in videos.items()} == {
            "train/abseiling/-abcdefghij_000001_000011.mp4": [("abseiling", "train", None, None)],
            "videos/short_names_10_20.webm": [("abseiling", "val", None, None)],
            "val/abseiling/whole_video.mp4": [("playing, loud", "train", 5.0, 15.0), ("abseiling", "val", 23.5, 33.5)],
        }
        assert videos["train/abseiling/-abcdefghij_000001_000011.mp4"].group == "-abcdefghij"
        assert videos["videos/short_names_10_20.webm"].key == "short_names_10_20"
        assert [missing.path for missing in table.missing] == ["gone_000000_000010"]
        assert says(table, "in none of the csv files ignored: unlisted_000001_000011.mp4")
        assert says(table, "with the name of another one ignored: whole_video.mkv")

    def test_a_csv_without_labels_is_explained(self, source: Path) -> None:
        write(source / "annotations/test.csv", "youtube_id,time_start,time_end,split\nabc,1,11,test\n")
        message = error_of(source, "kinetics")
        assert "test.csv: no column label" in message
        assert "--annotations" in message
        given = [source / "annotations/train.csv", source / "annotations/kinetics_val.csv"]
        assert len(read_source(source, annotations=given).videos) == 3

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ("a,../../etc/x,1,2,train", "youtube_id '../../etc/x'"),
            ("a,..,1,2,train", "youtube_id '..'"),
            ("a,x,2,2,train", "time_start 2 is not before time_end 2"),
            ("a,x,one,2,train", "time_start must be a number of seconds, not 'one'"),
            ("a,x,-1,2,train", "time_start -1 is negative"),
            ("a,x,nan,2,train", "not 'nan'"),
            ("a,x,,2,train", "is empty"),
            (",x,1,2,train", "the label is empty"),
            ("a,x,1,2,dev", "split 'dev' is not known; allowed: train"),
            ("a,b,x,1,2,train", "6 fields, but there are 5 columns"),
        ],
    )
    def test_a_malformed_row_is_named(self, source: Path, row: str, words: str) -> None:
        file = write(source / "rows.csv", f"label,youtube_id,time_start,time_end,split\na,ok,1,2,\n{row}\n")
        message = error_of(source, "kinetics", [file])
        assert "rows.csv row 3" in message
        assert words in message

    def test_none_of_the_listed_videos_is_there(self, source: Path) -> None:
        file = write(source / "other.csv", "label,youtube_id,time_start,time_end\na,other,1,2\n")
        message = error_of(source, "kinetics", [file])
        assert "none of the 1 listed video" in message
        assert "other_000001_000002" in message


class TestActivityNet(LayoutContract):
    layout = "activitynet"
    annotation = "activity_net.v1-3.min.json"

    def plant(self, root: Path) -> None:
        def entry(subset: str, *segments: tuple[str, float, float]) -> dict[str, object]:
            annotations = [{"label": label, "segment": [start, end]} for label, start, end in segments]
            return {"subset": subset, "duration": 100.0, "annotations": annotations}

        database = {
            "aaa": entry("training", ("Surfing", 5, 20.5), ("Surfing", -1, 4), ("Polo", 9, 9), ("Polo", 90, 999)),
            "-bb": entry("validation", ("Polo", 1, 2)),
            "ccc": entry("testing"),
            "ddd": entry("training", ("Polo", 3, 2)),
            "eee": entry("training", ("Polo", 1, 2)),
        }
        write(root / self.annotation, json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
        plant(root, "train/v_aaa.mp4", "v_-bb.mkv", "v_ccc.mp4", "ddd.webm", "v_zzz.mp4", "aaa.mp4")

    def test_segments_are_instances(self, source: Path) -> None:
        table = read_source(source, "activitynet")
        assert {video.key: (video.path, video.group, facts(video)) for video in table.videos} == {
            "v_aaa": (
                "train/v_aaa.mp4",
                "aaa",
                [("Surfing", "train", 0.0, 4.0), ("Surfing", "train", 5.0, 20.5), ("Polo", "train", 90.0, 999.0)],
            ),
            "v_-bb": ("v_-bb.mkv", "-bb", [("Polo", "val", 1.0, 2.0)]),
        }
        assert {missing.path for missing in table.missing} == {"ddd.webm", "v_eee"}
        assert says(table, "1 video of the subset 'testing' without annotations")
        assert says(table, "2 segments left out", "aaa, ddd")
        assert says(table, "not in the json ignored: v_zzz.mp4")
        assert says(table, "with the name of another one ignored: aaa.mp4")

    @pytest.mark.parametrize(
        ("database", "words"),
        [
            ({"../x": {"subset": "training", "annotations": []}}, "the id '../x' is not a file name"),
            ({"x": {"subset": "some", "annotations": []}}, "split 'some' is not known"),
            ({"x": {"annotations": []}}, "subset must be a text, not null"),
            ({"x": {"subset": "training", "annotations": [{"label": "a", "segment": [1]}]}}, "must be two times"),
            ({"x": {"subset": "training", "annotations": [{"label": "", "segment": [1, 2]}]}}, "the label is empty"),
            ({"x": {"subset": "training", "annotations": [{"label": "a", "segment": [1, "b"]}]}}, "not 'b'"),
            ({"x": {"subset": "training", "annotations": {"label": "a"}}}, "annotations must be a list"),
            ([], '"database" must be an object'),
        ],
    )
    def test_a_malformed_entry_is_named(self, source: Path, database: object, words: str) -> None:
        write(source / self.annotation, json.dumps({"database": database}))
        message = error_of(source, "activitynet")
        assert self.annotation in message
        assert words in message


class TestSSv2(LayoutContract):
    layout = "ssv2"
    annotation = "labels/train.json"

    def plant(self, root: Path) -> None:
        train = [
            {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
            {"id": 42, "label": "gone", "template": "Putting [something] onto [something]"},
        ]
        write(
            root / "labels/labels.json", json.dumps({"Holding something": "0", "Putting something onto something": "1"})
        )
        write(root / "labels/train.json", json.dumps(train))
        write(root / "labels/something-something-v2-validation.json", json.dumps([{**train[1], "id": "7"}]))
        write(root / "labels/test.json", json.dumps([{"id": "1420"}]))
        plant(
            root, *(f"20bn-something-something-v2/{name}" for name in ("78687.webm", "7.webm", "1420.webm", "9.webm"))
        )

    def test_templates_are_classes(self, source: Path) -> None:
        table = read_source(source, "ssv2")
        assert {video.key: facts(video)[0][:2] for video in table.videos} == {
            "78687": ("Holding something", "train"),
            "7": ("Putting something onto something", "val"),
        }
        assert [missing.path for missing in table.missing] == ["42"]
        assert says(table, "1 video of test.json left out for want of labels")
        assert says(table, "in none of the json files ignored: 20bn-something-something-v2/9.webm")

    @pytest.mark.parametrize(
        ("item", "words"),
        [
            ({"id": "../7", "template": "Holding [something]"}, "the id '../7' is not a file name"),
            ({"id": "7", "template": "Holding [something]"}, "id '7' stands in train.json too"),
            ({"id": "8"}, "the label must be a text, not null"),
            ({"id": "8", "template": "Eating [something]"}, "template 'Eating something' is not in labels.json"),
            ([], "an item must be an object"),
        ],
    )
    def test_a_malformed_item_is_named(self, source: Path, item: object, words: str) -> None:
        good = {"id": "7", "template": "Holding [something]"}
        write(source / "labels/train.json", json.dumps([good]))
        write(source / "labels/something-something-v2-validation.json", json.dumps([item]))
        message = error_of(source, "ssv2")
        assert "validation.json item 1" in message
        assert words in message

    def test_two_files_for_one_split_are_an_error(self, source: Path) -> None:
        write(source / "train.json", "[]")
        assert "both" in error_of(source, "ssv2")
