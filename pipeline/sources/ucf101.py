"""Layout `ucf101`: UCF101 as its authors distribute it, with their train and test lists."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import read_lines
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import make_key
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import official_split_files
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.sources.tree import count, first_video, folders_in, scan_videos, some_of, stem_of

NAME = "ucf101"
_LIST_FOLDER = "ucfTrainTestlist"
_VIDEO_FOLDERS = ("UCF-101", "UCF101", "videos")
_LIST_NAME = re.compile(r"(?P<name>train|test)list(?P<number>\d+)\.txt")
_LINE = re.compile(r"(?P<label>[^/\\.][^/\\]*)/(?P<file>v_[^/\\]+\.\w+)(?:\s+\d+)?")
_STEM = re.compile(r"(?P<group>v_(?P<label>\w+)_g\d+)_c\d+")
_PROBED_FOLDERS = 8


def recognise(request: SourceRequest) -> str | None:
    """Recognise train and test lists, or class folders of videos named as in UCF101."""
    if lists := request.named_files(_LIST_NAME, (_LIST_FOLDER,)):
        return f"UCF101 lists ({lists[0][1].name}, ...)"
    if request.annotations:
        return None
    top = request.source / _video_folder(request.source)
    firsts = (first_video(top, name) for name in folders_in(top)[:_PROBED_FOLDERS])
    named = next((path for path in firsts if path is not None and _STEM.fullmatch(stem_of(path))), None)
    return None if named is None else f"videos named as in UCF101 ({named})"


def read(request: SourceRequest) -> SourceTable:
    """Read the videos with the splits of the pair of lists with the lowest number.

    Keys are file stems (`v_Surfing_g01_c01`). The group is the recording that clips were cut from (`v_Surfing_g01`).
    """
    tree = scan_videos(request.source, _video_folder(request.source))
    builder = TableBuilder(NAME, request.source, tree)
    listed = _read_lists(request, builder)
    files = tree.by_stem()
    unnamed = [path for stem, path in files.items() if not _STEM.fullmatch(stem)]
    unlisted: list[str] = []
    for stem, path in files.items():
        if (match := _STEM.fullmatch(stem)) is None:
            continue
        label, split, _ = listed.get(stem, (_label_of(path, match["label"]), None, ""))
        if listed and stem not in listed:
            unlisted.append(path)
        builder.add(path, make_key(stem), Instance(label, split), group=match["group"])
    for stem, (_, _, line) in listed.items():
        if stem not in files:
            builder.miss(line, "in the official lists, but not on disk")
    if len(unnamed) == len(files):
        raise SourceError(
            f"none of the {count(len(files), 'video')} in {str(request.source)!r} is named as in UCF101 "
            f"(v_Class_g01_c01): {some_of(unnamed)}"
        )
    builder.note_some(unlisted, "video", "in none of the lists, kept without split")
    builder.note_some(unnamed, "video", "not named as in UCF101 (v_Class_g01_c01) ignored")
    return builder.build()


def _video_folder(source: Path) -> str:
    return next((name for name in _VIDEO_FOLDERS if os.path.isdir(source / name)), "")


def _read_lists(request: SourceRequest, builder: TableBuilder) -> dict[str, tuple[str, str, str]]:
    """Read label, split and listed path of each stem; empty if there are no lists."""
    number, files = official_split_files(
        request, builder, _LIST_NAME, (_LIST_FOLDER,), "trainlist01.txt and testlist01.txt"
    )
    lists = dict(files)
    listed: dict[str, tuple[str, str, str]] = {}
    for split in ("train", "test") if lists else ():
        if split not in lists:
            raise SourceError(
                f"{files[0][1]} is there, but {split}list{number:02d}.txt is not; both are needed for splits"
            )
        for where, line in read_lines(lists[split]):
            if (match := _LINE.fullmatch(line)) is None:
                raise SourceError(f"{where}: {line[:80]!r} is not of the form Class/v_Class_g01_c01.avi")
            stem = stem_of(match["file"])
            if listed.get(stem, ("", split))[1] != split:
                raise SourceError(f"{where}: {match['file']!r} stands in the train list and in the test list")
            listed[stem] = (match["label"], split, f"{match['label']}/{match['file']}")
    return listed


def _label_of(path: str, label_in_name: str) -> str:
    """The class of an unlisted video, as its folder spells it: `HandstandPushups/` holds `v_HandStandPushups_...`."""
    folder = path.split("/")[-2] if "/" in path else ""
    return folder if folder.lower() == label_in_name.lower() else label_in_name


LAYOUT = Layout(
    NAME, "trainlist01.txt and testlist01.txt, or class folders of videos named v_Class_g01_c01", recognise, read
)
