"""The peers of the CPU stream by name: what each reads, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from vclimb.benchmark.peers.clips import Load, PeerClips, file_batches
from vclimb.benchmark.peers.pictures import load_pictures, write_pictures
from vclimb.benchmark.peers.videos import load_decord, load_opencv, load_pyav, load_torchcodec, write_videos
from vclimb.benchmark.peers.webdataset_tars import tar_batches, write_tars
from vclimb.pipeline.dataset.dataset import StoredDataset


@dataclass(frozen=True)
class Peer:
    """A loader that users would pick.

    Attributes:
        codec: Codec of the data sets that the peer reads a copy of.
        module: Module that the peer needs.
        files: Name of the files that the peer reads; peers with the same files share them.
        write: Writes the files into a folder.
        batches: Iterates over batches of clips from a folder, by a number of worker processes.
    """

    codec: str
    module: str
    files: str
    write: Callable[[StoredDataset, PeerClips, Path], None]
    batches: Callable[[Path, PeerClips, int], Iterator[Any]]

    def lacking(self) -> str | None:
        """Say why the peer can't be used here, on one line; None where it can."""
        try:
            import_module(self.module)
        except (ImportError, OSError, RuntimeError) as error:  # the last two where a library lacks another one
            return " ".join(str(error).split())[:150]
        return None


def _from_files(load: Load) -> Callable[[Path, PeerClips, int], Iterator[Any]]:
    return partial(_file_batches, load)


def _file_batches(load: Load, folder: Path, clips: PeerClips, workers: int) -> Iterator[Any]:
    return file_batches(folder, clips, load, workers)


PEERS: dict[str, Peer] = {
    "folder": Peer("jpeg", "simplejpeg", "pictures", write_pictures, _from_files(load_pictures)),
    "webdataset": Peer("jpeg", "webdataset", "tars", write_tars, tar_batches),
    "torchcodec": Peer("h264", "torchcodec.decoders", "videos", write_videos, _from_files(load_torchcodec)),
    "pyav": Peer("h264", "av", "videos", write_videos, _from_files(load_pyav)),
    "opencv": Peer("h264", "cv2", "videos", write_videos, _from_files(load_opencv)),
    "decord": Peer("h264", "decord", "videos", write_videos, _from_files(load_decord)),
}
