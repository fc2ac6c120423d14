"""Layout `activitynet`: ActivityNet v1.3, whose segments are instances of untrimmed videos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import (
    expect,
    parse_label,
    parse_seconds,
    parse_video_id,
    peek_has,
    read_json,
)
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import make_key
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import parse_split
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.sources.tree import count, scan_videos, some_of

NAME = "activitynet"
_JSON_FOLDER = "annotations"


def recognise(request: SourceRequest) -> str | None:
    """Recognise a json file with the object "database"."""
    files = _find_json_files(request)
    return f'ActivityNet annotations ({files[0].name}, with "database")' if files else None


def read(request: SourceRequest) -> SourceTable:
    """Read the segments that the json lists. Files `v_<id>.*` or `<id>.*` are found in any folder.

    Keys are `v_<id>`, and groups are the ids. A segment that ends after its video is kept. An empty segment, as the
    real set has some, is left out with a note.
    """
    file = _the_json_file(request)
    database = _read_database(file)
    tree = scan_videos(request.source)
    files = tree.by_stem()
    builder = TableBuilder(NAME, request.source, tree)
    unlabelled: dict[str, int] = {}
    empty: list[str] = []
    for video_id, entry in database.items():
        where = f"{file}: video {video_id!r}"
        name = f"v_{parse_video_id(video_id, where, 'the id')}"
        entry = expect(entry, dict, where, "its entry")
        subset = expect(entry.get("subset"), str, where, "subset")
        split = parse_split(subset, where)
        segments = expect(entry.get("annotations", []), list, where, "annotations")
        if not segments:
            unlabelled[subset] = unlabelled.get(subset, 0) + 1
            continue
        instances = [_instance(segment, split, where) for segment in segments]
        usable = [instance for instance in instances if instance is not None]
        empty += [video_id] * (len(instances) - len(usable))
        path = files.get(name, files.get(video_id))
        if path is None:
            builder.miss(name, f"listed in {file.name}, but not on disk")
        elif not usable:
            builder.miss(path, "each of its segments ends before it starts")
        else:
            for instance in usable:
                builder.add(path, make_key(name), instance, group=video_id)
    builder.require_found(str(file))
    for subset, number in unlabelled.items():
        builder.notes.append(f"{count(number, 'video')} of the subset {subset!r} without annotations left out")
    if empty:
        builder.notes.append(
            f"{count(len(empty), 'segment')} left out, since the end is not after the start: "
            f"{some_of(dict.fromkeys(empty))}"
        )
    known = {name for video_id in database for name in (f"v_{video_id}", video_id)}
    tree.further += [files[video_id] for video_id in database if video_id in files and f"v_{video_id}" in files]
    builder.note_some([path for stem, path in files.items() if stem not in known], "video", "not in the json ignored")
    return builder.build()


def _find_json_files(request: SourceRequest) -> list[Path]:
    return [file for file in request.annotation_files((".json",), (_JSON_FOLDER,)) if peek_has(file, b'"database"')]


def _the_json_file(request: SourceRequest) -> Path:
    named = [file for file in request.annotations if os.path.isfile(file)]
    files = named or _find_json_files(request)
    if len(files) != 1:
        there = f"found {len(files)}: {', '.join(file.name for file in files)}" if files else "found none"
        raise SourceError(
            f"one ActivityNet json (activity_net.v1-3.min.json) is needed in {request.places((_JSON_FOLDER,))}; "
            f"{there}; give it by --annotations"
        )
    return files[0]


def _read_database(file: Path) -> dict[str, Any]:
    content = read_json(file, dict)
    if "database" not in content:
        raise SourceError(f'{file}: no "database" in it, so it is not the json of ActivityNet')
    return expect(content["database"], dict, str(file), '"database"')


def _instance(segment: object, split: str | None, where: str) -> Instance | None:
    """The instance of a segment, cut at the start of the video; None if the segment is empty."""
    fields = expect(segment, dict, where, "an annotation")
    label = parse_label(fields.get("label"), where)
    times = expect(fields.get("segment"), list, where, "segment")
    if len(times) != 2:
        raise SourceError(f"{where}: segment {times!r} must be two times in seconds")
    start, end = (parse_seconds(time, where, "a time of segment") for time in times)
    if start is None or end is None:
        raise SourceError(f"{where}: segment {times!r} must be two times in seconds")
    start = max(start, 0.0)
    return Instance(label, split, start, end) if start < end else None


LAYOUT = Layout(NAME, 'a json file with "database" (activity_net.v1-3.min.json)', recognise, read)
