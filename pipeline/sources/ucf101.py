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
from vclimb.pipeline.sources.splits import choose_split_number
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.sources.tree import count, first_video, folders_in, scan_videos, some_of, stem_of

NAME = "ucf101"
_LIST_FOLDER = "ucfTrainTestlist"
_VIDEO_FOLDERS = ("UCF-101", "UCF101", "videos")
_LIST_NAME = re.compile(r"(train|test)list(\d+)\.txt")
_LINE = re.compile(r"(?P<label>[^/\\.][^/\\]*)/(?P<file>v_[^/\\]+\.\w+)(?:\s+\d+)?")
_STEM = re.compile(r"(?P<group>v_(?P<label>\w+)_g\d+)_c\d+")
_PROBED_FOLDERS = 8


def recognise(request: SourceRequest) -> str | None:
    """Recognise train and test lists, or class folders of videos named as in UCF101."""
    if lists := _find_lists(request):
        return f"UCF101 lists ({lists[0].name}, ...)"
    if request.annotations:
        return None
    top = request.source / _video_folder(request.source)
    firsts = (first_video(top, name) for name in folders_in(top)[:_PROBED_FOLDERS])
    named = next((path for path in firsts if path is not None and _STEM.fullmatch(stem_of(path))), None)
    return None if named is None else f"videos named as in UCF101 ({named})"


def read(request: SourceRequest) -> SourceTable:
    """Read the videos with the splits of the pair of lists with the lowest number.

    Keys are file stems (`v_Surfing_g01_c01`). The group is the recording that clips were cut from (`v_Surfing_g01`).

    Raises:
        SourceError: There are no videos, or the lists are malformed or not a pair.
    """
    request.refuse_columns(NAME)
    tree = scan_videos(request.source, _video_folder(request.source))
    tree.require_videos()
    builder = TableBuilder(NAME, request.source)
    listed = _read_lists(request, builder)
    files, further = tree.by_stem()
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
    if not listed:
        builder.notes.append(f"no trainlist01.txt and testlist01.txt in {request.places((_LIST_FOLDER,))}: no splits")
    if len(unnamed) == len(files):
        raise SourceError(
            f"none of the {count(len(files), 'video')} in {str(request.source)!r} is named as in UCF101 "
            f"(v_Class_g01_c01): {some_of(unnamed)}"
        )
    builder.note_some(unlisted, "video", "in none of the lists, kept without split")
    builder.note_some(unnamed, "video", "not named as in UCF101 (v_Class_g01_c01) ignored")
    builder.note_some(further, "video", "with the name of another one ignored")
    builder.take_notes_of(tree)
    return builder.build()


def _video_folder(source: Path) -> str:
    return next((name for name in _VIDEO_FOLDERS if os.path.isdir(source / name)), "")


def _find_lists(request: SourceRequest) -> list[Path]:
    return [file for file in request.annotation_files((".txt",), (_LIST_FOLDER,)) if _LIST_NAME.fullmatch(file.name)]


def _read_lists(request: SourceRequest, builder: TableBuilder) -> dict[str, tuple[str, str, str]]:
    """Read label, split and listed path of each stem; empty if there are no lists."""
    files = _find_lists(request)
    request.refuse_unused_annotations(files, "trainlist01.txt and testlist01.txt")
    if not files:
        if request.annotations:
            raise SourceError(f"no trainlist01.txt and testlist01.txt in {request.places()}")
        return {}
    by_number: dict[int, dict[str, Path]] = {}
    for file in files:
        if match := _LIST_NAME.fullmatch(file.name):
            by_number.setdefault(int(match[2]), {})[match[1]] = file
    number, note = choose_split_number(by_number)
    builder.notes += [note] if note else []
    listed: dict[str, tuple[str, str, str]] = {}
    for split in ("train", "test"):
        if split not in by_number[number]:
            there = next(iter(by_number[number].values()))
            raise SourceError(f"{there} is there, but {split}list{number:02d}.txt is not; both are needed for splits")
        for where, line in read_lines(by_number[number][split]):
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
