"""Tars of webdataset, a video a sample: its JPEG files joined, and where each ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import webdataset

from vclimb.benchmark.peers.clips import PeerClips, transformed
from vclimb.benchmark.peers.pictures import decode_jpegs
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.dataset.dataset import StoredDataset

_VIDEOS_A_TAR = 20


def joined_frames(dataset: StoredDataset, clips: PeerClips) -> Iterator[tuple[int, bytes, Indices]]:
    """Yield each video: its number, its joined JPEG files, and where each ends."""
    for number, video in enumerate(clips.videos):
        pieces = [dataset.frame_bytes(video, frame) for frame in range(video.n_frames)]
        yield number, b"".join(pieces), np.cumsum([len(piece) for piece in pieces]).astype(np.int64)


def cut(joined: bytes, ends: npt.NDArray[np.int64], frames: list[int]) -> list[bytes]:
    """Cut frames out of a video's joined JPEG files."""
    return [joined[(int(ends[frame - 1]) if frame else 0) : int(ends[frame])] for frame in frames]


def write_tars(dataset: StoredDataset, clips: PeerClips, folder: Path) -> None:
    """Write the stored bytes of the videos to tars."""
    folder.mkdir(parents=True, exist_ok=True)
    maximum = max(1, min(_VIDEOS_A_TAR, len(clips.videos) // 4))  # some tars for each worker
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=maximum, verbose=0) as writer:
        for number, joined, ends in joined_frames(dataset, clips):
            writer.write({"__key__": f"{number:05d}", "jpegs": joined, "ends": ends.tobytes()})


def tar_batches(folder: Path, clips: PeerClips, workers: int) -> Iterator[Any]:
    """Iterate over batches; webdataset chooses the order of the videos."""
    drawn, size = clips.drawn(), clips.size

    def sample(row: dict[str, Any]) -> Any:
        clip = drawn[int(row["__key__"])]
        pieces = cut(row["jpegs"], np.frombuffer(row["ends"], np.int64), clip.frames)
        return (transformed(decode_jpegs(pieces), clip, size),)  # a tuple, whose values are made batches

    tars = sorted(map(str, folder.glob("*.tar")))
    rows = webdataset.WebDataset(tars, shardshuffle=len(tars), empty_check=False, nodesplitter=None)
    rows = rows.repeat().shuffle(64).map(sample).batched(clips.settings.batch_size)
    return (batch for (batch,) in webdataset.WebLoader(rows, batch_size=None, num_workers=workers))
