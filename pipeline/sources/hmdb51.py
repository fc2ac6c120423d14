"""Layout `hmdb51`: HMDB51 with its three official splits, one text file for each class and split."""

from __future__ import annotations

import re
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import read_lines
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import keys_of_paths
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import choose_split_number
from vclimb.pipeline.sources.table import Instance, SourceTable, printable_path
from vclimb.pipeline.sources.tree import scan_videos, stem_of

NAME = "hmdb51"
_SPLIT_FOLDERS = ("testTrainMulti_7030_splits", "splits")
_SPLIT_FILE = re.compile(r"(?P<label>.+)_test_split(?P<number>\d+)\.txt")
_LINE = re.compile(r"(?P<file>[^/\\]+\.\w+)\s+(?P<code>[012])")
_SPLIT_OF_CODE = {"0": None, "1": "train", "2": "test"}


def recognise(request: SourceRequest) -> str | None:
    """Recognise split files by their official names."""
    files = _find_split_files(request)
    return f"HMDB51 split files ({files[0].name}, ...)" if files else None


def read(request: SourceRequest) -> SourceTable:
    """Read the videos with the official split of the lowest number. The class is the name of the video's folder.

    The group is the source video: the part of the file name before the class. Keys are paths without suffix.

    Raises:
        SourceError: There are no videos, or a split file is malformed.
    """
    request.refuse_columns(NAME)
    tree = scan_videos(request.source)
    tree.require_videos()
    builder = TableBuilder(NAME, request.source)
    listed = _read_splits(request, builder)
    keys = keys_of_paths(tree.videos)
    on_disk: set[tuple[str, str]] = set()
    unlisted: list[str] = []
    classless: list[str] = []
    for path in tree.videos:
        stem = stem_of(path)
        if "/" not in path:
            classless.append(path)
            continue
        label = printable_path(path.split("/")[-2])
        on_disk.add((label, stem))
        if listed and (label, stem) not in listed:
            unlisted.append(path)
        split = listed.get((label, stem), (None, ""))[0]
        builder.add(path, keys[path], Instance(label, split), group=source_video(stem, label))
    for (label, stem), (_, name) in listed.items():
        if (label, stem) not in on_disk:
            builder.miss(f"{label}/{name}", "in the official split files, but not on disk")
    if not listed:
        builder.notes.append(f"no <class>_test_split1.txt in {request.places(_SPLIT_FOLDERS)}: no splits")
    if not on_disk:
        raise SourceError(
            f"{len(classless):,} videos lie directly in {str(request.source)!r}; "
            f"the layout {NAME!r} is SOURCE/<class>/<video>"
        )
    builder.note_some(unlisted, "video", "in none of the split files, kept without split")
    builder.note_some(classless, "video", "outside of any class folder ignored")
    builder.take_notes_of(tree)
    return builder.build()


def source_video(stem: str, label: str) -> str | None:
    """The recording that a clip was cut from: `April_09` of `April_09_brush_hair_u_nm_np1_ba_goo_0`."""
    end = stem.rfind(f"_{label}_")  # the last one, since the title of a recording may hold the class too
    return stem[:end] if end > 0 else None


def _find_split_files(request: SourceRequest) -> list[Path]:
    files = request.annotation_files((".txt",), _SPLIT_FOLDERS)
    return [file for file in files if _SPLIT_FILE.fullmatch(file.name)]


def _read_splits(request: SourceRequest, builder: TableBuilder) -> dict[tuple[str, str], tuple[str | None, str]]:
    """Read split and file name for each listed (class, stem); empty if there are no split files."""
    files = _find_split_files(request)
    request.refuse_unused_annotations(files, "<class>_test_split1.txt")
    if not files:
        if request.annotations:
            raise SourceError(f"no <class>_test_split1.txt in {request.places()}")
        return {}
    by_number: dict[int, list[tuple[str, Path]]] = {}
    for file in files:
        if match := _SPLIT_FILE.fullmatch(file.name):
            by_number.setdefault(int(match["number"]), []).append((match["label"], file))
    number, note = choose_split_number(by_number)
    builder.notes += [note] if note else []
    listed: dict[tuple[str, str], tuple[str | None, str]] = {}
    for label, file in by_number[number]:
        for where, line in read_lines(file):
            if (match := _LINE.fullmatch(line)) is None:
                raise SourceError(f"{where}: {line[:80]!r} is not of the form name.avi 0|1|2 (unused, train, test)")
            listed[label, stem_of(match["file"])] = (_SPLIT_OF_CODE[match["code"]], match["file"])
    return listed


LAYOUT = Layout(NAME, "<class>_test_split1.txt files", recognise, read)
