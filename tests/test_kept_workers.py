"""Worker processes that are kept from one stream to the next."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from stream_cases import JpegsInMemory, provider_of, settings_of

from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.errors import FrameDamagedError
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.workers import kept_workers


def children() -> set[int]:
    """Ids of the worker processes of streams."""
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def clips(provider: ClipProvider, workers: int = 2, **changes: int) -> list[torch.Tensor]:
    with CpuClipStream(provider, settings_of(**changes), "cpu", workers) as stream:
        return [batch.frames for batch in stream]


def assert_equal(frames: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(frames) == len(expected)
    assert all(map(torch.equal, frames, expected))


def test_the_next_stream_reuses_the_processes_for_its_own_clips(jpeg_folder: Path, h264_folder: Path) -> None:
    before = children()
    with kept_workers():
        first = clips(provider_of(jpeg_folder))
        kept = children() - before
        assert len(kept) == 2
        other = clips(provider_of(h264_folder), seed=1)
        assert children() - before == kept
        fewer = clips(provider_of(jpeg_folder), workers=1)
        assert children() - before == kept
        more = clips(provider_of(jpeg_folder), workers=3)
        assert len(children() - before) == 3
    assert children() == before
    assert_equal(first, clips(provider_of(jpeg_folder), workers=0))
    assert_equal(other, clips(provider_of(h264_folder), workers=0, seed=1))
    assert_equal(fewer, first)
    assert_equal(more, first)


def test_two_streams_at_a_time_share_no_worker(jpeg_folder: Path) -> None:
    before, provider = children(), provider_of(jpeg_folder)
    with kept_workers():
        clips(provider)
        streams = [CpuClipStream(provider, settings_of(), "cpu", 2) for _ in range(2)]
        with streams[0] as first, streams[1] as second:
            iterators: list[Iterator[object]] = [iter(first), iter(second)]
            for iterator in iterators:
                next(iterator)
            assert len(children() - before) == 4
    assert children() == before


def test_workers_of_an_abandoned_epoch_can_be_reused(jpeg_folder: Path) -> None:
    provider = provider_of(jpeg_folder)
    with kept_workers():
        with CpuClipStream(provider, settings_of(batch_size=1), "cpu", 2) as stream:
            next(iter(stream))
        assert_equal(clips(provider), clips(provider, workers=0))


def test_an_error_in_one_stream_is_no_error_in_the_next(jpeg_folder: Path) -> None:
    with kept_workers():
        with pytest.raises(FrameDamagedError):
            clips(JpegsInMemory(damaged=1), batch_size=1)
        assert_equal(clips(provider_of(jpeg_folder)), clips(provider_of(jpeg_folder), workers=0))


def test_an_idle_worker_that_died_is_replaced(jpeg_folder: Path) -> None:
    before, provider = children(), provider_of(jpeg_folder)
    with kept_workers():
        clips(provider)
        for child in [child for child in multiprocessing.active_children() if child.pid not in before]:
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        assert_equal(clips(provider), clips(provider, workers=0))
    assert children() == before


def test_without_the_block_workers_end_with_their_stream(jpeg_folder: Path) -> None:
    before = children()
    clips(provider_of(jpeg_folder))
    assert children() == before
