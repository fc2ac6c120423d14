"""Exemplars as a provider of encoded frames: replay and new data go through one clip stream."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vclimb.memory.store.errors import ExemplarDamagedError, MemoryEmptyError
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import Items
from vclimb.pipeline.codecs.encoded import EncodedClip

log = logging.getLogger(__name__)


class ExemplarProvider:
    """All exemplars of a memory, by label id and rank. An item's frames are the kept frames, numbered from 0.

    No file is held open and nothing is cached between reads. The provider can be sent to processes, which then read the
    same generation of the memory; an exemplar that a writer has dropped meanwhile ends in a `MemoryChangedError`.
    A class whose table can't be read is left out, with a warning. Streams decide what to do where frames are damaged.

    Attributes:
        items: Keys, labels and sizes of all exemplars.
        codecs: (n,) codec of each exemplar's frames, as `EncodedClip` names it.
        damaged: Reasons why classes were left out.

    Raises:
        MemoryEmptyError: there are no exemplars that can be read.
    """

    def __init__(self, memory: MemoryStore) -> None:
        self.memory = memory
        self.damaged: list[str] = []
        labels = []
        for label in sorted(memory.classes):
            try:
                memory.table(label)
            except ExemplarDamagedError as error:
                self.damaged.append(str(error))
                log.warning("class left out of replay: %s", error)
            else:
                labels.append(label)
        if without := [label for label in labels if not memory.classes[label].frames.files]:
            raise MemoryEmptyError(
                f"{memory.path} has no frames to replay: class {memory.classes[without[0]].name!r} keeps features in "
                "their place; read them with `rows`"
            )
        if not labels:
            reason = "none of its classes can be read" if self.damaged else "it is empty"
            raise MemoryEmptyError(f"{memory.path} has no exemplars to replay: {reason}")
        tables = [memory.table(label) for label in labels]
        counts = [len(table) for table in tables]
        self._ranks = np.concatenate([np.arange(count) for count in counts])
        self.codecs: npt.NDArray[np.str_] = np.repeat([memory.classes[label].codec for label in labels], counts)
        self.items = Items(
            keys=np.array([key for table in tables for key in table.keys]),
            labels=np.repeat(np.array(labels, np.int64), counts),
            n_frames=np.concatenate([table.n_frames for table in tables]),
            widths=np.concatenate([table.rows["width"] for table in tables]).astype(np.int64),
            heights=np.concatenate([table.rows["height"] for table in tables]).astype(np.int64),
            shards=np.full(sum(counts), -1),
        )

    def read(self, item: int, frames: Indices) -> EncodedClip:
        """Read frames (T,) of an exemplar: of pictures only the units of these frames, of a video its one unit.

        Raises:
            ExemplarDamagedError: the stored bytes are damaged; the message names rank, key, class and file.
            MemoryChangedError: the exemplar was dropped since the memory was opened.
        """
        clip = self.memory.encoded(int(self.items.labels[item]), int(self._ranks[item])).clip
        wanted, unit = np.unique(clip.unit[frames], return_inverse=True)
        units = [clip.units[number] for number in wanted.tolist()]
        return EncodedClip(clip.codec, units, unit.astype(np.int64), clip.position[frames])

    def where(self, item: int, frame: int) -> str:
        return f"frame {frame} of {self.memory.where(int(self.items.labels[item]), int(self._ranks[item]))}"

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        """Do nothing: a memory lies on a disk of this machine, in no shards."""
