"""Files that claim to be larger or longer than they are: they can neither take all memory nor fill the disk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg
from peak_memory import PeakMemory
from video_cases import make_video, sound_video

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.jobs import VideoJob
from vclimb.pipeline.transcode.part import read_part
from vclimb.pipeline.transcode.prepare import PrepareSummary
from vclimb.pipeline.transcode.transcode import transcode_videos
from vclimb.pipeline.transcode.worker import WORKER_DATA_BYTES, probe_file

PrepareFolder = Callable[..., PrepareSummary]


def _png(width: int, height: int, rows: bytes, colour_profile: bytes = b"") -> bytes:
    """A PNG with 8-bit RGB pixels, whose compressed rows may be those of another size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    profile = chunk(b"iCCP", b"x\0\0" + colour_profile) if colour_profile else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + profile + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _zeros(n_rows: int, row_bytes: int) -> bytes:
    """Compressed zeros, a thousandth of their size."""
    compressor = zlib.compressobj(1)
    row = bytes(row_bytes)
    return b"".join(compressor.compress(row) for _ in range(n_rows)) + compressor.flush()


def mux(path: Path, codec: str, packets: list[tuple[int, bytes]]) -> None:
    """Put packets of (milliseconds, bytes) into a container that declares 64x48 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        stream.time_base = Fraction(1, 1000)
        for milliseconds, data in packets:
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = milliseconds
            packet.is_keyframe = True
            container.mux(packet)


def _exp_golomb(*values: int) -> str:
    return "".join(f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1) for value in values)


def _h264_of_size(macroblocks: int) -> bytes:
    """A raw H.264 stream of small frames whose parameters declare squares of macroblocks * 16 pixels."""
    small = sound_video(".h264", 2, "-profile:v", "baseline", "-bf", "0", "-f", "h264")
    units = small.split(b"\0\0\0\1")
    # Profile 66, level 6.2, id 0; frame numbers and picture order of 4 bits; 1 reference; no cropping, no VUI.
    bits = f"{66:08b}{0:08b}{62:08b}" + _exp_golomb(0, 0, 2, 1) + "0" + _exp_golomb(*[macroblocks - 1] * 2) + "11001"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    parameters = b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\0\0\0\1".join(parameters if unit[:1] == b"\x67" else unit for unit in units)


def _giant_files(folder: Path) -> None:
    """Small files whose headers claim frames beyond the limit, by a little or by far."""
    rows = _zeros(48, 1 + 64 * 3)
    for side in (60_000, 16_000):
        mux(folder / f"png_{side}.mov", "png", [(0, _png(side, side, rows)), (40, _png(side, side, rows))])
        jpeg = bytearray(simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8)))
        struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
        mux(folder / f"jpeg_{side}.mkv", "mjpeg", [(0, bytes(jpeg)), (40, bytes(jpeg))])
        mux(folder / f"header_{side}.avi", "mjpeg", [(0, bytes(jpeg)), (40, bytes(jpeg))])
        honest = (folder / f"header_{side}.avi").read_bytes()
        lie = honest.replace(struct.pack("<II", 64, 48), struct.pack("<II", side, side))
        (folder / f"header_{side}.avi").write_bytes(lie)
    gif = bytearray(sound_video(".gif"))
    struct.pack_into("<HH", gif, 6, 65535, 65535)
    (folder / "gif_65535.gif").write_bytes(gif)
    (folder / "h264_16000.mp4").write_bytes(_h264_of_size(1000))


def test_a_frame_over_the_limit_takes_no_memory(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    (tmp_path / "in").mkdir()
    _giant_files(tmp_path / "in")
    giants = {path.name for path in (tmp_path / "in").iterdir()}
    (tmp_path / "in" / "sound.mp4").write_bytes(sound_video())
    with PeakMemory() as peak:
        summary = prepare_folder(tmp_path / "in", tmp_path / "out")
    assert [video.source for video in StoredDataset.open(tmp_path / "out").videos] == ["sound.mp4"]
    assert {error.path for error in summary.failed_now} == giants
    assert all("over" in error.reason and "67 megapixels" in error.reason for error in summary.failed_now)
    assert 20 * 10**6 < peak.bytes < 400 * 10**6


def test_a_small_file_of_much_content_stays_within_the_memory(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """64 megapixels are allowed, and half a gigabyte of colour profile may fail, but neither takes the machine."""
    (tmp_path / "in").mkdir()
    pixels = _png(8000, 8000, _zeros(8000, 1 + 8000 * 3))
    profile = _png(64, 48, _zeros(48, 1 + 64 * 3), _zeros(2**14, 2**15))
    assert max(len(pixels), len(profile)) < 3 * 10**6
    mux(tmp_path / "in" / "pixels.mov", "png", [(0, pixels)])
    mux(tmp_path / "in" / "profile.mov", "png", [(0, profile)])
    with PeakMemory() as peak:
        prepare_folder(tmp_path / "in", tmp_path / "out")
    assert "pixels.mov" in {video.source for video in StoredDataset.open(tmp_path / "out").videos}
    assert 200 * 10**6 < peak.bytes < WORKER_DATA_BYTES


# Files that claim to be long


@pytest.fixture(scope="module")
def jpeg_frame() -> bytes:
    return simplejpeg.encode_jpeg(np.full((48, 64, 3), 128, np.uint8))


@pytest.mark.parametrize(
    ("gap_seconds", "fps", "outcome"),
    [
        (100_000, None, "its 4 frames span 100,000 s: its timestamps are damaged"),
        (100_000, 30, "its 4 frames span 100,000 s: its timestamps are damaged"),
        (900, 30, "its 4 frame(s) span 900 s; at 30 frames a second each would be stored 6,751 times; allowed: 1000"),
        (900, None, 4),
        (20, 30, 604),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_gap_in_time_cannot_fill_the_disk(
    gap_seconds: int, fps: int | None, outcome: str | int, suffix: str, jpeg_frame: bytes, tmp_path: Path
) -> None:
    times = [0, 40, 80, 80 + 1000 * gap_seconds]
    mux(tmp_path / f"gap{suffix}", "mjpeg", [(milliseconds, jpeg_frame) for milliseconds in times])
    row = _transcode(tmp_path / f"gap{suffix}", EncodeSettings(fps=None if fps is None else Fraction(fps)))
    if isinstance(outcome, int):
        assert row["stored"]["n_frames"] == outcome
    else:
        assert row["error"]["reason"].startswith(outcome)


def test_a_video_that_gives_more_frames_than_it_has_is_stopped(tmp_path: Path) -> None:
    make_video(tmp_path / "long.mp4", frames=400)
    row = _transcode(tmp_path / "long.mp4", EncodeSettings(), n_packets=1, duration_seconds=0.04)
    assert row["error"]["reason"].startswith("gave over 102 frames where 1 were expected of its 1 packets")


def _transcode(source: Path, settings: EncodeSettings, **lies: Any) -> dict[str, Any]:
    """Transcode one file as a worker does, with fields of its probe replaced; return the part's outcome."""
    probe = probe_file(source)
    if isinstance(probe, VideoError):
        return {"error": probe.to_json()}
    part = source.parent / "work" / "000000" / "000000"
    part.parent.mkdir(parents=True)
    probe = replace(probe, **lies)
    transcode_videos([VideoJob(source, probe, settings, part, source.parent, find_ffmpeg().path, 20.0)])
    outcome = read_part(part)
    assert (outcome.error is None) != (outcome.stored is None)
    return {"error": outcome.error and outcome.error.to_json(), "stored": outcome.stored and asdict(outcome.stored)}
