"""A memory made from a prepared data set in one step, as if all of its classes were one task's; no model is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.memory.choice.videos import VIDEO_CHOICES
from vclimb.memory.quality import WINDOW, Floats, psnr, ssim
from vclimb.memory.replay import ClassCandidates, MemorySettings, ReplayMemory, UpdateReport
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import INDEX_FILE
from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError, TargetError

TRAIN = "train"
EVERY_SPLIT = "all"


@dataclass(frozen=True)
class MemoryQuality:
    """What the frames of a memory have lost.

    Attributes:
        frames: that were compared with what was encoded, at the size that was stored.
        identical: of these, that have lost nothing.
        psnr_db: mean over the frames that differ; None where none does.
        worst_psnr_db: the lowest of them.
        ssim: mean over all frames; None where none is large enough to be measured.
        worst_ssim: the lowest of them.
    """

    frames: int
    identical: int
    psnr_db: float | None
    worst_psnr_db: float | None
    ssim: float | None
    worst_ssim: float | None


class Packing:
    """The instances of a data set that may become exemplars.

    Args:
        dataset: opened for reading.
        split: of the instances; None takes `train` where the data set has splits, `all` takes every one.

    Raises:
        SettingsError: the data set has no such split.

    Attributes:
        split: that was taken; None: all instances.
        provider: of the instances.
        classes: the candidates, by label id.
    """

    def __init__(self, dataset: StoredDataset, split: str | None = None) -> None:
        self.split = _split(dataset, split)
        chosen = [one for one in dataset.instances if self.split in (None, one.split)]
        # One instance may be in several splits.
        chosen = list({(one.label, one.key, one.start_frame, one.end_frame): one for one in chosen}.values())
        self.provider = InstanceProvider(dataset, chosen)
        self.classes = _candidates(dataset, chosen, self.provider)

    def pack(
        self, path: Path | str, settings: MemorySettings, on_exemplar: Callable[[], None] | None = None
    ) -> UpdateReport:
        """Make a memory. All of it is there in the end, or nothing.

        Args:
            path: where there is nothing yet, or an empty memory.
            settings: what to keep.
            on_exemplar: called whenever one is encoded.

        Raises:
            SettingsError: the settings ask for features, don't fit the data set, or the budget holds no memory.
            TargetError: there is a memory that isn't empty, or something else, or it can't be written.
        """
        if settings.needs_features:
            others = [name for name, make in VIDEO_CHOICES.items() if not make(0).needs_features]
            raise SettingsError(
                f"video choice {settings.video_choice!r} needs features, and packing trains no model that has any; "
                f"allowed: {', '.join(others)}"
            )
        if (Path(path) / INDEX_FILE).exists() and (n_there := len(MemoryStore.open(path))):
            raise TargetError(
                f"{path} holds a memory of {n_there} exemplars already; choose another place for this one, or remove "
                "that first"
            )
        return ReplayMemory(path, settings).update(
            self.provider, self.classes, [one.label for one in self.classes], on_exemplar
        )

    def quality(self, memory: MemoryStore, on_exemplar: Callable[[], None] | None = None) -> MemoryQuality:
        """Compare each kept frame of a memory, made from these instances, with what went into its codec.

        Raises:
            FrameDamagedError: a frame of the data set or the memory can't be read.
        """
        facts = self.provider.items
        keys = zip(facts.labels.tolist(), facts.keys.tolist(), self.provider.start_frames.tolist(), strict=True)
        lengths = facts.n_frames.tolist()
        item_of = {(*key, key[2] + length): item for item, (key, length) in enumerate(zip(keys, lengths, strict=True))}
        decibels, similarities = [np.empty(0)], [np.empty(0)]
        for label, stored in sorted(memory.classes.items()):
            codec = parse_codec(stored.encoding)
            for rank in range(stored.n_exemplars):
                exemplar, kept = _decoded(memory, label, rank)
                item = item_of[label, exemplar.key, exemplar.start_frame, exemplar.end_frame]
                source = source_frames(self.provider, item, exemplar.frames - exemplar.start_frame)
                reference = codec.reference(source)
                decibels.append(psnr(reference, kept))
                if min(exemplar.width, exemplar.height) >= WINDOW:
                    similarities.append(ssim(reference, kept))
                if on_exemplar is not None:
                    on_exemplar()
        return _summary(np.concatenate(decibels), np.concatenate(similarities))


def _split(dataset: StoredDataset, split: str | None) -> str | None:
    there = sorted({one.split for one in dataset.instances if one.split is not None})
    if split is None:
        split = TRAIN if there else EVERY_SPLIT
    if split == EVERY_SPLIT:
        return None
    if split not in there:
        allowed = f"{', '.join(there)} or {EVERY_SPLIT}" if there else f"{EVERY_SPLIT}, since it has no splits"
        raise SettingsError(f"split {split!r} is not one of {dataset.name}; allowed: {allowed}")
    return split


def _candidates(
    dataset: StoredDataset, chosen: list[StoredInstance], provider: InstanceProvider
) -> list[ClassCandidates]:
    labels = provider.items.labels
    classes = []
    for label in np.unique(labels).tolist():
        items = np.flatnonzero(labels == label)
        groups = [dataset.by_key[chosen[item].key].group for item in items.tolist()]
        classes.append(ClassCandidates(label, chosen[int(items[0])].label, items, groups))
    return classes


def _decoded(memory: MemoryStore, label: int, rank: int) -> tuple[Exemplar, Pixels]:
    exemplar, where = memory.exemplar(label, rank), memory.where(label, rank)
    return exemplar, decode_clip(exemplar.clip, exemplar.width, exemplar.height, lambda _: where)


def _summary(decibels: Floats, similarities: Floats) -> MemoryQuality:
    lossy = decibels[np.isfinite(decibels)]
    return MemoryQuality(
        frames=len(decibels),
        identical=len(decibels) - len(lossy),
        psnr_db=float(lossy.mean()) if len(lossy) else None,
        worst_psnr_db=float(lossy.min()) if len(lossy) else None,
        ssim=float(similarities.mean()) if len(similarities) else None,
        worst_ssim=float(similarities.min()) if len(similarities) else None,
    )
