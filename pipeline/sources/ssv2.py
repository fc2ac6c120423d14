"""Layout `ssv2`: Something-Something v2 with its json files."""

from __future__ import annotations

import re
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.annotations import expect, parse_label, parse_video_id, peek_has, read_json
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import make_key
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import split_named
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.sources.tree import count, scan_videos

NAME = "ssv2"
_JSON_FOLDERS = ("labels", "annotations")
_FILE_NAME = re.compile(r"(?:something-something-v2-)?(labels|train|validation|val|test)\.json")
_LABELS = "labels"


def recognise(request: SourceRequest) -> str | None:
    """Recognise a train or validation json whose items have templates."""
    for part, file in _find_json_files(request):
        if part in ("train", "val") and peek_has(file, b'"template"'):
            return f"Something-Something v2 annotations ({file.name})"
    return None


def read(request: SourceRequest) -> SourceTable:
    """Read the videos `<id>.webm` (or of another suffix), in any folder. Keys are the ids.

    The class is the template without its brackets: `Putting something onto something`.
    """
    json_files: dict[str, Path] = {}
    for part, file in _find_json_files(request):
        if part in json_files:
            raise SourceError(f"both {json_files[part]} and {file} are there; give one of them by --annotations")
        json_files[part] = file
    request.refuse_unused_annotations(
        list(json_files.values()), "labels.json, train.json, validation.json or test.json"
    )
    if not {"train", "val"} & json_files.keys():
        raise SourceError(
            f"no train.json or validation.json (or something-something-v2-train.json, ...) in "
            f"{request.places(_JSON_FOLDERS)}; give them by --annotations"
        )
    tree = scan_videos(request.source)
    files = tree.by_stem()
    templates = None
    if _LABELS in json_files:
        templates = {class_of_template(template) for template in read_json(json_files[_LABELS], dict)}
    builder = TableBuilder(NAME, request.source, tree)
    listed: dict[str, str] = {}
    unlabelled = 0
    for part in ("train", "val", "test"):
        if part not in json_files:
            continue
        file = json_files[part]
        for number, item in enumerate(read_json(file, list)):
            where = f"{file} item {number + 1}"
            fields = expect(item, dict, where, "an item")
            video_id = parse_video_id(fields.get("id"), where, "the id")
            if video_id in listed:
                raise SourceError(f"{where}: id {video_id!r} stands in {listed[video_id]} too")
            listed[video_id] = file.name
            if part == "test" and "template" not in fields:
                unlabelled += 1
                continue
            label = class_of_template(parse_label(fields.get("template"), where))
            if templates is not None and label not in templates:
                raise SourceError(f"{where}: template {label!r} is not in {json_files[_LABELS].name}")
            if video_id in files:
                builder.add(files[video_id], make_key(video_id), Instance(label, part))
            else:
                builder.miss(video_id, f"listed in {file.name}, but not on disk")
    builder.require_found(", ".join(file.name for file in json_files.values()))
    if unlabelled:
        builder.notes.append(f"{count(unlabelled, 'video')} of {json_files['test'].name} left out for want of labels")
    unlisted = [path for stem, path in files.items() if stem not in listed]
    builder.note_some(unlisted, "video", "in none of the json files ignored")
    return builder.build()


def class_of_template(template: str) -> str:
    """`Putting something onto something` of `Putting [something] onto [something]`."""
    return template.replace("[", "").replace("]", "")


def _find_json_files(request: SourceRequest) -> list[tuple[str, Path]]:
    """The json files, each with its part: `labels`, `train`, `val` or `test`."""
    files = request.named_files(_FILE_NAME, _JSON_FOLDERS)
    return [(split_named(match[1]) or _LABELS, file) for match, file in files]


LAYOUT = Layout(NAME, "train.json and validation.json of Something-Something v2", recognise, read)
