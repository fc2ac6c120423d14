"""The shards as other programs read them: webdataset, DALI, tar and ffmpeg agree with the catalog."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
import webdataset
from dataset_cases import InlineExecutor
from video_cases import make_video

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo, as_webdataset
from vclimb.pipeline.dataset.settings import GOP_FRAMES

JHMDB = Path(__file__).parents[1] / "../shared/data/jhmdb21"
Planes = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated videos of several rates, sizes and lengths, and real ones where available."""
    folder = tmp_path_factory.mktemp("source")
    make_video(folder / "even" / "three_groups.mp4", frames=2 * GOP_FRAMES + 5)
    make_video(folder / "even" / "one_frame.mp4", frames=1)
    make_video(folder / "odd sizes" / "odd.webm", frames=13, size="67x51", fps="30000/1001")
    make_video(folder / "odd sizes" / "portrait.mkv", frames=GOP_FRAMES, size="48x80", fps="12.5")
    for clip in sorted(JHMDB.glob("*/*.avi"))[::400]:
        (folder / clip.parent.name).mkdir()
        (folder / clip.parent.name / clip.name).symlink_to(clip)
    return folder


@pytest.fixture(scope="module")
def jpeg_set(source: Path, tmp_path_factory: pytest.TempPathFactory, prepare_folder: Any) -> StoredDataset:
    out = tmp_path_factory.mktemp("jpeg") / "data"
    prepare_folder(source, out, executor=InlineExecutor(), shard_bytes=10_000)
    return StoredDataset.open(out)


@pytest.fixture(scope="module")
def h264_set(source: Path, tmp_path_factory: pytest.TempPathFactory, prepare_folder: Any) -> StoredDataset:
    out = tmp_path_factory.mktemp("h264") / "data"
    prepare_folder(source, out, executor=InlineExecutor(), codec="h264", shard_bytes=4_000)
    return StoredDataset.open(out)


@pytest.fixture(params=["jpeg_set", "h264_set"])
def dataset(request: pytest.FixtureRequest) -> StoredDataset:
    prepared: StoredDataset = request.getfixturevalue(request.param)
    assert len(prepared.catalog.shards) > 1
    return prepared


def tars(dataset: StoredDataset) -> list[Path]:
    return [dataset.shard_paths(number)[0] for number in sorted(dataset.catalog.shards)]


def stored_file(dataset: StoredDataset, video: StoredVideo, folder: Path) -> Path:
    """A video's mp4 as a separate file, cut from the tar by its offset and size."""
    path = folder / "stored.mp4"
    path.write_bytes(dataset.shard_paths(video.shard)[0].read_bytes()[video.offset :][: video.bytes])
    return path


def ffmpeg_says(ffmpeg: str, file: Path, *arguments: str) -> bytes:
    """The output of an ffmpeg that reads a file without errors."""
    command = [ffmpeg, "-v", "error", "-i", str(file), *arguments, "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert done.stderr == b""
    return done.stdout


def ffmpeg_frames(ffmpeg: str, file: Path, video: StoredVideo, pixel_format: str) -> Planes:
    """The frames that ffmpeg decodes: (n_frames, bytes of a frame)."""
    decoded = ffmpeg_says(ffmpeg, file, "-f", "rawvideo", "-pix_fmt", pixel_format)
    return np.frombuffer(decoded, np.uint8).reshape(video.n_frames, -1)


def members_say(dataset: StoredDataset, samples: list[tuple[str, bytes, bytes]]) -> None:
    """Check that a reader's samples (key, mp4, json) are those of the catalog, in its order."""
    assert [key for key, _, _ in samples] == [video.key for video in dataset.videos]
    for (key, mp4, metadata), video in zip(samples, dataset.videos, strict=True):
        assert hashlib.sha256(mp4).hexdigest() == video.sha256
        assert mp4 == dataset.open_video(video).read()
        row = json.loads(metadata)
        assert (row["key"], row["sha256"], row["source"]) == (key, video.sha256, video.source)
        assert row["n_frames"] == video.n_frames
        instances = [(i["label"], i["start_frame"], i["end_frame"]) for i in row["instances"]]
        ours = [(i.label, i.start_frame, i.end_frame) for i in dataset.instances if i.key == key]
        assert instances == ours


def test_webdataset_reads_what_the_catalog_lists(dataset: StoredDataset) -> None:
    urls = [str(path) for path in tars(dataset)]
    plain = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    for reader in (plain, as_webdataset(dataset.folder)):
        members_say(dataset, [(sample["__key__"], sample["mp4"], sample["json"]) for sample in reader])


def test_dali_reads_the_same_by_our_index(dataset: StoredDataset) -> None:
    dali = pytest.importorskip("nvidia.dali", reason="DALI is not installed")

    @dali.pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def reading() -> Any:
        paths = [str(path) for path in tars(dataset)]
        indices = [str(path.with_suffix(".idx")) for path in tars(dataset)]
        mp4, metadata = dali.fn.readers.webdataset(
            paths=paths, index_paths=indices, ext=["mp4", "json"], missing_component_behavior="error", name="shards"
        )
        return mp4, metadata

    pipeline = reading()
    pipeline.build()
    assert pipeline.epoch_size("shards") == len(dataset.videos)
    samples = []
    for _ in dataset.videos:
        mp4, metadata = (bytes(np.asarray(output.at(0))) for output in pipeline.run())
        samples.append((json.loads(metadata)["key"], mp4, metadata))
    members_say(dataset, samples)


def test_our_index_is_the_one_that_dali_makes(dataset: StoredDataset, tmp_path: Path) -> None:
    wds2idx = pytest.importorskip("wds2idx", reason="DALI is not installed")
    for tar in tars(dataset):
        with wds2idx.IndexCreator(str(tar), str(tmp_path / "dali.idx"), verbose=False) as creator:
            creator.create_index()
        assert tar.with_suffix(".idx").read_bytes() == (tmp_path / "dali.idx").read_bytes()


def test_tars_are_plain_ustar_without_time_or_owner(dataset: StoredDataset) -> None:
    for number, tar in enumerate(tars(dataset)):
        keys = [video.key for video in dataset.videos if video.shard == number]
        names = [f"{key}.{suffix}" for key in keys for suffix in ("mp4", "json")]
        listed = subprocess.run(["tar", "tf", tar], capture_output=True, text=True, check=True)
        assert (listed.stdout.splitlines(), listed.stderr) == (names, "")
        assert tar.stat().st_size % tarfile.RECORDSIZE == 0
        with tarfile.open(tar) as archive, open(tar, "rb") as file:
            for member in archive:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert (member.mode, member.type, member.pax_headers) == (0o644, tarfile.REGTYPE, {})
                assert member.offset_data == member.offset + tarfile.BLOCKSIZE  # no extended header in between
                file.seek(member.offset + 257)
                assert file.read(8) == b"ustar\x0000"


def test_frame_index_covers_every_packet_of_the_video(dataset: StoredDataset, ffmpeg_path: str, tmp_path: Path) -> None:
    for video in dataset.videos:
        file = stored_file(dataset, video, tmp_path)
        lines = ffmpeg_says(ffmpeg_path, file, "-map", "0:v", "-c", "copy", "-f", "framemd5").decode().splitlines()
        packets = [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]
        in_file = np.argsort(dataset.frame_ranges(video)[:, 0])
        ours = [dataset.frame_bytes(video, frame) for frame in in_file.tolist()]
        assert packets == [hashlib.md5(data).hexdigest() for data in ours]


def test_jpeg_frames_by_byte_range_are_the_frames_of_the_video(
    jpeg_set: StoredDataset, ffmpeg_path: str, tmp_path: Path
) -> None:
    for video in jpeg_set.videos:
        whole = ffmpeg_frames(ffmpeg_path, stored_file(jpeg_set, video, tmp_path), video, "yuvj420p")
        frames = [jpeg_set.frame_bytes(video, frame) for frame in range(video.n_frames)]
        assert all(frame.startswith(b"\xff\xd8") and frame.endswith(b"\xff\xd9") for frame in frames)
        (tmp_path / "frames.mjpeg").write_bytes(b"".join(frames))
        alone = ffmpeg_frames(ffmpeg_path, tmp_path / "frames.mjpeg", video, "yuvj420p")
        assert np.array_equal(alone, whole)
        decoder = av.CodecContext.create("mjpeg", "r")
        by_pyav = [decoder.decode(av.Packet(frame))[0].to_ndarray().ravel() for frame in frames]
        assert np.array_equal(np.stack(by_pyav), whole)


def test_libjpeg_sees_jpeg_frames_as_ffmpeg_does(jpeg_set: StoredDataset, ffmpeg_path: str, tmp_path: Path) -> None:
    """Two decoders round differently: by one level in a plane, and so by up to 1 + 1.772 + 1 in a colour."""
    for video in jpeg_set.videos:
        whole = ffmpeg_frames(ffmpeg_path, stored_file(jpeg_set, video, tmp_path), video, "yuvj420p")
        for frame in range(video.n_frames):
            grey = simplejpeg.decode_jpeg(jpeg_set.frame_bytes(video, frame), "GRAY")[..., 0]
            luma = whole[frame, : grey.size].reshape(grey.shape)
            assert np.abs(grey.astype(int) - luma).max() <= 1
            expected = rgb_of_full_range_planes(whole[frame], video.width, video.height)
            difference = np.abs(jpeg_set.decode_frame(video, frame) - expected)
            assert difference.max() < 3.8
            assert difference.mean() < 0.5


def rgb_of_full_range_planes(planes: Planes, width: int, height: int) -> npt.NDArray[np.float64]:
    """JFIF's equations on 4:2:0 planes, chroma interpolated linearly between the centres of its samples."""
    luma = planes[: width * height].reshape(height, width).astype(float)
    cb, cr = (
        doubled(doubled(plane.reshape(height // 2, width // 2).astype(float) - 128).T).T
        for plane in np.split(planes[width * height :], 2)
    )
    channels = luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def doubled(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Twice as many rows: three quarters of the nearer one, one quarter of the farther one."""
    padded = np.pad(rows, ((1, 1), (0, 0)), mode="edge")
    pairs = np.stack([0.75 * rows + 0.25 * padded[:-2], 0.75 * rows + 0.25 * padded[2:]], axis=1)
    return pairs.reshape(2 * rows.shape[0], rows.shape[1])


def test_h264_groups_are_closed_and_twelve_frames_long(h264_set: StoredDataset) -> None:
    for video in h264_set.videos:
        with av.open(h264_set.open_video(video), "r") as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.is_keyframe for packet in packets] == [i % GOP_FRAMES == 0 for i in range(video.n_frames)]
        shown = sorted(packet.pts for packet in packets if packet.pts is not None)
        assert shown == [number * packets[0].duration for number in range(video.n_frames)]
        for frame in range(video.n_frames):
            pictures = [
                unit[0] & 31 for unit in length_prefixed(h264_set.frame_bytes(video, frame)) if unit[0] & 31 < 6
            ]
            assert set(pictures) == {5 if frame % GOP_FRAMES == 0 else 1}  # IDR, or a slice of another picture


def length_prefixed(packet: bytes) -> Iterator[bytes]:
    """The NAL units of a packet of an mp4."""
    while packet:
        size = int.from_bytes(packet[:4])
        yield packet[4 : 4 + size]
        packet = packet[4 + size :]


def test_h264_group_decodes_alone(h264_set: StoredDataset, ffmpeg_path: str, tmp_path: Path) -> None:
    for video in h264_set.videos:
        whole = ffmpeg_frames(ffmpeg_path, stored_file(h264_set, video, tmp_path), video, "yuv420p")
        with av.open(h264_set.open_video(video), "r") as container:
            extradata = container.streams.video[0].codec_context.extradata
        for first in range(0, video.n_frames, GOP_FRAMES):
            decoder = av.CodecContext.create("h264", "r")
            decoder.extradata = extradata
            group = range(first, min(first + GOP_FRAMES, video.n_frames))
            in_file = sorted(group, key=lambda frame: h264_set.frame_ranges(video)[frame, 0])
            packets = [av.Packet(h264_set.frame_bytes(video, frame)) for frame in in_file]
            pictures = [picture for packet in [*packets, None] for picture in decoder.decode(packet)]
            assert np.array_equal(np.stack([picture.to_ndarray().ravel() for picture in pictures]), whole[group])


def test_decode_frame_gives_that_frame(h264_set: StoredDataset, ffmpeg_path: str, tmp_path: Path) -> None:
    for video in h264_set.videos:
        whole = ffmpeg_frames(ffmpeg_path, stored_file(h264_set, video, tmp_path), video, "rgb24").astype(int)
        for frame in range(video.n_frames):
            ours = h264_set.decode_frame(video, frame)
            assert ours.shape == (video.height, video.width, 3)
            assert ours.dtype == np.uint8
            assert np.abs(ours.ravel() - whole[frame]).max() <= 2


def test_decode_frame_refuses_frames_that_are_not_there(dataset: StoredDataset) -> None:
    video = dataset.videos[0]
    for frame in (-1, video.n_frames):
        with pytest.raises(IndexError, match=rf"frame {frame} of .* has {video.n_frames} frames"):
            dataset.decode_frame(video, frame)
        with pytest.raises(IndexError, match=rf"frame {frame} "):
            dataset.frame_bytes(video, frame)
