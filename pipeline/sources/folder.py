"""Layout `folder`: a folder for each class, with or without folders for the splits above them."""

from __future__ import annotations

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import keys_of_paths
from vclimb.pipeline.sources.layout import Layout, SourceRequest
from vclimb.pipeline.sources.splits import split_named
from vclimb.pipeline.sources.table import Instance, SourceTable, printable_path
from vclimb.pipeline.sources.tree import first_video, folders_in, scan_videos, some_of

NAME = "folder"
_TREE = "SOURCE/<class>/<video> or SOURCE/{train,val,test}/<class>/<video>"


def recognise(request: SourceRequest) -> str | None:
    """Recognise a folder with a video below it."""
    if request.annotations:
        return None
    first = next((name for name in folders_in(request.source) if first_video(request.source, name)), None)
    return None if first is None else f"class folders with videos ({printable_path(first)}/, ...)"


def read(request: SourceRequest) -> SourceTable:
    """Read every video below a class folder; the folder's name is the label.

    The first level of folders are splits if each of them that holds videos is named like a split.
    """
    request.refuse_annotations(NAME)
    tree = scan_videos(request.source)
    tops = sorted({path.partition("/")[0] for path in tree.videos if "/" in path})
    has_splits = bool(tops) and all(split_named(top) for top in tops)
    class_level = 1 if has_splits else 0
    labelled = [path for path in tree.videos if path.count("/") > class_level]
    classless = [path for path in tree.videos if path.count("/") <= class_level]
    if not labelled:
        raise SourceError(
            f"{len(classless):,} videos in {str(request.source)!r} lie in no class folder ({some_of(classless)}); "
            f"the layout {NAME!r} is {_TREE}; for labels that stand in a file, use --layout table"
        )

    builder = TableBuilder(NAME, request.source, tree)
    instances: dict[str, Instance] = {}
    for path, key in zip(labelled, keys_of_paths(labelled), strict=True):
        folder = path.rsplit("/", path.count("/") - class_level)[0]
        if (instance := instances.get(folder)) is None:
            top, _, label = folder.rpartition("/")
            instance = instances[folder] = Instance(printable_path(label), split_named(top) if has_splits else None)
        builder.add(path, key, instance)
    classes = {instance.label for instance in instances.values()}

    if has_splits:
        builder.notes.append(f"read {', '.join(f'{top}/' for top in tops)} as splits")
    elif mistakable := [top for top in tops if split_named(top)]:
        builder.notes.append(
            f"read {', '.join(f'{top}/' for top in mistakable)} as a class, as not all folders are splits"
        )
    builder.note_some(classless, "video", "outside of any class folder ignored")
    if len(classes) == 1:
        subfolders = {path.split("/")[class_level + 1] for path in labelled if path.count("/") > class_level + 1}
        if len(subfolders) > 1:
            builder.notes.append(
                f"all videos are of one class, {min(classes)!r}; if its {len(subfolders)} subfolders are the classes, "
                "give that folder as the source"
            )
    return builder.build()


LAYOUT = Layout(NAME, f"class folders that hold videos: {_TREE}", recognise, read)
