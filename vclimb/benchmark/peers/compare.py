"""Clips a second of the CPU stream beside those of the peers that are installed, on a data set's own bytes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vclimb.benchmark.peers.clips import PeerClips
from vclimb.benchmark.peers.registry import PEERS, Peer
from vclimb.benchmark.throughput import endless
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.rows import StoredInstance
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.progress import progress_bar

OURS = "vclimb"
_ROUNDS = 3
_MOST_VIDEOS = 200
_MOST_BYTES = 2**28
_BATCH_CLIPS = 16


@dataclass(frozen=True)
class PeersReport:
    """Result of a call of `vclimb.bench_peers`.

    Attributes:
        dataset: Name of the data set.
        codec: Codec of the stored frames.
        n_videos: Number of videos that were compared on.
        n_workers: Number of worker processes of each loader.
        batch_clips: Number of clips in a batch.
        clip_frames: Number of frames in a clip.
        size_pixels: Side of the square frames in pixels.
        figure_seconds: Time for each figure in seconds, over all rounds.
        rates: Clips a second of each round, by loader; `vclimb` is the CPU stream.
        failed: Error messages by peer.
        skipped: Reasons, by peer, why this machine excludes it.
    """

    dataset: str
    codec: str
    n_videos: int
    n_workers: int
    batch_clips: int
    clip_frames: int
    size_pixels: int
    figure_seconds: float
    rates: dict[str, list[float]]
    failed: dict[str, str]
    skipped: dict[str, str]

    def clips_per_second(self, loader: str) -> float:
        """Median over the rounds."""
        return statistics.median(self.rates[loader])

    def ratio(self, loader: str) -> float:
        """Median, over the rounds, of the rate of vclimb divided by that of a loader."""
        return statistics.median(a / b for a, b in zip(self.rates[OURS], self.rates[loader], strict=True))

    def to_json(self) -> dict[str, Any]:
        """All fields and the medians as JSON values."""
        medians = {name: self.clips_per_second(name) for name in self.rates}
        return {**asdict(self), "clips_per_second": medians, "ratios": {name: self.ratio(name) for name in self.rates}}


def bench_peers(
    data: StoredDataset | Path | str,
    *,
    clip_frames: int = 8,
    size: int = 224,
    batch_size: int | None = None,
    workers: int | None = None,
    seconds: float = 5.0,
    progress: bool | None = None,
) -> PeersReport:
    """Measure the CPU stream beside the loaders that users would pick, where they are installed.

    All load the same clips (frames, crops, flips) from the same stored bytes, in alternating rounds. Up to 200 videos
    of together up to 256 MiB are written for the peers to a temporary folder, which is removed.

    Args:
        data: Prepared data set, or its folder or URL.
        clip_frames: Number of frames in a clip, T.
        size: Side of the square frames in pixels.
        batch_size: Number of clips in a batch. None: 16.
        workers: Number of worker processes of each loader. None: one for each core.
        seconds: Time for each loader in seconds, spread over three rounds of at least one batch.
        progress: Whether to show a progress bar on stderr. None: where stderr is a terminal or in Jupyter.

    Raises:
        DatasetError: There is no data set, or a clip doesn't decode.
        SettingsError: A setting is out of range.
    """
    if not 0 < seconds <= 3600:
        raise SettingsError(f"seconds {seconds:g} is out of range; allowed: above 0, up to 3600")
    n_workers = available_cores() if workers is None else workers
    settings = StreamSettings(
        _BATCH_CLIPS if batch_size is None else batch_size,
        (View(n_frames=clip_frames),),
        Augmentation(size),
        drop_last=True,
        across_epochs=True,
    )
    dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
    clips = clips_of(dataset, settings)
    peers = {name: peer for name, peer in PEERS.items() if peer.codec == dataset.settings.codec}
    skipped = {name: reason for name, peer in peers.items() if (reason := peer.lacking()) is not None}
    usable = {name: peer for name, peer in peers.items() if name not in skipped}
    rates: dict[str, list[float]] = {OURS: []}
    failed: dict[str, str] = {}
    with progress_bar("figures", progress) as bar, tempfile.TemporaryDirectory(prefix="vclimb-peers-") as folder:
        task = bar.add_task("writing files", total=_ROUNDS * (1 + len(usable)), note="")
        for files, peer in {peer.files: peer for peer in usable.values()}.items():
            peer.write(dataset, clips, Path(folder) / files)
        for _ in range(_ROUNDS):
            bar.update(task, description=OURS)
            with clips.stream(n_workers) as stream:
                rates[OURS].append(_rate(endless(stream), settings.batch_size, seconds / _ROUNDS))
            bar.advance(task)
            for name, peer in usable.items():
                bar.update(task, description=name)
                if name not in failed:
                    try:
                        rate = _peer_rate(peer, Path(folder), clips, n_workers, seconds / _ROUNDS)
                        rates.setdefault(name, []).append(rate)
                    except Exception as error:  # any error is shown, and the other peers are measured
                        failed[name] = " ".join(f"{type(error).__name__}: {error}".split())[:400]
                        rates.pop(name, None)
                bar.advance(task)
    return PeersReport(
        dataset=dataset.name,
        codec=dataset.settings.codec,
        n_videos=len({video.key for video in clips.videos}),
        n_workers=n_workers,
        batch_clips=settings.batch_size,
        clip_frames=clip_frames,
        size_pixels=size,
        figure_seconds=seconds,
        rates=rates,
        failed=failed,
        skipped=skipped,
    )


def clips_of(dataset: StoredDataset, settings: StreamSettings) -> PeerClips:
    """Choose instances from the whole data set, whose videos are few and small enough to be written once more."""
    step = max(1, len(dataset.instances) // _MOST_VIDEOS)
    n_bytes, chosen = 0, list[StoredInstance]()
    for instance in islice(dataset.instances, 0, None, step):
        n_bytes += dataset.by_key[instance.key].bytes
        if chosen and n_bytes > _MOST_BYTES:
            break
        chosen.append(instance)
    copies = -(-settings.batch_size // max(1, len(chosen)))  # a small data set fills a batch too
    return PeerClips.of(dataset, InstanceProvider(dataset, chosen * copies), settings)


def _peer_rate(peer: Peer, folder: Path, clips: PeerClips, workers: int, seconds: float) -> float:
    return _rate(peer.batches(folder / peer.files, clips, workers), clips.settings.batch_size, seconds)


def _rate(batches: Iterator[object], batch_clips: int, seconds: float) -> float:
    """Measure clips a second after the first batch, which starts the workers, over a batch at least."""
    next(batches)
    start, n_batches, spent = time.perf_counter(), 0, 0.0
    while n_batches == 0 or spent < seconds:
        next(batches)
        n_batches, spent = n_batches + 1, time.perf_counter() - start
    return n_batches * batch_clips / spent
