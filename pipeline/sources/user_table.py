"""Layout `table`: a csv, tsv, jsonl or parquet file of the user, with a row for each instance."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import (
    TABLE_SUFFIXES,
    expect,
    parse_label,
    parse_range,
    peek_table_columns,
    read_rows,
)
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.csv_file import DELIMITERS, peek_dialect
from vclimb.pipeline.sources.keys import is_key, keys_of_paths, make_key
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import parse_split
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.suggestion import suggestion

NAME = "table"
REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("split", "group", "key", "t_start", "t_end")
_COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
_USUAL_STEM = "videos"
_DELIMITERS_SHOWN = " ".join(map(repr, DELIMITERS))
_USUAL_NAMES = ", ".join(f"{_USUAL_STEM}{suffix}" for suffix in TABLE_SUFFIXES)


@dataclass
class _Video:
    """The merged rows of one path."""

    first_row: str
    problem: str | None
    instances: list[Instance]
    group: str | None = None
    key: str | None = None


def recognise(request: SourceRequest) -> str | None:
    """Recognise a table that is the source, has the usual name, or is named by the user and has our columns."""
    if request.columns:
        return "column names for a table"
    if os.path.isfile(request.source) and not request.annotations:
        return f"a table ({request.source.name})" if request.source.suffix.lower() in TABLE_SUFFIXES else None
    files = request.annotation_files(TABLE_SUFFIXES)
    if request.annotations:
        ours = set(REQUIRED_COLUMNS)
        files = [
            file
            for file in files
            if file.suffix.lower() != ".csv" or ours <= {name.casefold() for name in peek_table_columns(file)}
        ]
    else:
        files = [file for file in files if file.stem.lower() == _USUAL_STEM]
    return f"a table ({', '.join(file.name for file in files)})" if files else None


def read(request: SourceRequest) -> SourceTable:
    """Read the videos that the table lists; rows with the same path are instances of one video.

    Columns: `path` (relative to the source folder, or to the table's folder if the table is the source), `label`, and
    optionally `split`, `group`, `key`, `t_start` and `t_end` (seconds). A valid key in the table is kept. Rows that are
    malformed or contradict another, and paths that lead outside, are errors.
    """
    file, root = _locate(request)
    theirs = {ours: request.columns.get(ours, ours) for ours in _COLUMNS}
    columns, raw_rows = read_rows(file, set(theirs.values()))
    theirs = _choose_columns(file, columns, request.columns)
    files = ListedFiles(root, request.allow_outside)
    videos: dict[str, _Video] = {}
    for where, fields in raw_rows:
        row = {ours: fields.get(name) for ours, name in theirs.items()}
        listed, instance = _parse_row(where, row)
        path, problem = files.find(listed, where)
        video = videos.setdefault(path, _Video(where, problem, []))
        video.instances.append(instance)
        for name in ("group", "key"):
            value = _text(row.get(name), where, name)
            before = getattr(video, name)
            if before is not None and value is not None and before != value:
                raise SourceError(
                    f"{where}: {name} {value!r} of {listed!r} is not the {before!r} that its first row has "
                    f"({video.first_row}); all rows of a path must agree"
                )
            setattr(video, name, value if before is None else before)

    builder = TableBuilder(NAME, root)
    builder.notes.append(_note_on_columns(file, theirs, columns))
    keys = _assign_keys(videos, builder)
    for path, video in videos.items():
        if video.problem is not None:
            builder.miss(path, video.problem)
            continue
        for instance in video.instances:
            builder.add(path, keys[path], instance, group=video.group)
    builder.require_found(str(file))
    return builder.build()


def _locate(request: SourceRequest) -> tuple[Path, Path]:
    """The table and the folder that its paths are relative to."""
    if not os.path.isdir(request.source):
        request.refuse_annotations(NAME)
        return request.source, request.source.parent
    named = [file for file in request.annotations if os.path.isfile(file)]
    there = request.annotation_files(TABLE_SUFFIXES)
    files = named or [file for file in there if file.stem.lower() == _USUAL_STEM]
    if len(files) == 1:
        return files[0], request.source
    if files:
        names = ", ".join(str(file) for file in files)
        raise SourceError(f"{len(files)} tables are there ({names}); give one of them by --annotations")
    others = f"; of other names: {', '.join(file.name for file in there)}" if there else ""
    raise SourceError(f"no table ({_USUAL_NAMES}) in {request.places()}{others}; give it by --annotations")


def _choose_columns(file: Path, columns: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Map each of our columns that the table has to the table's column."""
    present = ", ".join(columns)
    for ours, theirs in renamed.items():
        if ours not in _COLUMNS:
            hint = suggestion(ours, _COLUMNS)
            raise SourceError(f"--columns {ours}={theirs}: {ours!r} is none of our columns; {hint}")
        if theirs not in columns:
            raise SourceError(f"{file}: --columns {ours}={theirs}: no column {theirs!r}; the columns are: {present}")
    chosen = {}
    for ours in _COLUMNS:
        alike = [name for name in columns if name.casefold() == ours]
        if ours in renamed or ours in columns:
            chosen[ours] = renamed.get(ours, ours)
        elif len(alike) == 1:
            chosen[ours] = alike[0]
    for ours in REQUIRED_COLUMNS:
        if ours not in chosen:
            raise SourceError(
                f"{file}: no column {ours!r}; the columns are: {present}; name the one to use by --columns {ours}=NAME"
                + (f" (columns may be separated by {_DELIMITERS_SHOWN})" if len(columns) == 1 else "")
            )
    return chosen


def _parse_row(where: str, fields: Mapping[str, object]) -> tuple[str, Instance]:
    listed = _text(fields["path"], where, "path", strip=False)
    if listed is None:
        raise SourceError(f"{where}: the path is empty")
    label = parse_label(_text(fields["label"], where, "label") or "", where)
    split = parse_split(_text(fields.get("split"), where, "split") or "", where)
    start, end = parse_range(fields.get("t_start"), fields.get("t_end"), where, ("t_start", "t_end"))
    return listed, Instance(label, split, start, end)


def _text(value: object, where: str, name: str, strip: bool = True) -> str | None:
    """A field as text; None where it is empty. Whole numbers count as text, since classes may be numbered."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = "" if value is None else expect(value, str, where, name)
    return (text.strip() if strip else text) or None


def _assign_keys(videos: Mapping[str, _Video], builder: TableBuilder) -> dict[str, str]:
    """A key for each path: the key in the table, or a key made from the path."""
    given: dict[str, str] = {}
    owners: dict[str, str] = {}
    changed: list[str] = []
    for path, video in videos.items():
        if video.key is None:
            continue
        key = video.key if is_key(video.key) else make_key(video.key)
        if key != video.key:
            changed.append(f"{video.key!r} became {key}")
        if key in owners:
            raise SourceError(
                f"{video.first_row}: key {video.key!r} of {path!r} is that of {owners[key]!r} too "
                f"({videos[owners[key]].first_row}); keys must differ"
            )
        given[path] = key
        owners[key] = path
    builder.note_some(changed, "key", "holding characters that no key can have, or too many")
    without = [path for path in videos if path not in given]
    made = dict(zip(without, keys_of_paths(without, taken=owners), strict=True))
    for path, key in made.items():
        if key in owners:
            raise SourceError(
                f"{videos[owners[key]].first_row}: key {key!r} of {owners[key]!r} is the one that {path!r} gets by "
                f"its name ({videos[path].first_row}); give the latter a key too"
            )
    return given | made


def _note_on_columns(file: Path, chosen: Mapping[str, str], columns: Sequence[str]) -> str:
    used = ", ".join(ours if ours == theirs else f"{ours}={theirs}" for ours, theirs in chosen.items())
    unused = ", ".join(name for name in columns if name not in chosen.values())
    name = file.name
    if file.suffix.lower() == ".csv" and (delimiter := peek_dialect(file)[0]) != ",":
        name += f" (columns separated by {delimiter!r})"
    return f"read {name}: {used}" + (f"; columns not used: {unused}" if unused else "")


class ListedFiles:
    """Finder of the files of a table.

    `root` is the absolute folder that relative paths start from, without symbolic links in its path. Paths may leave
    it only with `allow_outside`.
    """

    def __init__(self, root: Path, allow_outside: bool) -> None:
        self._root = str(root)
        self._prefix = self._root.rstrip("/") + "/"
        self._allow_outside = allow_outside
        self._real_folders: dict[str, str] = {}  # a table names few folders and many files

    def find(self, listed: str, where: str) -> tuple[str, str | None]:
        """Find the file listed at `where` (file and row of the table).

        Returns:
            The file's path, relative to the root if it lies there, and the reason why it can't be used, or None.

        Raises:
            SourceError: The path leads outside the root: it is absolute, has `..`, or passes a link.
        """
        if "\0" in listed:
            raise SourceError(f"{where}: path {listed!r} holds a zero byte")
        absolute = os.path.normpath(os.path.join(self._root, listed))
        folder, name = os.path.split(absolute)
        try:
            mode = os.lstat(absolute).st_mode
            problem = None
        except OSError as error:
            mode = 0
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            problem = "listed, but not on disk" if gone else f"listed, but {error.strerror}"
        if (real_folder := self._real_folders.get(folder)) is None:
            real_folder = self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(absolute) if stat.S_ISLNK(mode) else os.path.join(real_folder, name)
        if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(real)):
            problem = "listed, but it is a folder"
        if not self._is_inside(real) and not self._allow_outside:
            reached = "" if real == absolute else f" (it leads to {real!r})"
            raise SourceError(
                f"{where}: path {listed!r} lies outside of {self._root!r}{reached}; "
                "if that is meant, allow it by --allow-outside"
            )
        for path in (absolute, os.path.join(real_folder, name)):  # the second where the root was named through a link
            if self._is_inside(path):
                return path[len(self._prefix) :] or ".", problem
        return os.path.normpath(listed), problem

    def _is_inside(self, path: str) -> bool:
        return path == self._root or path.startswith(self._prefix)


LAYOUT = Layout(NAME, f"a table named {_USUAL_NAMES}", recognise, read)
