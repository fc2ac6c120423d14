"""Codecs of exemplars: their contract, and other programs that read their files."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import av.codec
import numpy as np
import pytest
import simplejpeg
from av.video.frame import PictureType
from codec_contract import (
    CodecContract,
    LossyContract,
    ScalingContract,
    decoded,
    lossless_source,
    textured,
    where,
)
from PIL import Image
from stream_cases import JpegsInMemory

from vclimb.memory.quality import psnr
from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.clips.provider import source_frames
from vclimb.pipeline.codecs import codecs, tiny_video
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame
from vclimb.pipeline.codecs.exemplar import SourceFrames, parse_codec
from vclimb.pipeline.errors import FrameDamagedError, SettingsError

VIDEO = {"h264:20": "h264", "h265:24": "hevc", "av1:35": "av1"}
PICTURES = ["jpeg:75", "webp:75", "avif:60", "jxl:1", "raw"]


class TestJpeg(LossyContract):
    spec, better, floor_db = "jpeg:75", "jpeg:95", 38


class TestWebp(LossyContract):
    spec, better, floor_db = "webp:75", "webp:95", 35


class TestAvif(LossyContract):
    spec, better, floor_db = "avif:60", "avif:90", 38


class TestJpegXl(LossyContract):
    spec, better, floor_db = "jxl:1", "jxl:0.3", 43


class TestH264(LossyContract):
    spec, better, floor_db = "h264:20", "h264:8", 35


class TestH265(LossyContract):
    spec, better, floor_db = "h265:24", "h265:10", 36


class TestAv1(LossyContract):
    spec, better, floor_db = "av1:35", "av1:12", 35


class TestRaw(ScalingContract):
    spec, floor_db = "raw", float("inf")

    def test_nothing_is_lost(self) -> None:
        pixels = textured(3, 33, 47)
        encoded = self.encode(pixels)
        assert np.array_equal(decoded(encoded), pixels)
        assert sum(map(len, encoded.clip.units)) == pixels.size + 3 * len(b"P6\n33 47\n255\n")


class TestCopy(CodecContract):
    spec, floor_db = "copy", float("inf")

    def source(self, pixels: Pixels) -> SourceFrames:
        files = [simplejpeg.encode_jpeg(np.ascontiguousarray(frame), 90) for frame in pixels]
        return SourceFrames(one_unit_a_frame("jpeg", files), pixels.shape[2], pixels.shape[1], where)

    def test_the_files_are_kept_bit_for_bit(self) -> None:
        """In the order of the frames, for any order of the units."""
        source = self.source(textured(3, 33, 47))
        units, order = source.clip.units, np.array([2, 0, 1, 0])
        clip = EncodedClip("jpeg", units, order, np.zeros_like(order))
        encoded = self.codec.encode(SourceFrames(clip, 33, 47, where))
        assert [*encoded.clip.units] == [units[2], units[0], units[1], units[0]]
        assert encoded.clip.unit.tolist() == [0, 1, 2, 3]
        assert "pixels" not in vars(source)

    @pytest.mark.parametrize("codec", ["h264", "hevc"])
    def test_frames_that_do_not_stand_alone_are_refused(self, codec: str) -> None:
        clip = EncodedClip(codec, [b""], np.zeros(1, np.int64), np.zeros(1, np.int64))
        with pytest.raises(SettingsError, match=f"copy keeps the JPEG frames .* this one holds {codec}; use h264 or"):
            self.codec.encode(SourceFrames(clip, 16, 16, where))


def test_every_family_has_its_contract() -> None:
    tested = {contract.spec.partition(":")[0] for contract in (*LossyContract.__subclasses__(), TestRaw, TestCopy)}
    assert tested == set(codecs())


# Sources


def test_a_source_reads_the_frames_of_a_provider() -> None:
    provider = JpegsInMemory(damaged=2)
    source = source_frames(provider, 1, np.array([1, 3]))
    expected = provider.read(1, np.array([1, 3]))
    assert [*parse_codec("copy").encode(source).clip.units] == [*expected.units]
    encoded = parse_codec("h264:10").encode(source)
    assert (encoded.width, encoded.height, len(encoded.clip.unit)) == (80, 64, 2)
    assert psnr(source.pixels, decoded(encoded)).min() > 25  # sharp edges between colours
    damaged = source_frames(provider, 2, np.array([1, 3]))
    with pytest.raises(FrameDamagedError, match=r"frame 1 of .*memory/2.* \(in memory\): "):
        parse_codec("jpeg").encode(damaged)


@pytest.mark.parametrize("spec", ["jpeg:90", "h264:12"])
def test_an_h264_source_is_encoded_anew(spec: str) -> None:
    pixels = textured(4, 64, 48)
    stored = parse_codec("h264:10").encode(lossless_source(pixels))
    source = SourceFrames(stored.clip, 64, 48, where)
    assert psnr(pixels, decoded(parse_codec(spec).encode(source))).min() > 34


# Other programs


@pytest.mark.parametrize("spec", VIDEO)
def test_ffmpeg_reads_the_stream_alike(spec: str, tmp_path: Path, ffmpeg_path: str) -> None:
    """So the stream holds its parameters, and its colours are those that it declares."""
    pixels = textured(5, 96, 64)
    encoded = parse_codec(spec).encode(lossless_source(pixels))
    file = tmp_path / f"stream.{ {'av1': 'obu'}.get(VIDEO[spec], VIDEO[spec]) }"
    file.write_bytes(encoded.clip.units[0])
    scale = "scale=flags=accurate_rnd+full_chroma_int"
    argv = [ffmpeg_path, "-v", "error", "-i", str(file), "-vf", scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(pixels.shape)
    assert psnr(frames, decoded(encoded)).min() > 38
    assert psnr(frames, pixels).min() > 34


@pytest.mark.parametrize("spec", VIDEO)
def test_a_stream_is_one_group_without_reordering(spec: str) -> None:
    encoded = parse_codec(spec).encode(lossless_source(textured(8, 96, 64)))
    codec = parse_codec(spec).codec
    assert isinstance(codec, tiny_video.VideoCodec)
    assert len(encoded.clip.units) == 1
    assert encoded.clip.position.tolist() == list(range(8))
    decoder = av.CodecContext.create(codec.decoder, "r")
    pictures = []
    for packet in [
        *map(av.Packet, codec.packets(encoded.clip.units[0])),
        None,
    ]:
        pictures += decoder.decode(packet)
    assert [PictureType(picture.pict_type).name for picture in pictures] == ["I"] + ["P"] * 7
    assert [picture.key_frame for picture in pictures] == [True] + [False] * 7
    assert {(picture.format.name, picture.colorspace, picture.color_range) for picture in pictures} == {
        ("yuv420p", 6, 1)  # SMPTE 170M, which is BT.601; limited
    }


@pytest.mark.parametrize("spec", [spec for spec in PICTURES if spec != "jxl:1"])  # Pillow has no JPEG XL
def test_pillow_reads_the_pictures_alike(spec: str) -> None:
    encoded = parse_codec(spec).encode(lossless_source(textured(2, 33, 47)))
    ours = decoded(encoded)
    for frame, data in zip(ours, encoded.clip.units, strict=True):
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert psnr(frame, theirs) > 40


def test_x264_writes_nothing_about_itself() -> None:
    encoded = parse_codec("h264:51").encode(lossless_source(textured(1, 16, 16)))
    assert b"x264" not in encoded.clip.units[0]
    assert len(encoded.clip.units[0]) < 100


# Processes


def _encode_and_decode(spec: str) -> tuple[list[bytes], Pixels]:
    encoded = parse_codec(spec).encode(lossless_source(textured(4, 47, 33)))
    return [*encoded.clip.units], decoded(encoded)


def test_worker_processes_encode_and_decode_alike() -> None:
    specs = [*VIDEO, *PICTURES]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        theirs = dict(zip(specs, pool.map(_encode_and_decode, specs), strict=True))
    for spec in specs:
        units, frames = _encode_and_decode(spec)
        assert theirs[spec][0] == units, spec
        assert np.array_equal(theirs[spec][1], frames), spec


@pytest.mark.parametrize("spec", [*VIDEO, *PICTURES])
def test_encoding_and_decoding_are_silent(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    _encode_and_decode(spec)
    assert capfd.readouterr() == ("", "")


def _policies() -> set[int]:
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' schedulers")
@pytest.mark.parametrize("spec", [*VIDEO, *PICTURES])
def test_no_thread_becomes_a_real_time_one(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even during encoding; SVT-AV1 requests it where it runs as root."""
    before, seen = _policies(), set()

    def watched(*arguments: Any, **more: Any) -> av.VideoFrame:
        seen.update(_policies())
        return av.VideoFrame.from_ndarray(*arguments, **more)

    of_frames = SimpleNamespace(from_ndarray=watched)
    watching = SimpleNamespace(
        CodecContext=av.CodecContext, VideoFrame=of_frames, codec=av.codec, error=av.error, Packet=av.Packet
    )
    monkeypatch.setattr(tiny_video, "av", watching)
    _encode_and_decode(spec)
    assert bool(seen) == (spec in VIDEO)
    assert seen <= before
    assert _policies() == before == {os.SCHED_OTHER}
