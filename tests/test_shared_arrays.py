"""Worker processes map the large arrays of what they receive, and get the rest by pickle."""

from __future__ import annotations

import os
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
from stream_cases import provider_of

from vclimb.pipeline.clips.provider import ChosenItems
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.workers import BatchWorkers

N_ITEMS = 20_000


def report(reader: ClipReader, item: int) -> tuple[int, str, int, int, list[bytes]]:
    """What a worker has: its process, an item's key and number of frames, the writable arrays, and the item's bytes."""
    facts = reader.provider.items
    own_pages = facts.n_frames
    own_pages[item] += 1  # changes no other process
    clip = reader.provider.read(item, np.arange(2))
    return os.getpid(), str(facts.keys[item]), len(facts), int(own_pages[item]), list(clip.units)


def test_workers_read_the_items_of_a_large_provider_by_shared_arrays(jpeg_folder: Path) -> None:
    provider = provider_of(jpeg_folder)
    many = ChosenItems(provider, np.arange(N_ITEMS) % len(provider.items))
    reader = ClipReader(many, StreamSettings())
    assert len(ForkingPickler.dumps(reader)) < 10_000 < many.items.labels.nbytes
    wanted = [0, 1, N_ITEMS - 1]
    expected = many.items.n_frames[wanted].tolist()
    workers: BatchWorkers[int, tuple[int, str, int, int, list[bytes]]] = BatchWorkers(partial(report, reader), 2)
    try:
        answers = [*workers.run(iter(wanted))]
    finally:
        workers.close()
    assert os.getpid() not in {answer[0] for answer in answers}
    assert [answer[1:] for answer in answers] == [
        (str(many.items.keys[item]), N_ITEMS, n_frames + 1, list(many.read(item, np.arange(2)).units))
        for item, n_frames in zip(wanted, expected, strict=True)
    ]
    assert many.items.n_frames[wanted].tolist() == expected
