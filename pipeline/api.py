"""The public calls of the pipeline: `vclimb.prepare`, `vclimb.open`, `vclimb.verify` and `vclimb.Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vclimb.pipeline.dataset.contact_sheet import write_contact_sheet
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.settings import CODECS, EncodeSettings, parse_rate
from vclimb.pipeline.dataset.statistics import DatasetStatistics, dataset_statistics
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import parse_size
from vclimb.pipeline.sources import AUTO, read_source
from vclimb.pipeline.sources.remote import open_remote
from vclimb.pipeline.system.cores import require_workers
from vclimb.pipeline.system.paths import is_url, local_path
from vclimb.pipeline.transcode.bucket_target import BucketTarget
from vclimb.pipeline.transcode.executors.executor import EXECUTORS, Executor
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg, require_encoder
from vclimb.pipeline.transcode.prepare import PrepareOptions, PrepareRun
from vclimb.pipeline.transcode.progress import PrepareProgress
from vclimb.pipeline.transcode.summary import PrepareSummary
from vclimb.pipeline.transcode.verify import VerifyReport, verify

if TYPE_CHECKING:
    import torch

    from vclimb.pipeline.stream.clip_stream import ClipStream

__all__ = ["Dataset", "DatasetStatistics", "PrepareSummary", "VerifyReport", "open", "prepare", "verify"]


class Dataset(StoredDataset):
    """A prepared data set, opened for reading.

    Attributes:
        summary: Result of the `vclimb.prepare` call that returned this data set; None where it was only opened.
    """

    summary: PrepareSummary | None = None

    def verify(self, *, decode: bool = False, workers: int | None = None, progress: bool | None = None) -> VerifyReport:
        """Check this data set's files; see `vclimb.verify`."""
        return verify(str(self.storage), decode=decode, workers=workers, progress=progress)

    def statistics(self) -> DatasetStatistics:
        """Compute counts, durations, frame rates and sizes from the catalog."""
        return dataset_statistics(self)

    def stream(
        self,
        split: str | None,
        *,
        batch_size: int = 32,
        size: int = 112,
        clip_frames: int = 8,
        seed: int = 0,
        epoch: int = 0,
        training: bool | None = None,
        device: torch.device | str | None = None,
        decoder: str = "auto",
        workers: int | None = None,
    ) -> ClipStream:
        """Stream batches of decoded clips, one clip for each instance and epoch.

            for batch in data.stream("train", batch_size=32, size=112):
                batch.frames, batch.labels  # (32, 8, 3, 112, 112) uint8 and (32,) int64

        Each loop over the stream is one epoch; another loop over the same stream is the next epoch. The worker
        processes end with each loop, also where the loop is left early or by an error.

        Args:
            split: Split of the instances, such as `train`; None: all instances.
            batch_size: Number of clips in a batch; an epoch's last batch may be smaller.
            size: Side of the square frames in pixels.
            clip_frames: Number of frames in a clip.
            seed: Seed that fixes order, frames, crops and flips.
            epoch: Number of the first epoch.
            training: Whether clips are shuffled, cropped, flipped and sampled at random. False: the frames at the
                centres of equal segments, and a centre crop. None: where the split is `train`.
            device: Device of the batches. None: a GPU where torch sees one, else `cpu`.
            decoder: `cpu`, `dali`, or `auto` for the faster one on this machine.
            workers: Number of worker processes; 0 decodes in this process. None: as many as the cores allow.

        Raises:
            SettingsError: The split has no instances, or a setting is out of range.
            FrameDamagedError: In the loop: a frame doesn't decode.
        """
        from vclimb.pipeline.stream.split import stream_split  # loads torch, which opening a data set does not need

        return stream_split(
            self,
            split,
            batch_size=batch_size,
            size=size,
            clip_frames=clip_frames,
            seed=seed,
            epoch=epoch,
            training=split == "train" if training is None else training,
            device=device,
            decoder=decoder,
            workers=workers,
        )

    def contact_sheet(self, path: Path | str, *, columns: int = 8) -> None:
        """Draw a PNG with a row for each class: the middle frames of some of its videos.

        Args:
            path: PNG file to write.
            columns: Number of videos in a row.

        Raises:
            SettingsError: The path can't be written as a PNG, or `columns` is out of range.
            FrameDamagedError: A frame of the sheet doesn't decode.
        """
        write_contact_sheet(self, local_path(path), columns)


def open(folder: Path | str) -> Dataset:
    """Open a prepared data set.

    Args:
        folder: Folder that `vclimb.prepare` made, or a URL that fsspec reads (`s3://`, `gs://`, `memory://`, ...).

    Raises:
        DatasetError: There is no data set, it is damaged, or it has another format version.
    """
    return Dataset.open(folder)


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    layout: str = AUTO,
    annotations: Sequence[Path | str] = (),
    columns: Mapping[str, str] | None = None,
    codec: str = "jpeg",
    quality: int | None = None,
    b_frames: int | None = None,
    short_side: int = 256,
    fps: str | float | Fraction | None = None,
    max_frames: int | None = None,
    keep_truncated: bool = False,
    shard_size: str | int = "256MB",
    workers: int | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
    timeout_seconds: float | None = None,
    allow_outside: bool = False,
    executor: str | Executor = "local",
    by_node: bool = False,
    progress: bool | None = None,
) -> Dataset:
    """Transcode raw videos into verified, frame-addressable WebDataset shards.

    A call on an existing data set makes only what is missing, whatever stopped the call before. A video that can't be
    used becomes a row of `errors.jsonl` and never stops the call.

    Args:
        source: Folder of raw videos, or a table (csv, jsonl, parquet) that lists them, or the URL of either. Of a URL,
            each process fetches the video that it works on, once to probe it and once to transcode it.
        out: Folder or URL of the data set. For a URL, shards are made in a folder below `XDG_CACHE_HOME` (~/.cache) and
            moved to the bucket one by one; with Ray, all nodes must see that folder.
        layout: Layout of the source: a name of `vclimb.pipeline.sources.LAYOUTS`, or `auto`.
        annotations: Annotation files, or folders that hold them, where they don't lie in the source.
        columns: For tables, names of our columns to names of theirs, such as `{"label": "class"}`.
        codec: `jpeg` (every frame stands alone) or `h264` (4x smaller, 4x slower to sample).
        quality: Quality on ffmpeg's scale, lower is better: 2 to 31 for jpeg, 0 to 51 (CRF) for h264. None: 5 or 22.
        b_frames: B-frames of h264 between two other frames, 0 to 10, which are decoded only where they are wanted: more
            are faster to sample and smaller, at less quality. None: 3 for h264; jpeg has none.
        short_side: Short side in pixels that larger videos are scaled down to.
        fps: Frames a second, such as 12 or `30000/1001`. None: each source frame, at the source's average rate.
        max_frames: Greatest number of frames stored of a video. None: all.
        keep_truncated: Whether to store what decodes of damaged videos rather than list them as failed.
        shard_size: Aimed size of a shard, in bytes or as text such as `256MB`.
        workers: Number of processes, with Ray of shards at a time. None: one for each core.
        limit: Greatest number of videos, spread over the classes, for a trial. None: all.
        retry_failed: Whether to take just the videos that `errors.jsonl` lists.
        timeout_seconds: Longest time for one video. None: 120 s, and 10 s for each second of the video.
        allow_outside: Whether a table may name files outside its own folder.
        executor: Where shards are made: `local` (processes of this machine), `ray` (the nodes of the Ray cluster that
            RAY_ADDRESS or `ray start` names, else this machine), a name of the entry point group `vclimb.executors`,
            `package.module:Class`, or an `Executor`. The bytes are the same everywhere.
        by_node: Whether to show beside the progress, every few seconds, what each node of the cluster does, and the
            shards that run longest with the node and the video that is next.
        progress: Whether to show notes and a progress bar on stderr. None: where stderr is a terminal or in Jupyter.

    Returns:
        The data set. Its `summary` says what this call did.

    Raises:
        SettingsError: A setting is out of range, or the data set was made with other settings.
        SourceError: The source can't be read as this layout, or holds nothing to prepare.
        TargetError: The target is full, read-only, in use, or not a data set. Published shards stay.
        FfmpegMissingError: No ffmpeg with the codec's encoder was found.
    """
    if quality is None:
        quality = CODECS[codec].default if codec in CODECS else 0  # `EncodeSettings` refuses an unknown codec
    if b_frames is None:
        b_frames = CODECS[codec].b_frames if codec in CODECS else 0
    settings = EncodeSettings(
        codec=codec,
        quality=quality,
        b_frames=b_frames,
        short_side=short_side,
        fps=parse_rate(fps),
        max_frames=max_frames,
        keep_truncated=keep_truncated,
    )
    options = PrepareOptions(parse_size(shard_size), limit, retry_failed, timeout_seconds)
    remote = open_remote(str(source)) if is_url(source) else None
    if remote is not None and allow_outside:
        raise SettingsError(f"allow_outside is for tables of this machine, and the source is {source}; leave it out")
    bucket = BucketTarget(str(out)) if is_url(out) else None
    target = local_path(out) if bucket is None else bucket.folder
    require_workers(workers)
    placement = EXECUTORS.find(executor)(workers) if isinstance(executor, str) else executor
    if by_node and not placement.has_nodes:
        raise SettingsError(f"by_node shows the nodes of a cluster, and executor {executor!r} has none; use 'ray'")
    ffmpeg = find_ffmpeg()
    require_encoder(ffmpeg, CODECS[codec].encoder)
    table = read_source(
        local_path(source) if remote is None else remote.source,
        layout,
        annotations=[local_path(path) for path in annotations],
        columns=columns,
        allow_outside=allow_outside,
    )
    with PrepareProgress(progress) as shown:
        if by_node:
            placement.on_status = shown.show_nodes
        for note in table.notes:
            shown.note(note)
        where = source if remote else table.root
        shown.note(f"{len(table.videos)} videos in {where}, layout {table.layout}; using {ffmpeg}")
        summary = PrepareRun(table, target, settings, options, ffmpeg, placement, shown, remote, bucket).run()
    dataset = Dataset.open(summary.out)
    dataset.summary = summary
    return dataset
