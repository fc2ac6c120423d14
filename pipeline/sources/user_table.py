"""Layout `table`: a csv, tsv, jsonl or parquet file of the user, with a row for each instance."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import expect, parse_label, parse_range
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import is_key, keys_of_paths, make_key
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.listed_files import ListedFiles
from vclimb.pipeline.sources.rows import TABLE_SUFFIXES, peek_table_columns, read_rows
from vclimb.pipeline.sources.splits import parse_split
from vclimb.pipeline.sources.table import Instance, SourceTable

NAME = "table"
REQUIRED_COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("split", "group", "key", "t_start", "t_end")
_COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
_USUAL_STEM = "videos"
_USUAL_NAMES = ", ".join(f"{_USUAL_STEM}{suffix}" for suffix in TABLE_SUFFIXES)


@dataclass(frozen=True)
class _Row:
    where: str
    listed: str
    instance: Instance
    group: str | None
    key: str | None


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
        files = [file for file in files if file.suffix.lower() != ".csv" or _has_our_columns(file)]
    else:
        files = [file for file in files if file.stem.lower() == _USUAL_STEM]
    return f"a table ({', '.join(file.name for file in files)})" if files else None


def read(request: SourceRequest) -> SourceTable:
    """Read the videos that the table lists; rows with the same path are instances of one video.

    Columns: `path` (relative to the source folder, or to the table's folder if the table is the source), `label`, and
    optionally `split`, `group`, `key`, `t_start` and `t_end` (seconds). A valid key in the table is kept.

    Raises:
        SourceError: There is no table, or more than one; a column is missing; a row is malformed or contradicts
            another; a path leads outside; none of the files is on disk.
    """
    file, root = _locate(request)
    theirs = {ours: request.columns.get(ours, ours) for ours in _COLUMNS}
    columns, raw_rows = read_rows(file, set(theirs.values()))
    theirs = _choose_columns(file, columns, request.columns)
    files = ListedFiles(root, request.allow_outside)
    videos: dict[str, _Video] = {}
    for where, fields in raw_rows:
        row = _parse_row(where, {ours: fields.get(name) for ours, name in theirs.items()})
        path, problem = files.find(row.listed, row.where)
        video = videos.setdefault(path, _Video(row.where, problem, []))
        video.instances.append(row.instance)
        for name, value in (("group", row.group), ("key", row.key)):
            before = getattr(video, name)
            if before is not None and value is not None and before != value:
                raise SourceError(
                    f"{row.where}: {name} {value!r} of {row.listed!r} is not the {before!r} that its first row has "
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


def _has_our_columns(file: Path) -> bool:
    return set(REQUIRED_COLUMNS) <= set(peek_table_columns(file))


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
            near = difflib.get_close_matches(ours, _COLUMNS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SourceError(
                f"--columns {ours}={theirs}: {ours!r} is none of our columns ({', '.join(_COLUMNS)}){hint}"
            )
        if theirs not in columns:
            raise SourceError(f"{file}: --columns {ours}={theirs}: no column {theirs!r}; the columns are: {present}")
    chosen = {ours: renamed.get(ours, ours) for ours in _COLUMNS if renamed.get(ours, ours) in columns}
    for ours in REQUIRED_COLUMNS:
        if ours not in chosen:
            raise SourceError(
                f"{file}: no column {ours!r}; the columns are: {present}; name the one to use by --columns {ours}=NAME"
            )
    return chosen


def _parse_row(where: str, fields: Mapping[str, object]) -> _Row:
    listed = _text(fields["path"], where, "path", strip=False)
    if listed is None:
        raise SourceError(f"{where}: the path is empty")
    label = parse_label(_text(fields["label"], where, "label") or "", where)
    split = parse_split(_text(fields.get("split"), where, "split") or "", where)
    start, end = parse_range(fields.get("t_start"), fields.get("t_end"), where, ("t_start", "t_end"))
    group, key = (_text(fields.get(name), where, name) for name in ("group", "key"))
    return _Row(where, listed, Instance(label, split, start, end), group, key)


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
    made = keys_of_paths((path for path in videos if path not in given), taken=owners)
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
    return f"read {file.name}: {used}" + (f"; columns not used: {unused}" if unused else "")


LAYOUT = Layout(NAME, f"a table named {_USUAL_NAMES}", recognise, read)
