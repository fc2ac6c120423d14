"""A memory made from a prepared data set in one step, as if all classes were in one task; no model is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.progress import Progress

from vclimb.memory.api import Memory, check_picture
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import parse_frame_count
from vclimb.memory.choice.videos import VIDEO_CHOICES
from vclimb.memory.class_encoder import ClassInstances
from vclimb.memory.pack_summary import MemoryQuality, PackSummary
from vclimb.memory.quality import WINDOW, psnr, ssim
from vclimb.memory.replay import ReplayMemory
from vclimb.memory.settings import AUTO, MemorySettings
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import INDEX_FILE
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.columns import StoredInstances
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError, TargetError
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.progress import progress_bar
from vclimb.settings import from_table

TRAIN = "train"
EVERY_SPLIT = "all"


def pack(
    data: StoredDataset | Path | str,
    out: Path | str,
    *,
    budget: str,
    frames: int | str = 8,
    codec: str = AUTO,
    frame_choice: str = "uniform",
    video_choice: str = "random",
    rebalance: bool | None = None,
    seed: int = 0,
    split: str | None = None,
    quality: bool = False,
    sheet: Path | str | None = None,
    progress: bool | None = None,
) -> Memory:
    """Pack a memory from a prepared data set, all classes at once and without training.

        memory = vclimb.pack("shards/ucf101", "m.zarr", budget="64MB", codec="h264:24", quality=True)
        memory.bytes_on_disk, memory.packed.quality.psnr_db

    What is stopped half way leaves an empty memory.

    Args:
        data: A prepared data set, or its folder or URL.
        out: The memory to make: a new path, or an empty memory.
        budget: `2020v` (videos), `16160f` (frames), `64MB` (bytes on disk), `none` or `all`.
        frames: Number of frames kept of each video, or `all`.
        codec: Encoding of the frames: `copy`, `raw`, or a family with a number, such as `jpeg:75` or `h264:24@128`.
            `auto`: one that fits the data set, `copy` for JPEG and `h264:24` for H.264.
        frame_choice: Rule that chooses the frames of a video.
        video_choice: Rule that ranks the videos of a class; only rules that need no features.
        rebalance: Whether classes that can't use their share of the budget give it to others; None: where the budget is
            in bytes.
        seed: Seed of the rules that draw.
        split: Split of the instances, or `all`; None: `train` where the data set has splits.
        quality: Whether PSNR and SSIM of the kept frames are measured against what was encoded.
        sheet: PNG file to draw the memory in, as `Memory.sheet` does.
        progress: Whether a progress bar is shown; None: where stderr is a terminal or in Jupyter.

    Returns:
        the memory, whose `packed` says what was done.

    Raises:
        SettingsError: a setting is unknown, needs features, or doesn't fit the data set; or the budget is too small
            for an empty memory.
        TargetError: `out` holds a memory that isn't empty, or something else, or can't be written.
        DatasetError: there is no such data set.
    """
    out = local_path(out)
    if sheet is not None:
        check_picture(local_path(sheet), out)
    table = {
        "budget": MemoryBudget.parse(budget),
        "frames": parse_frame_count(str(frames)),
        "frame_choice": frame_choice,
        "video_choice": video_choice,
        "codec": codec,
        "rebalance": rebalance,
        "seed": seed,
    }
    settings = from_table(MemorySettings, table)
    if settings.needs_features and not settings.keeps_features:
        others = [name for name, make in VIDEO_CHOICES.items() if not make(0).needs_features]
        raise SettingsError(
            f"video choice {settings.video_choice!r} needs features, and packing trains no model that has any; "
            f"allowed: {', '.join(others)}"
        )
    with progress_bar("exemplars", progress) as bar:
        summary = _pack(data, out, settings, split, quality, bar)
        memory = Memory.open(out)
        memory.packed = summary
        if sheet is not None:
            memory.sheet_summary = memory.sheet(sheet)
    return memory


def _pack(
    data: StoredDataset | Path | str,
    out: Path,
    settings: MemorySettings,
    split: str | None,
    measures_quality: bool,
    bar: Progress,
) -> PackSummary:
    task = bar.add_task("opening", total=None, note="")
    dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
    settings = settings.fitting(dataset.settings.codec)
    split = _split(dataset, split)
    instances = [*(dataset.instances if split is None else dataset.instances.in_split(split))]
    # One instance may be in several splits.
    distinct = {(one.label, one.key, one.start_frame, one.end_frame): one for one in instances}
    instances = list(distinct.values())
    provider = InstanceProvider(dataset, instances)
    classes = _classes(dataset, instances, provider)
    if (out / INDEX_FILE).exists() and (n_exemplars := len(MemoryStore.open(out))):
        raise TargetError(
            f"{out} holds a memory of {n_exemplars} exemplars already; choose another place for this one, or remove "
            "that first"
        )
    # Limit of the number of exemplars, as far as it is known before they are encoded.
    most = {"videos": min(settings.budget.amount, len(instances)), "all": len(instances), "none": 0}
    bar.update(task, description="encoding", total=most.get(settings.budget.kind))
    labels = [one_class.label for one_class in classes]
    update = ReplayMemory(out, settings).update(provider, classes, labels, lambda: bar.advance(task))
    quality = None
    if measures_quality:
        bar.update(task, description="comparing", completed=0, total=update.usage.videos)
        quality = _measure_quality(MemoryStore.open(out), provider, lambda: bar.advance(task))
    return PackSummary(
        dataset=str(dataset.storage),
        split=split,
        settings=settings,
        candidates=len(instances),
        candidate_classes=len(classes),
        added=update.added,
        skipped=tuple(update.skipped),
        seconds=update.seconds,
        quality=quality,
    )


def _split(dataset: StoredDataset, split: str | None) -> str | None:
    splits = sorted(split for split in dataset.instances.splits() if split is not None)
    if split is None:
        split = TRAIN if splits else EVERY_SPLIT
    if split == EVERY_SPLIT:
        return None
    if split not in splits:
        allowed = f"{', '.join(splits)} or {EVERY_SPLIT}" if splits else f"{EVERY_SPLIT}, since it has no splits"
        raise SettingsError(f"split {split!r} is not one of {dataset.name}; allowed: {allowed}")
    return split


def _classes(
    dataset: StoredDataset, instances: list[StoredInstance], provider: InstanceProvider
) -> list[ClassInstances]:
    labels = provider.items.labels
    stored = StoredInstances.of(instances, dataset.videos)
    groups_of_all = np.array(dataset.videos.groups_of(stored.numbers("video")), object)
    classes = []
    for label in np.unique(labels).tolist():
        items = np.flatnonzero(labels == label)
        groups = groups_of_all[items].tolist()
        classes.append(ClassInstances(label, instances[int(items[0])].label, items, groups))
    return classes


def _measure_quality(memory: MemoryStore, provider: InstanceProvider, on_exemplar: Callable[[], None]) -> MemoryQuality:
    """Compare each kept frame of a memory that was made from a provider's items with what its codec was given.

    Raises:
        FrameDamagedError: a frame of the data set or the memory can't be read.
    """
    items = provider.items
    starts, lengths = provider.start_frames.tolist(), items.n_frames.tolist()
    instances = zip(items.labels.tolist(), items.keys.tolist(), starts, lengths, strict=True)
    item_numbers = {(label, key, start, start + n): item for item, (label, key, start, n) in enumerate(instances)}
    decibels, similarities = [np.empty(0)], [np.empty(0)]
    for label, stored in sorted(memory.classes.items()):
        codec = parse_codec(stored.encoding)
        for rank in range(stored.n_exemplars):
            exemplar, place = memory.exemplar(label, rank), memory.where(label, rank)
            kept = decode_clip(exemplar.clip, exemplar.width, exemplar.height, _constant(place))
            item = item_numbers[label, exemplar.key, exemplar.start_frame, exemplar.end_frame]
            source = source_frames(provider, item, exemplar.frames - exemplar.start_frame)
            reference = codec.reference(source)
            decibels.append(psnr(reference, kept))
            if min(exemplar.width, exemplar.height) >= WINDOW:
                similarities.append(ssim(reference, kept))
            on_exemplar()
    all_decibels = np.concatenate(decibels)
    lossy, measured = all_decibels[np.isfinite(all_decibels)], np.concatenate(similarities)
    return MemoryQuality(
        frames=len(all_decibels),
        identical=len(all_decibels) - len(lossy),
        psnr_db=float(lossy.mean()) if len(lossy) else None,
        worst_psnr_db=float(lossy.min()) if len(lossy) else None,
        ssim=float(measured.mean()) if len(measured) else None,
        worst_ssim=float(measured.min()) if len(measured) else None,
    )


def _constant(place: str) -> Callable[[int], str]:
    return lambda frame: place
