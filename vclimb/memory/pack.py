"""A memory made from a prepared data set in one step, as if all classes were in one task; no model is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import parse_frame_count
from vclimb.memory.choice.videos import VIDEO_CHOICES
from vclimb.memory.class_encoder import ClassInstances
from vclimb.memory.quality import WINDOW, Floats, psnr, ssim
from vclimb.memory.replay import ReplayMemory
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import INDEX_FILE
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError, TargetError
from vclimb.settings import from_table

TRAIN = "train"
EVERY_SPLIT = "all"


@dataclass(frozen=True)
class MemoryQuality:
    """What the frames of a memory have lost, compared with what was encoded, at the size that is stored.

    Attributes:
        frames: Number of frames compared.
        identical: Number of frames that have lost nothing.
        psnr_db: Mean PSNR of the frames that differ, in dB; None where none does.
        worst_psnr_db: Lowest PSNR, in dB.
        ssim: Mean SSIM of all frames; None where none is large enough to be measured.
        worst_ssim: Lowest SSIM.
    """

    frames: int
    identical: int
    psnr_db: float | None
    worst_psnr_db: float | None
    ssim: float | None
    worst_ssim: float | None

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class PackSummary:
    """What packing did.

    Attributes:
        dataset: Folder or URL of the data set.
        split: Split of the instances; None: all instances.
        settings: Settings of the memory.
        candidates: Number of instances to choose from.
        candidate_classes: Number of classes of these instances.
        added: Number of exemplars packed.
        skipped: Reasons why instances were passed over: their frames are damaged.
        seconds: Wall time.
        quality: What the kept frames have lost; None where it was not measured.
    """

    dataset: str
    split: str | None
    settings: MemorySettings
    candidates: int
    candidate_classes: int
    added: int
    skipped: tuple[str, ...]
    seconds: float
    quality: MemoryQuality | None

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            **dict(self.settings),
            "budget": str(self.settings.budget),
            "candidates": self.candidates,
            "classes_of_candidates": self.candidate_classes,
            "passed_over": list(self.skipped),
            "seconds": self.seconds,
        }


def pack_dataset(
    data: StoredDataset | Path | str,
    out: Path,
    budget: str,
    settings: Mapping[str, Any],
    split: str | None,
    measures_quality: bool,
    bar: Progress,
) -> PackSummary:
    """Pack a memory; see `vclimb.pack`.

    Args:
        settings: Settings of the memory besides its budget, as `vclimb.pack` takes them.
        bar: Progress bar that counts exemplars.
    """
    task = bar.add_task("opening", total=None, note="")
    frames = parse_frame_count(str(settings["frames"]))
    table = {**settings, "budget": MemoryBudget.parse(budget), "frames": frames}
    memory_settings = from_table(MemorySettings, table)
    _check_video_choice(memory_settings)
    dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
    split = _split(dataset, split)
    instances = [instance for instance in dataset.instances if split in (None, instance.split)]
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
    bar.update(task, description="encoding", total=_most_exemplars(memory_settings.budget, len(instances)))
    labels = [one_class.label for one_class in classes]
    update = ReplayMemory(out, memory_settings).update(provider, classes, labels, lambda: bar.advance(task))
    quality = None
    if measures_quality:
        bar.update(task, description="comparing", completed=0, total=update.usage.videos)
        quality = _measure_quality(MemoryStore.open(out), provider, lambda: bar.advance(task))
    return PackSummary(
        dataset=str(dataset.folder),
        split=split,
        settings=memory_settings,
        candidates=len(instances),
        candidate_classes=len(classes),
        added=update.added,
        skipped=tuple(update.skipped),
        seconds=update.seconds,
        quality=quality,
    )


def _check_video_choice(settings: MemorySettings) -> None:
    if settings.needs_features:
        others = [name for name, make in VIDEO_CHOICES.items() if not make(0).needs_features]
        raise SettingsError(
            f"video choice {settings.video_choice!r} needs features, and packing trains no model that has any; "
            f"allowed: {', '.join(others)}"
        )


def _split(dataset: StoredDataset, split: str | None) -> str | None:
    splits = sorted({instance.split for instance in dataset.instances if instance.split is not None})
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
    classes = []
    for label in np.unique(labels).tolist():
        items = np.flatnonzero(labels == label)
        groups = [dataset.by_key[instances[item].key].group for item in items.tolist()]
        classes.append(ClassInstances(label, instances[int(items[0])].label, items, groups))
    return classes


def _most_exemplars(budget: MemoryBudget, n_candidates: int) -> int | None:
    """Limit the number of exemplars, as far as it is known before they are encoded."""
    most = {"videos": budget.amount, "all": n_candidates, "none": 0}.get(budget.kind)
    return None if most is None else min(most, n_candidates)


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
    return _quality(np.concatenate(decibels), np.concatenate(similarities))


def _constant(place: str) -> Callable[[int], str]:
    return lambda frame: place


def _quality(decibels: Floats, similarities: Floats) -> MemoryQuality:
    lossy = decibels[np.isfinite(decibels)]
    return MemoryQuality(
        frames=len(decibels),
        identical=len(decibels) - len(lossy),
        psnr_db=float(lossy.mean()) if len(lossy) else None,
        worst_psnr_db=float(lossy.min()) if len(lossy) else None,
        ssim=float(similarities.mean()) if len(similarities) else None,
        worst_ssim=float(similarities.min()) if len(similarities) else None,
    )
