"""Layout `kinetics`: Kinetics-400/600/700 as common downloaders store it, with the official csv files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import (
    parse_label,
    parse_range,
    parse_video_id,
)
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.csv_file import peek_columns, read_csv
from vclimb.pipeline.sources.keys import make_key
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import parse_split, split_in_file_name
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.sources.tree import scan_videos, stem_of

NAME = "kinetics"
_CSV_FOLDER = "annotations"
_COLUMNS = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class _Clip:
    youtube_id: str
    start_seconds: float
    end_seconds: float
    label: str
    split: str | None

    def trimmed_stems(self) -> tuple[str, ...]:
        """File names, without suffix, that downloaders give to the clip when they cut it out."""
        start, end = self.start_seconds, self.end_seconds
        if not (start.is_integer() and end.is_integer()):
            return (f"{self.youtube_id}_{start:g}_{end:g}",)
        padded = f"{self.youtube_id}_{int(start):06d}_{int(end):06d}"
        return (padded, f"{self.youtube_id}_{int(start)}_{int(end)}")


def recognise(request: SourceRequest) -> str | None:
    """Recognise a csv file with a column youtube_id."""
    files = _find_csv_files(request)
    return f"a csv of Kinetics ({files[0].name}, with the column youtube_id)" if files else None


def read(request: SourceRequest) -> SourceTable:
    """Read the clips that the csv files list and that are on disk.

    A file whose name holds the times is the clip. A file named by its id alone is the whole video, and the instance is
    a segment of it. Files are found by name, in any folder. Keys are file stems; the group is the id.
    """
    csv_files = _find_csv_files(request)
    request.refuse_unused_annotations(csv_files, f"csv files with the columns {', '.join(_COLUMNS)} and label")
    if not csv_files:
        raise SourceError(
            f"no csv with the columns {', '.join(_COLUMNS)} and label in {request.places((_CSV_FOLDER,))}; "
            "give the official csv files by --annotations"
        )
    tree = scan_videos(request.source)
    files = tree.by_stem()
    builder = TableBuilder(NAME, request.source, tree)
    builder.notes.append(f"read the clips that {', '.join(file.name for file in csv_files)} list")
    without_split = 0
    used: set[str] = set()
    for file in csv_files:
        for clip in _read_clips(file):
            without_split += clip.split is None
            stems = clip.trimmed_stems()
            path = next((files[stem] for stem in stems if stem in files), None)
            instance = Instance(clip.label, clip.split)
            if path is None and (path := files.get(clip.youtube_id)) is not None:
                instance = Instance(clip.label, clip.split, clip.start_seconds, clip.end_seconds)
            if path is None:
                builder.miss(stems[0], f"listed in {file.name}, but not on disk")
            else:
                used.add(path)
                builder.add(path, make_key(stem_of(path)), instance, group=clip.youtube_id)
    builder.require_found(", ".join(file.name for file in csv_files))
    if without_split:
        builder.notes.append(
            f"{without_split:,} clips without split: neither a column 'split' nor the name of their csv tells it"
        )
    unlisted = [path for path in files.values() if path not in used]
    builder.note_some(unlisted, "video", "in none of the csv files ignored")
    return builder.build()


def _find_csv_files(request: SourceRequest) -> list[Path]:
    files = request.annotation_files((".csv",), (_CSV_FOLDER,))
    return [file for file in files if "youtube_id" in peek_columns(file)]


def _read_clips(file: Path) -> Iterator[_Clip]:
    columns, rows = read_csv(file)
    if absent := [name for name in _COLUMNS if name not in columns]:
        raise SourceError(f"{file}: no column {', '.join(absent)}; the columns are: {', '.join(columns)}")
    if "label" not in columns:
        raise SourceError(
            f"{file}: no column label (the columns are: {', '.join(columns)}); the test sets of Kinetics have no "
            "labels: name only the csv files that do, by --annotations"
        )
    split_of_file = split_in_file_name(file.stem)
    for number, row in rows:
        where = f"{file} row {number}"
        start, end = parse_range(row["time_start"], row["time_end"], where, ("time_start", "time_end"))
        if start is None or end is None:
            raise SourceError(f"{where}: time_start or time_end is empty")
        split = parse_split(row["split"], where) if "split" in columns else None
        yield _Clip(
            parse_video_id(row["youtube_id"], where, "youtube_id"),
            start,
            end,
            parse_label(row["label"], where),
            split or split_of_file,
        )


LAYOUT = Layout(NAME, f"csv files with the columns label, {', '.join(_COLUMNS)}", recognise, read)
