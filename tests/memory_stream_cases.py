"""Memories of exemplars made from tiny videos, and streams of their clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory_store_cases import update
from stream_cases import settings_of

from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ClipProvider, InstanceProvider, source_frames
from vclimb.pipeline.clips.sampling import segment_centres
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.dali import DaliClipStream
from vclimb.pipeline.stream.dali_pipeline import DaliSettings

CODECS = ("copy", "jpeg:75", "webp:75", "avif:60", "jxl:1", "h264:20", "h265:24", "av1:35", "raw")


def keep(path: Path, shards: InstanceProvider, codecs: dict[int, str], n_frames: int | None = 8) -> MemoryStore:
    """Make a memory of all of a provider's items, with some or all frames of each: label id -> codec."""
    facts, classes = shards.items, []
    for label, spec in codecs.items():
        exemplars = []
        for item in np.flatnonzero(facts.labels == label).tolist():
            n = int(facts.n_frames[item])
            frames = np.arange(n) if n_frames is None else np.unique(segment_centres(np.array(n), n_frames))
            encoded = parse_codec(spec).encode(source_frames(shards, item, frames))
            exemplars.append(Exemplar(str(facts.keys[item]), 0, n, frames, encoded.clip, encoded.width, encoded.height))
        classes.append(NewClass(label, f"class{label}", spec, exemplars))
    with MemoryWriter.open(path) as writer:
        return update(writer, classes)


def mixed_memory(path: Path, shards: InstanceProvider) -> MemoryStore:
    """Make a memory of 12 exemplars: 4 JPEG, 4 WebP of another size, and 4 H.264."""
    return keep(path, shards, {0: "copy", 1: "webp:75@40", 2: "h264:20"})


def cpu(provider: ClipProvider, settings: StreamSettings, workers: int = 0) -> CpuClipStream:
    return CpuClipStream(provider, settings, workers=workers)


def dali(provider: ClipProvider, settings: StreamSettings, readers: int = 0) -> DaliClipStream:
    return DaliClipStream(provider, settings, "cpu", DaliSettings(threads=1, readers=readers))


Open = Callable[[ClipProvider, StreamSettings, int], ClipStream]


def epoch(open_stream: Open, provider: ClipProvider, processes: int = 0, **changes: Any) -> list[ClipBatch]:
    with open_stream(provider, settings_of(**changes), processes) as stream:
        return list(stream)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


class Counting(ExemplarProvider):
    """Counts how often each exemplar is read."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.reads: Counter[int] = Counter()

    def read(self, item: int, frames: Indices) -> EncodedClip:
        self.reads[item] += 1
        return super().read(item, frames)
