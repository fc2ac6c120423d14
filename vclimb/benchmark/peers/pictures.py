"""A folder of JPEG files, read by simplejpeg and torchvision: the nearest peer from JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import simplejpeg

from vclimb.benchmark.peers.clips import PeerClips
from vclimb.pipeline.dataset.dataset import StoredDataset


def decode_jpegs(pieces: Sequence[bytes]) -> list[Any]:
    return [simplejpeg.decode_jpeg(piece) for piece in pieces]


def load_pictures(folder: Path, number: int, frames: list[int]) -> list[Any]:
    return decode_jpegs([(folder / f"{number:05d}" / f"{frame:05d}.jpg").read_bytes() for frame in frames])


def write_pictures(dataset: StoredDataset, clips: PeerClips, folder: Path) -> None:
    """Write the stored bytes of each frame to a file."""
    for number, video in enumerate(clips.videos):
        frames = folder / f"{number:05d}"
        frames.mkdir(parents=True, exist_ok=True)
        for frame in range(video.n_frames):
            (frames / f"{frame:05d}.jpg").write_bytes(dataset.frame_bytes(video, frame))
