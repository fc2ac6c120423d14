"""Layout `hmdb51`: HMDB51 with its three official splits, one text file for each class and split."""

from __future__ import annotations

import re

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import read_lines
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import keys_of_paths
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import official_split_files
from vclimb.pipeline.sources.table import Instance, SourceTable, printable_path
from vclimb.pipeline.sources.tree import scan_videos, stem_of

NAME = "hmdb51"
_SPLIT_FOLDERS = ("testTrainMulti_7030_splits", "splits")
_SPLIT_FILE = re.compile(r"(?P<name>.+)_test_split(?P<number>\d+)\.txt")
_LINE = re.compile(r"(?P<file>[^/\\]+\.\w+)\s+(?P<code>[012])")
_SPLIT_OF_CODE = {"0": None, "1": "train", "2": "test"}


def recognise(request: SourceRequest) -> str | None:
    """Recognise split files by their official names."""
    files = request.named_files(_SPLIT_FILE, _SPLIT_FOLDERS)
    return f"HMDB51 split files ({files[0][1].name}, ...)" if files else None


def read(request: SourceRequest) -> SourceTable:
    """Read the videos with the official split of the lowest number. The class is the name of the video's folder.

    The group is the source video: the part of the file name before the class. Keys are paths without suffix.
    """
    tree = scan_videos(request.source)
    builder = TableBuilder(NAME, request.source, tree)
    listed = _read_splits(request, builder)
    on_disk: set[tuple[str, str]] = set()
    unlisted: list[str] = []
    classless: list[str] = []
    for path, key in zip(tree.videos, keys_of_paths(tree.videos), strict=True):
        stem = stem_of(path)
        if "/" not in path:
            classless.append(path)
            continue
        label = printable_path(path.split("/")[-2])
        on_disk.add((label, stem))
        if listed and (label, stem) not in listed:
            unlisted.append(path)
        split = listed.get((label, stem), (None, ""))[0]
        builder.add(path, key, Instance(label, split), group=source_video(stem, label))
    for (label, stem), (_, name) in listed.items():
        if (label, stem) not in on_disk:
            builder.miss(f"{label}/{name}", "in the official split files, but not on disk")
    if not on_disk:
        raise SourceError(
            f"{len(classless):,} videos lie directly in {str(request.source)!r}; "
            f"the layout {NAME!r} is SOURCE/<class>/<video>"
        )
    builder.note_some(unlisted, "video", "in none of the split files, kept without split")
    builder.note_some(classless, "video", "outside of any class folder ignored")
    return builder.build()


def source_video(stem: str, label: str) -> str | None:
    """The recording that a clip was cut from: `April_09` of `April_09_brush_hair_u_nm_np1_ba_goo_0`."""
    end = stem.rfind(f"_{label}_")  # the last one, since the title of a recording may hold the class too
    return stem[:end] if end > 0 else None


def _read_splits(request: SourceRequest, builder: TableBuilder) -> dict[tuple[str, str], tuple[str | None, str]]:
    """Read split and file name for each listed (class, stem); empty if there are no split files."""
    _, files = official_split_files(request, builder, _SPLIT_FILE, _SPLIT_FOLDERS, "<class>_test_split1.txt")
    listed: dict[tuple[str, str], tuple[str | None, str]] = {}
    for label, file in files:
        for where, line in read_lines(file):
            if (match := _LINE.fullmatch(line)) is None:
                raise SourceError(f"{where}: {line[:80]!r} is not of the form name.avi 0|1|2 (unused, train, test)")
            listed[label, stem_of(match["file"])] = (_SPLIT_OF_CODE[match["code"]], match["file"])
    return listed


LAYOUT = Layout(NAME, "<class>_test_split1.txt files", recognise, read)
