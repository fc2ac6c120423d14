"""Contract of exemplar codecs, and frames to test it with."""

from __future__ import annotations

import abc
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional
from source_cases import JHMDB, needs_jhmdb

from vclimb.memory.quality import psnr
from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame
from vclimb.pipeline.codecs.exemplar import EncodedFrames, ExemplarCodec, SourceFrames, parse_codec
from vclimb.pipeline.codecs.raw import ppm_header
from vclimb.pipeline.errors import FrameDamagedError

ODD_AND_TINY = [(47, 33), (33, 47), (1, 1), (2, 2), (3, 5), (8, 2), (16, 16), (15, 17), (49, 31)]


def where(place: int) -> str:
    return f"frame {place} of 'golf/swing'"


def _smooth_noise(pixels: int, n_channels: int, height: int, width: int) -> torch.Tensor:
    """(C, H, W). Random values of 0 to 255, so many pixels apart, with smooth interpolation."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand((1, n_channels, height // pixels + 2, width // pixels + 2), generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]


@cache
def textured(n_frames: int, width: int, height: int) -> Pixels:
    """(K, H, W, 3). Coloured texture without sharp edges that moves to the right by a pixel a frame."""
    whole = _smooth_noise(8, 1, height, width + n_frames) * 0.6 + _smooth_noise(32, 3, height, width + n_frames) * 0.4
    canvas = whole.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    frames = np.stack([canvas[:, n_frames - number : n_frames - number + width] for number in range(n_frames)])
    frames.setflags(write=False)
    return frames


@cache
def gradients(n_frames: int, width: int, height: int) -> Pixels:
    """(K, H, W, 3). Grey that brightens to the right, downwards and by frame; smooth at any size."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    grey = 30 + 80 * x + 60 * y + 10 * np.arange(n_frames)[:, None, None]
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=-1)


@cache
def real(n_frames: int) -> Pixels:
    """(K, 240, 320, 3). Every second frame of a real video."""
    path = sorted(Path(JHMDB, "golf").iterdir())[0]
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 4, 4 + 2 * n_frames)]
    return np.stack(decoded[::2])


def lossless_source(pixels: Pixels) -> SourceFrames:
    """Make a source of exactly these pixels."""
    _, height, width, _ = pixels.shape
    files = [ppm_header(width, height) + frame.tobytes() for frame in pixels]
    return SourceFrames(one_unit_a_frame("ppm", files), width, height, where)


def decoded(frames: EncodedFrames) -> Pixels:
    """Decode an exemplar: (K, H, W, 3)."""
    return decode_clip(frames.clip, frames.width, frames.height, where)


def with_unit(clip: EncodedClip, unit: int, data: bytes) -> EncodedClip:
    """Replace the bytes of one unit of a clip."""
    units = [*clip.units]
    units[unit] = data
    return EncodedClip(clip.codec, units, clip.unit, clip.position)


class CodecContract(abc.ABC):
    """Contract of every codec.

    Attributes:
        spec: Canonical spec of the codec under test.
        floor_db: Least PSNR of the texture's frames in dB.
    """

    spec: str
    floor_db: float

    @property
    def codec(self) -> ExemplarCodec:
        return parse_codec(self.spec)

    def source(self, pixels: Pixels) -> SourceFrames:
        """Make a source of frames."""
        return lossless_source(pixels)

    def encode(self, pixels: Pixels) -> EncodedFrames:
        return self.codec.encode(self.source(pixels))

    # Round trips

    def test_its_name_reads_back(self) -> None:
        assert str(self.codec) == self.spec
        assert parse_codec(str(self.codec)) == self.codec

    @pytest.mark.parametrize("n_frames", [1, 4, 16])
    def test_frames_come_back(self, n_frames: int) -> None:
        self.assert_kept(textured(n_frames, 96, 64), self.floor_db)

    @needs_jhmdb
    def test_real_frames_come_back(self) -> None:
        self.assert_kept(real(8), self.floor_db - 3)

    @pytest.mark.parametrize(("width", "height"), ODD_AND_TINY)
    def test_any_size_comes_back(self, width: int, height: int) -> None:
        self.assert_kept(gradients(3, width, height), 32)

    def assert_kept(self, pixels: Pixels, floor_db: float) -> None:
        source = self.source(pixels)
        encoded = self.codec.encode(source)
        assert encoded.clip.codec == self.codec.clip_codec
        assert (encoded.width, encoded.height) == (pixels.shape[2], pixels.shape[1])
        assert len(encoded.clip.unit) == len(encoded.clip.position) == len(pixels)
        frames = decoded(encoded)
        assert frames.dtype == np.uint8
        assert frames.shape == pixels.shape
        assert psnr(self.codec.reference(source), frames).min() >= floor_db

    def test_the_same_frames_give_the_same_bytes(self) -> None:
        pixels = textured(5, 70, 50)
        first = self.encode(pixels)
        self.encode(pixels[::-1])
        second = self.encode(pixels.copy())
        assert [*first.clip.units] == [*second.clip.units]

    # Selection of frames

    @pytest.mark.parametrize("places", [[0], [4], [2, 1], [4, 3, 2, 1, 0], [3, 0, 3, 3, 1], []])
    def test_frames_decode_in_any_order(self, places: list[int]) -> None:
        encoded = self.encode(textured(5, 48, 32))
        whole, clip = decoded(encoded), encoded.clip
        picked = np.array(places, np.int64)
        some = EncodedClip(clip.codec, clip.units, clip.unit[picked], clip.position[picked])
        assert np.array_equal(decode_clip(some, 48, 32, where), whole[picked])

    def test_threads_decode_at_once(self) -> None:
        sizes = [(48, 32), (33, 47), (64, 64), (16, 20)] * 4
        encoded = [self.encode(textured(4, *size)) for size in sizes]
        alone = [decoded(frames) for frames in encoded]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(decoded, encoded))
        assert all(map(np.array_equal, alone, together))

    # Damage

    @pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.7, 0.95, 1])
    def test_a_cut_unit_is_damaged(self, part: float, capfd: pytest.CaptureFixture[str]) -> None:
        encoded = self.encode(textured(4, 48, 32))
        unit = len(encoded.clip.units) - 1
        data = encoded.clip.units[unit]
        cut = data[: min(int(len(data) * part), len(data) - 1)]
        self.assert_damaged(with_unit(encoded.clip, unit, cut), 48, 32, unit)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("junk", [b"\0" * 999, b"\xff" * 999, b"not a picture", b"\0\0\0\1", b"\0\0\1\0\0\1"])
    def test_junk_is_damaged(self, junk: bytes, capfd: pytest.CaptureFixture[str]) -> None:
        encoded = self.encode(textured(4, 48, 32))
        self.assert_damaged(with_unit(encoded.clip, 0, junk), 48, 32, 0)
        assert capfd.readouterr() == ("", "")

    def test_a_damaged_beginning_is_damaged(self) -> None:
        encoded = self.encode(textured(4, 48, 32))
        data = encoded.clip.units[0]
        self.assert_damaged(with_unit(encoded.clip, 0, bytes(byte ^ 0xA5 for byte in data[:24]) + data[24:]), 48, 32, 0)

    def test_changed_bytes_do_no_harm(self, capfd: pytest.CaptureFixture[str]) -> None:
        """A changed byte may make another picture that decodes (the store has checksums), but never a crash."""
        encoded = self.encode(textured(3, 40, 24))
        data, sound = encoded.clip.units[0], decoded(encoded)
        messages = []
        for place in range(0, len(data), max(1, len(data) // 150)):
            changed = data[:place] + bytes([data[place] ^ (0xFF if place % 2 else 0x10)]) + data[place + 1 :]
            try:
                assert decode_clip(with_unit(encoded.clip, 0, changed), 40, 24, where).shape == sound.shape
            except FrameDamagedError as error:
                messages.append(str(error))
        assert messages
        assert all(message.startswith("frame ") for message in messages)
        assert np.array_equal(decoded(encoded), sound)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(("width", "height"), [(50, 48), (48, 14), (24, 16), (96, 64), (32, 48)])
    def test_another_size_is_damage(self, width: int, height: int) -> None:
        self.assert_damaged(self.encode(textured(2, 48, 32)).clip, width, height, 0)

    def assert_damaged(self, clip: EncodedClip, width: int, height: int, unit: int) -> None:
        """Assert that decoding names a frame of the unit."""
        frames = np.flatnonzero(clip.unit == unit).tolist()
        with pytest.raises(FrameDamagedError) as caught:
            decode_clip(clip, width, height, where)
        assert any(str(caught.value).startswith(f"{where(frame)}: ") for frame in frames), caught.value
        assert len(str(caught.value)) > len(where(frames[0])) + 5

    def test_a_sound_clip_decodes_after_a_damaged_one(self) -> None:
        encoded = self.encode(textured(4, 48, 32))
        sound = decoded(encoded)
        for cut in (10, len(encoded.clip.units[0]) // 2, len(encoded.clip.units[0]) - 1):
            self.assert_damaged(with_unit(encoded.clip, 0, encoded.clip.units[0][:cut]), 48, 32, 0)
            assert np.array_equal(decoded(encoded), sound)


class ScalingContract(CodecContract):
    """Contract of codecs that encode pixels, and so can scale them down."""

    @pytest.mark.parametrize(("width", "height", "size"), [(96, 64, (48, 32)), (64, 96, (32, 48)), (75, 50, (48, 32))])
    def test_a_short_side_scales_down(self, width: int, height: int, size: tuple[int, int]) -> None:
        codec = parse_codec(f"{self.spec}@32")
        assert str(codec) == f"{self.spec}@32"
        source = self.source(textured(3, width, height))
        encoded = codec.encode(source)
        assert (encoded.width, encoded.height) == size
        assert codec.reference(source).shape == (3, size[1], size[0], 3)
        assert psnr(codec.reference(source), decoded(encoded)).min() >= self.floor_db - 6

    @pytest.mark.parametrize("short_side", [48, 64, 1000])
    def test_a_short_side_never_scales_up(self, short_side: int) -> None:
        source = self.source(textured(3, 64, 48))
        encoded = parse_codec(f"{self.spec}@{short_side}").encode(source)
        assert [*encoded.clip.units] == [*self.codec.encode(source).clip.units]


class LossyContract(ScalingContract):
    """Contract of codecs with a quality.

    Attributes:
        better: Spec of the codec with a higher quality.
    """

    better: str

    def test_a_higher_quality_costs_more_bytes_and_loses_less(self) -> None:
        source = self.source(textured(6, 96, 64))
        low, high = (parse_codec(spec).encode(source) for spec in (self.spec, self.better))
        assert sum(map(len, high.clip.units)) > 1.1 * sum(map(len, low.clip.units))
        assert psnr(source.pixels, decoded(high)).mean() > psnr(source.pixels, decoded(low)).mean() + 0.5
