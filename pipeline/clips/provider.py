"""Providers of encoded frames, from which clip streams read.

An item is a labelled sequence of frames: an instance of a data set, or an exemplar of a replay memory. A provider holds
the properties of all items as arrays, and reads the encoded bytes of any of their frames. All items are decoded by the
same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.exemplar import SourceFrames
from vclimb.pipeline.dataset.columns import StoredInstances
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.dataset.frame_index import VideoRows
from vclimb.pipeline.errors import SettingsError


@dataclass(frozen=True)
class Items:
    """Properties of a provider's n items.

    Attributes:
        keys: (n,) unicode names, for people and error messages.
        labels: (n,) label ids.
        n_frames: (n,) numbers of frames.
        widths: (n,) widths of the stored frames in pixels.
        heights: (n,) heights of the stored frames in pixels.
        shards: (n,) numbers of the shards that items lie in; -1: in none.
    """

    keys: npt.NDArray[np.str_]
    labels: Indices
    n_frames: Indices
    widths: Indices
    heights: Indices
    shards: Indices

    def __len__(self) -> int:
        return len(self.keys)


class ClipProvider(Protocol):
    """The interface of providers, which are safe to use from several threads.

    Attributes:
        items: Properties of all items.
    """

    items: Items

    def read(self, item: int, frames: Indices) -> EncodedClip:
        """Read the bytes of frames (T,) of an item, numbered within the item.

        Raises:
            FrameDamagedError: The bytes are not the ones that were stored; names key, file and offset.
        """
        ...

    def where(self, item: int, frame: int) -> str:
        """Describe where a frame is stored, for an error message: key, file and byte offset."""
        ...

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        """Prepare for reading items of shards, in order, without waiting for it."""
        ...


class InstanceProvider:
    """Instances of a prepared data set.

    Args:
        instances: Instances, in the order of their item numbers.
        label_ids: Class name -> label id. None: the position of the class in alphabetical order.

    Attributes:
        start_frames: (n,) first frame of each instance within its video.

    Raises:
        SettingsError: There are no instances, or the class of an instance has no label id.
    """

    def __init__(
        self, dataset: StoredDataset, instances: Sequence[StoredInstance], label_ids: Mapping[str, int] | None = None
    ) -> None:
        if not instances:
            raise SettingsError(f"no instances were chosen from {dataset.name}, which has {len(dataset.instances)}")
        ids = {label: n for n, label in enumerate(dataset.classes)} if label_ids is None else label_ids
        stored = StoredInstances.of(instances, dataset.videos)
        codes, labels = stored.codes("label")
        if unknown := stored.labels() - ids.keys():
            raise SettingsError(f"class {sorted(unknown)[0]!r} has no label id; {len(ids)} classes have")
        self.start_frames: Indices = stored.numbers("start_frame")
        self.items = Items(
            keys=np.array(stored.keys().to_pylist()),
            labels=np.array([ids.get(label, -1) for label in labels], np.int64)[codes],
            n_frames=stored.numbers("end_frame") - self.start_frames,
            widths=stored.of_video("width").astype(np.int64),
            heights=stored.of_video("height").astype(np.int64),
            shards=stored.of_video("shard").astype(np.int64),
        )
        self.codec = dataset.settings.codec
        self._index = dataset.frame_indices
        self._first_rows = stored.of_video("first_frame")

    def read(self, item: int, frames: Indices) -> EncodedClip:
        return self._index.read_clip(self._rows(item), self.start_frames[item] + frames)

    def where(self, item: int, frame: int) -> str:
        return self._index.where(self._rows(item), int(self.start_frames[item]) + frame)

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        self._index.fetch_ahead(shards)

    def _rows(self, item: int) -> VideoRows:
        shard, first = int(self.items.shards[item]), int(self._first_rows[item])
        return VideoRows(str(self.items.keys[item]), self.codec, shard, first)


class ConcatProvider:
    """The items of several providers one after another, such as new data and a replay memory."""

    def __init__(self, providers: Sequence[ClipProvider]) -> None:
        if not providers:
            raise SettingsError("no providers of clips were given")
        self._providers = tuple(providers)
        self._starts = np.cumsum([0, *(len(provider.items) for provider in providers)])
        parts = [provider.items for provider in providers]
        self.items = Items(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Items)}
        )

    def _locate(self, item: int) -> tuple[ClipProvider, int]:
        number = int(np.searchsorted(self._starts, item, side="right")) - 1
        return self._providers[number], item - int(self._starts[number])

    def read(self, item: int, frames: Indices) -> EncodedClip:
        provider, number = self._locate(item)
        return provider.read(number, frames)

    def where(self, item: int, frame: int) -> str:
        provider, number = self._locate(item)
        return provider.where(number, frame)

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        for provider in self._providers:
            provider.fetch_ahead(shards)


class ChosenItems:
    """Some items of a provider, in a given order, renumbered from 0."""

    def __init__(self, provider: ClipProvider, chosen: Indices) -> None:
        self._provider = provider
        self._chosen = chosen
        self.items = Items(**{name: values[chosen] for name, values in vars(provider.items).items()})

    def read(self, item: int, frames: Indices) -> EncodedClip:
        return self._provider.read(int(self._chosen[item]), frames)

    def where(self, item: int, frame: int) -> str:
        return self._provider.where(int(self._chosen[item]), frame)

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        self._provider.fetch_ahead(shards)


def source_frames(provider: ClipProvider, item: int, frames: Indices) -> SourceFrames:
    """Read frames (K,) of a provider's item, numbered within the item, to be encoded as an exemplar.

    Raises:
        FrameDamagedError: The bytes are not the ones that were stored.
    """
    clip, facts = provider.read(item, frames), provider.items
    width, height = int(facts.widths[item]), int(facts.heights[item])
    return SourceFrames(clip, width, height, lambda place: provider.where(item, int(frames[place])))
