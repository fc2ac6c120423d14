"""Sound samples of data sets, unfinished runs of `prepare` and memories, and how each of their files is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from fuzz_cases import Kind, digest_of
from hostile_dataset import put_file, put_shard_file
from sealed_cases import lines_payload, seal_lines

import vclimb
from vclimb.memory.sheet import memory_sheet
from vclimb.memory.store.chunks import encode_chunk
from vclimb.memory.store.memory_index import checksum
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.frame_index import VideoRows
from vclimb.pipeline.dataset.header import header_bytes
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.statistics import dataset_statistics
from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed
from vclimb.pipeline.transcode.executors.executor import MapExecutor, OnVideo
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.plan import PLAN, Plan
from vclimb.pipeline.transcode.prepare import PrepareOptions, PrepareRun
from vclimb.pipeline.transcode.progress import PrepareProgress
from vclimb.pipeline.transcode.summary import PrepareSummary
from vclimb.pipeline.transcode.target import WORK
from vclimb.pipeline.transcode.unfinished import published_of, refuse_other_source
from vclimb.pipeline.transcode.verify import verify

SHARD_BYTES = 60_000


class Stopped(BaseException):
    """Ends a run of `prepare` half way."""


class InThisProcess(MapExecutor):
    """Makes shards in this process, and stops after some of them."""

    def __init__(self, shards: int | None = None) -> None:
        super().__init__()
        self._shards = shards

    def map(self, function: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterable[Any]:
        return map(function, arguments)

    def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
        yield from super().run(jobs[: self._shards], on_video)
        if self._shards is not None:
            raise Stopped


def _prepare(source: Path, out: Path, executor: MapExecutor, codec: str = "jpeg") -> PrepareSummary:
    quality, b_frames = {"jpeg": (5, 0), "h264": (28, 3)}[codec]
    settings = EncodeSettings(codec, quality, short_side=32, max_frames=12, b_frames=b_frames)
    options = PrepareOptions(shard_bytes=SHARD_BYTES)
    return PrepareRun(
        read_source(source), out, settings, options, find_ffmpeg(), executor, PrepareProgress(False)
    ).run()


def make_data_samples(samples: Path) -> None:
    """Draw videos, and make data sets, a run that was stopped, and memories of them."""
    videos = samples / "unfinished" / "videos"
    vclimb.synth(videos, classes=3, train=2, test=1, progress=False)
    table = videos / "videos.csv"
    first = table.read_text("utf-8").splitlines()[1]
    path = first.partition(",")[0]
    table.write_text(table.read_text("utf-8") + first.replace(path, "videos/broken.mp4") + "\n", "utf-8")
    (videos / "videos" / "broken.mp4").write_bytes(b"no video")
    for codec in ("jpeg", "h264"):
        _prepare(videos, samples / codec, InThisProcess(), codec)
    with suppress(Stopped):
        _prepare(videos, samples / "unfinished" / "data", InThisProcess(1))
    vclimb.pack(samples / "jpeg", samples / "memory", budget="6v", frames=3, codec="copy", progress=False)
    vclimb.pack(samples / "h264", samples / "memory-h264", budget="6v", frames=3, codec="h264:28", progress=False)


def read_dataset(folder: Path) -> object:
    """Read all of a data set: its catalog, and the pixels of all frames."""
    data = StoredDataset.open(folder)
    parts: list[Any] = [*data.videos, *data.instances, data.classes, data.catalog.errors, data.settings, data.name]
    parts.append(dataset_statistics(data))
    for video in data.videos:
        rows = VideoRows(video.key, video.codec, video.shard, video.first_frame)
        frames = np.arange(min(video.n_frames, 64))
        parts += [data.frame_ranges(video).tolist(), *data.frame_indices.read_clip(rows, frames).units]
        parts.append(data.decode_frame(video, video.n_frames - 1).tobytes())
    for n_tasks in (2, 3):
        vclimb.Scenario.from_dataset(data, tasks=n_tasks).report(data)
    return digest_of(*parts)


def verify_dataset(folder: Path) -> object:
    """Verify a data set; a problem that is found is an error here."""
    report = verify(folder, decode=True, workers=1, progress=False)
    json.dumps(report.to_json())
    if report.problems:
        raise DatasetError(" ".join(str(report.problems[0]).split())[:500])
    return report.n_videos, report.unfinished


def read_unfinished(folder: Path) -> object:
    """Read what a stopped run of `prepare` left, as the next run does."""
    table, work = read_source(folder / "videos"), folder / "data" / WORK
    plan = Plan.read(work)
    if plan is None:
        return None
    refuse_other_source(plan, table, folder / "data", work)
    return repr((plan.settings, plan.name, plan.errors, list(plan.shards), published_of(plan, work)))


def prepare_unfinished(folder: Path) -> object:
    """Go on with a stopped run of `prepare`, and read the data set."""
    summary = _prepare(folder / "videos", folder / "data", InThisProcess())
    return read_dataset(summary.out)


def read_memory(folder: Path) -> object:
    """Read all of a memory, then drop exemplars of it."""
    memory = vclimb.Memory.open(folder)
    json.dumps(memory.to_json())
    parts: list[Any] = [(label, one.name, one.encoding, one.n_exemplars) for label, one in memory.store.classes.items()]
    damaged = {(one.label, one.rank) for one in memory.store.verify()}
    for label, stored in sorted(memory.store.classes.items()):
        for rank in range(stored.n_exemplars):
            try:
                exemplar = memory.store.exemplar(label, rank)
            except vclimb.VclimbError:
                if (label, rank) not in damaged:
                    raise AssertionError("reading finds a damage that verify does not") from None
                raise
            assert (label, rank) not in damaged, "verify finds a damage that reading does not"
            parts += [exemplar.key, exemplar.frames.tolist(), exemplar.width, exemplar.height, *exemplar.clip.units]
    assert memory_sheet(memory.store, memory.usage, 3).n_classes <= 3
    with MemoryWriter.open(folder) as writer:
        for label in writer.labels:
            writer.costs(label)
        writer.commit(dict.fromkeys(writer.labels, 1))
    return digest_of(*parts, vclimb.Memory.open(folder).to_json()["totals"]["exemplars"])


def sealed_payload(data: bytes) -> bytes:
    """Take the content of sealed JSON."""
    return json.dumps(unsealed(parse_object(data))).encode()


def seal_json(file: str) -> Callable[[Path, bytes], None]:
    """Seal a changed content, and write it to a file of a folder."""

    def seal(folder: Path, payload: bytes) -> None:
        (folder / file).write_bytes(_sealed_json(payload, lambda content: json.dumps(sealed(content)).encode()))

    return seal


def _sealed_json(payload: bytes, seal: Callable[[Any], bytes]) -> bytes:
    """Seal a JSON object; other payloads have no place for a digest."""
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    return seal(content) if isinstance(content, dict) else payload


def _seal_header(folder: Path, payload: bytes) -> None:
    (folder / "dataset.json").write_bytes(_sealed_json(payload, _surrogates_kept))


def _surrogates_kept(content: Any) -> bytes:
    try:
        return header_bytes(content)
    except UnicodeEncodeError:
        return json.dumps(content).encode()


def _seal_table(name: str) -> Callable[[Path, bytes], None]:
    return lambda folder, payload: put_file(folder, name, payload)


def _seal_shard(suffix: str) -> Callable[[Path, bytes], None]:
    return lambda folder, payload: void(put_shard_file(folder, suffix, payload))


def void(_: object) -> None:
    """Drop a result."""


def seal_index(folder: Path, payload: bytes) -> None:
    def checked(document: Any) -> bytes:
        if isinstance(document.get("attributes"), dict):
            document["attributes"]["checksum"] = checksum(document)
        return json.dumps(document).encode()

    (folder / "zarr.json").write_bytes(_sealed_json(payload, checked))


def seal_chunk(name: str) -> Callable[[Path, bytes], None]:
    def seal(folder: Path, payload: bytes) -> None:
        is_packed = len(payload) % 2 == 0  # rows that are packed, or other bytes, each with the right checksum
        checked = payload + google_crc32c.value(payload).to_bytes(4, "little")
        (folder / name).write_bytes(encode_chunk(payload) if is_packed else checked)

    return seal


def _chunk_files(samples: Path, memory: str) -> list[str]:
    """Choose a file of frames, a table, and the metadata of a class, of an array and of the parts."""
    files = [str(path.relative_to(samples / memory)) for path in sorted((samples / memory).rglob("*"))]
    chosen = ("frames/c.0.0", "table/c.0.0", "frames/zarr.json", "table/zarr.json", "exemplars/zarr.json")
    return [next(file for file in files if file.endswith(end)) for end in chosen]


def data_kinds(samples: Path) -> list[Kind]:
    """List the kinds of files that `make_data_samples` made."""
    kinds = []
    for codec in ("jpeg", "h264"):
        stem = next((samples / codec).glob("*000000.tar")).stem
        files: list[tuple[str, str, Callable[[bytes], bytes], Callable[[Path, bytes], None]]] = [
            ("dataset.json", "json", sealed_payload, _seal_header),
            ("videos.parquet", "parquet", bytes, _seal_table("videos.parquet")),
            ("instances.parquet", "parquet", bytes, _seal_table("instances.parquet")),
            ("errors.jsonl", "jsonl", bytes, _seal_table("errors.jsonl")),
            (f"{stem}.tar", "bytes", bytes, _seal_shard("tar")),
            (f"{stem}.idx", "bytes", bytes, _seal_shard("idx")),
            (f"{stem}.frames.npy", "npy", bytes, _seal_shard("frames")),
        ]
        for file, file_format, payload, seal in files:
            kind = file.removeprefix(f"{stem}.")
            for read in (read_dataset, verify_dataset):
                is_checked_by_verify_alone = read is read_dataset and kind == "idx"
                if is_checked_by_verify_alone or (codec == "h264" and kind.endswith(("parquet", "json", "jsonl"))):
                    continue
                name = f"{codec} {kind}{' verified' if read is verify_dataset else ''}"
                kinds.append(Kind(name, codec, file, read, file_format, True, payload, seal))
    records = sorted(path.name for path in (samples / "unfinished" / "data" / WORK / "records").iterdir())
    plan, record = f"data/{WORK}/{PLAN}", f"data/{WORK}/records/{records[0]}"
    for name, file, file_format, payload, seal in (
        ("plan", plan, "jsonl", lines_payload, lambda folder, lines: seal_lines(folder / plan, lines)),
        ("record", record, "json", sealed_payload, seal_json(record)),
    ):
        kinds.append(Kind(name, "unfinished", file, read_unfinished, file_format, True, payload, seal))
        kinds.append(
            Kind(f"{name} prepared", "unfinished", file, prepare_unfinished, file_format, True, payload, seal, True)
        )
    for memory in ("memory", "memory-h264"):
        kinds.append(Kind(f"{memory} index", memory, "zarr.json", read_memory, "json", True, bytes, seal_index))
        for file in _chunk_files(samples, memory):
            name = f"{memory} {'/'.join(file.split('/')[-2:])}"
            if file.endswith("zarr.json"):
                kinds.append(Kind(name, memory, file, read_memory, "json", True))
            else:
                kinds.append(Kind(name, memory, file, read_memory, "bytes", True, bytes, seal_chunk(file)))
    return kinds
