"""Reading a source: errors of `read_source`, the layout `auto` and the layout `folder`."""

from __future__ import annotations

import os
from pathlib import Path

from source_cases import (
    JHMDB,
    LayoutContract,
    by_path,
    error_of,
    facts,
    needs_jhmdb,
    plant,
    says,
    write,
)

from vclimb.pipeline.sources import LAYOUTS, read_source
from vclimb.pipeline.sources.tree import VIDEO_SUFFIXES


class TestFolder(LayoutContract):
    layout = "folder"

    def plant(self, root: Path) -> None:
        plant(root, "walk/a.mp4", "walk/b.AVI", "run/c d.webm", "run/deep/er/e.mkv", "run/.hidden.mp4", ".git/x/y.mp4")
        plant(root, "walk/a.txt", "walk/b.txt", "labels.csv", "run/README")

    def test_the_first_level_is_the_class(self, source: Path) -> None:
        table = read_source(source, "folder")
        labels = {path: facts(video)[0][:2] for path, video in by_path(table).items()}
        assert labels == {
            "walk/a.mp4": ("walk", None),
            "walk/b.AVI": ("walk", None),
            "run/c d.webm": ("run", None),
            "run/deep/er/e.mkv": ("run", None),
        }
        assert by_path(table)["run/deep/er/e.mkv"].key == "run/deep/er/e"
        assert says(table, "ignored 4 files with other suffixes: .txt (2), .csv (1), no suffix (1)")

    def test_folders_named_like_splits_above_the_classes(self, tmp_path: Path) -> None:
        plant(tmp_path, "train/walk/a.mp4", "Validation/walk/a.mp4", "test/run/c.mp4", "test/stray.mp4", "docs/x.txt")
        table = read_source(tmp_path, "folder")
        assert {path: facts(video)[0][:2] for path, video in by_path(table).items()} == {
            "train/walk/a.mp4": ("walk", "train"),
            "Validation/walk/a.mp4": ("walk", "val"),
            "test/run/c.mp4": ("run", "test"),
        }
        assert says(table, "read Validation/, test/, train/ as splits")
        assert says(table, "1 video outside of any class folder ignored", "test/stray.mp4")

    def test_a_class_that_is_called_train_stays_a_class(self, tmp_path: Path) -> None:
        table = read_source(plant(tmp_path, "train/steam/a.mp4", "bus/b.mp4"), "folder")
        assert {facts(video)[0][:2] for video in table.videos} == {("train", None), ("bus", None)}
        assert says(table, "read train/ as a class")

    def test_videos_without_class_folders_are_explained(self, tmp_path: Path) -> None:
        for root in (plant(tmp_path / "1", "a.mp4", "b.mp4"), plant(tmp_path / "2", "train/a.mp4", "val/b.mp4")):
            message = error_of(root, "folder")
            assert "2 videos" in message
            assert "SOURCE/<class>/<video>" in message
        assert "SOURCE/<class>/<video>" in error_of(tmp_path / "1")
        assert says(read_source(plant(tmp_path / "3", "a.mp4", "walk/b.mp4")), "1 video outside", "a.mp4")

    def test_one_folder_too_high_is_noticed(self, tmp_path: Path) -> None:
        table = read_source(plant(tmp_path, "videos/walk/a.mp4", "videos/run/b.mp4"), "folder")
        assert says(table, "all videos are of one class, 'videos'", "2 subfolders")

    def test_links_are_followed_and_loops_are_not(self, tmp_path: Path) -> None:
        plant(tmp_path / "elsewhere", "far.mp4", "deep/x.mp4")
        source = plant(tmp_path / "source", "walk/a.mp4")
        (source / "walk/file.mp4").symlink_to(tmp_path / "elsewhere/far.mp4")
        (source / "walk/broken.mp4").symlink_to("nowhere.mp4")
        (source / "walk/self.mp4").symlink_to("self.mp4")
        (source / "self.csv").symlink_to("self.csv")
        (source / "run").symlink_to(tmp_path / "elsewhere")
        (source / "walk/up").symlink_to(source)
        (tmp_path / "elsewhere/deep/back").symlink_to(source / "walk")
        table = read_source(source)
        paths = set(by_path(table))
        assert {"walk/file.mp4", "walk/broken.mp4", "walk/self.mp4", "run/far.mp4", "run/deep/x.mp4"} <= paths
        assert len(paths) < 20
        assert {m.path for m in table.missing} >= {"walk/up"}
        assert all("link back" in missing.reason for missing in table.missing)

    def test_links_in_a_circle_are_gone_round_once(self, tmp_path: Path) -> None:
        plant(tmp_path, "a/x.mp4", "b/y.mp4")
        (tmp_path / "a/to_b").symlink_to("../b")
        (tmp_path / "b/to_a").symlink_to("../a")
        table = read_source(tmp_path)
        assert by_path(table).keys() == {"a/x.mp4", "b/y.mp4", "a/to_b/y.mp4", "b/to_a/x.mp4"}
        assert [missing.path for missing in table.missing] == ["a/to_b/to_a", "b/to_a/to_b"]

    def test_a_folder_whose_name_is_no_text_has_a_printable_label(self, tmp_path: Path) -> None:
        os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
        (tmp_path / os.fsdecode(b"caf\xe9/\xff.mp4")).touch()
        video = read_source(tmp_path).videos[0]
        assert facts(video)[0][0] == "caf\\xe9"
        assert video.path == os.fsdecode(b"caf\xe9/\xff.mp4")

    @needs_jhmdb
    def test_real_videos(self) -> None:
        table = read_source(JHMDB)
        assert (table.layout, len(table.videos), len(table.missing)) == ("folder", 928, 0)
        assert len({i.label for video in table.videos for i in video.instances}) == 21
        assert says(table, "manifest.csv (columns: path, class, ", "--layout table --annotations", "manifest.csv")
        assert by_path(table)["brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi"].key.endswith("np1_ba_goo_0")


class TestReadSource:
    def test_an_unknown_layout_is_named_with_the_allowed_ones(self, tmp_path: Path) -> None:
        message = error_of(tmp_path, "ucf-101")
        assert message == (f"layout 'ucf-101' is not known; did you mean 'ucf101'? allowed: auto, {', '.join(LAYOUTS)}")

    def test_a_source_that_is_no_folder(self, tmp_path: Path) -> None:
        assert "is not there" in error_of(tmp_path / "nowhere")
        (tmp_path / "link").symlink_to("nowhere")
        assert "broken symbolic link" in error_of(tmp_path / "link")
        plant(tmp_path, "video.mp4")
        assert "is not a folder" in error_of(tmp_path / "video.mp4", "folder")
        assert "neither a folder nor a table" in error_of(tmp_path / "video.mp4")

    def test_an_empty_source_says_what_was_looked_for(self, tmp_path: Path) -> None:
        plant(tmp_path, "walk/a.txt")
        message = error_of(tmp_path)
        assert "no videos" in message
        assert all(suffix in message for suffix in VIDEO_SUFFIXES)
        assert ".txt (1)" in message

    def test_nothing_recognised_lists_what_was_looked_for(self, tmp_path: Path) -> None:
        message = error_of(write(plant(tmp_path, "a.mp4") / "list.csv", "file,class\n").parent)
        assert all(f"({name})" in message for name in LAYOUTS)
        assert "list.csv (columns: file, class): --layout table" in message

    def test_several_layouts_recognised_is_an_error(self, tmp_path: Path) -> None:
        plant(tmp_path, "A/v_A_g01_c01.avi")
        write(tmp_path / "videos.csv", "path,label\n")
        message = error_of(tmp_path)
        assert "may be read in several ways" in message
        assert "ucf101" in message
        assert "--layout" in message

    def test_options_that_a_layout_has_no_use_for_are_refused(self, tmp_path: Path) -> None:
        plant(tmp_path, "walk/a.mp4")
        file = write(tmp_path / "x.csv", "path,label\n")
        assert "takes no annotation files" in error_of(tmp_path, "folder", [file])
        for layout in LAYOUTS.keys() - {"table"}:
            assert "takes no column names, but label=class" in error_of(tmp_path, layout, label="class")

    def test_the_source_may_be_named_through_a_link(self, tmp_path: Path) -> None:
        plant(tmp_path / "real", "walk/a.mp4")
        (tmp_path / "link").symlink_to("real")
        assert read_source(tmp_path / "link").root == (tmp_path / "real").resolve()
