"""Providers of encoded frames: what a clip stream draws its items from.

An item is a labelled run of frames: an instance of a data set, or an exemplar of a replay memory. A provider
knows every item's facts as arrays and reads the encoded bytes of any of its frames; from there on, all items are
decoded alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.exemplar import SourceFrames
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.dataset.frame_index import VideoRows
from vclimb.pipeline.errors import SettingsError


@dataclass(frozen=True)
class Items:
    """Facts about all items of a provider, as arrays of one length.

    Attributes:
        keys: unicode, for people and for errors.
        labels: int64, label ids.
        n_frames: int64, frames that each item has.
        widths: int64, pixels of the stored frames.
        heights: int64, pixels of the stored frames.
    """

    keys: npt.NDArray[np.str_]
    labels: Indices
    n_frames: Indices
    widths: Indices
    heights: Indices

    def __post_init__(self) -> None:
        lengths = {len(self.keys), len(self.labels), len(self.n_frames), len(self.widths), len(self.heights)}
        if len(lengths) != 1:
            raise ValueError(f"items need arrays of one length, not of {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.keys)


class ClipProvider(Protocol):
    """Where items come from. Safe to use from several threads.

    Attributes:
        items: facts about every item.
    """

    items: Items

    def read(self, item: int, frames: Indices) -> EncodedClip:
        """The bytes of frames (T,) of an item, numbered within the item.

        Raises:
            FrameDamagedError: they are not what was stored; names key, shard and offset.
        """
        ...

    def where(self, item: int, frame: int) -> str:
        """Where a frame lies, for an error: key, file and byte offset."""
        ...


class InstanceProvider:
    """Instances of a prepared data set.

    Args:
        dataset: opened for reading.
        instances: which of them, in the order that gives them their numbers.
        label_ids: class name -> label id; a class that isn't there is an error.

    Attributes:
        start_frames: (n,) int64, where each instance begins within its video.
        codec: of the data set, `jpeg` or `h264`.

    Raises:
        SettingsError: there are no instances, or one has a class without an id.
    """

    def __init__(
        self, dataset: StoredDataset, instances: Sequence[StoredInstance], label_ids: Mapping[str, int] | None = None
    ) -> None:
        if not instances:
            raise SettingsError(f"no instances were chosen from {dataset.name}; it has {len(dataset.instances)}")
        ids = {label: n for n, label in enumerate(dataset.classes)} if label_ids is None else label_ids
        if unknown := {instance.label for instance in instances} - ids.keys():
            raise SettingsError(f"class {sorted(unknown)[0]!r} has no label id; {len(ids)} classes have")
        videos = [dataset.by_key[instance.key] for instance in instances]
        self.items = Items(
            keys=np.array([instance.key for instance in instances]),
            labels=np.array([ids[instance.label] for instance in instances], np.int64),
            n_frames=np.array([i.end_frame - i.start_frame for i in instances], np.int64),
            widths=np.array([video.width for video in videos], np.int64),
            heights=np.array([video.height for video in videos], np.int64),
        )
        self.codec = dataset.settings.codec
        self._index = dataset.frame_indices
        self._shards = np.array([video.shard for video in videos], np.int64)
        self._first_rows = np.array([video.first_frame for video in videos], np.int64)
        self.start_frames = np.array([instance.start_frame for instance in instances], np.int64)

    def read(self, item: int, frames: Indices) -> EncodedClip:
        return self._index.read_clip(self._rows(item), self.start_frames[item] + frames)

    def where(self, item: int, frame: int) -> str:
        return self._index.where(self._rows(item), int(self.start_frames[item]) + frame)

    def _rows(self, item: int) -> VideoRows:
        return VideoRows(str(self.items.keys[item]), self.codec, int(self._shards[item]), int(self._first_rows[item]))


class JoinedProviders:
    """Several providers as one, such as new data and a replay memory: their items follow one another."""

    def __init__(self, providers: Sequence[ClipProvider]) -> None:
        if not providers:
            raise SettingsError("no providers of clips were given")
        self._providers = tuple(providers)
        self._starts = np.cumsum([0, *(len(provider.items) for provider in providers)])
        parts = [provider.items for provider in providers]
        self.items = Items(
            keys=np.concatenate([part.keys for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            n_frames=np.concatenate([part.n_frames for part in parts]),
            widths=np.concatenate([part.widths for part in parts]),
            heights=np.concatenate([part.heights for part in parts]),
        )

    def _of(self, item: int) -> tuple[ClipProvider, int]:
        number = int(np.searchsorted(self._starts, item, side="right")) - 1
        return self._providers[number], item - int(self._starts[number])

    def read(self, item: int, frames: Indices) -> EncodedClip:
        provider, own = self._of(item)
        return provider.read(own, frames)

    def where(self, item: int, frame: int) -> str:
        provider, own = self._of(item)
        return provider.where(own, frame)


def source_frames(provider: ClipProvider, item: int, frames: Indices) -> SourceFrames:
    """Read frames (K,) of a provider's item, numbered within the item, to be encoded as an exemplar.

    Raises:
        FrameDamagedError: The bytes are not the ones that were stored.
    """
    clip, facts = provider.read(item, frames), provider.items
    width, height = int(facts.widths[item]), int(facts.heights[item])
    return SourceFrames(clip, width, height, lambda place: provider.where(item, int(frames[place])))
