"""Pictures and streams that claim to be huge are refused by their headers: no decoder makes room for them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from vclimb.pipeline.codecs import codecs, decode_clip
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame
from vclimb.pipeline.codecs.tiny_video import VideoCodec
from vclimb.pipeline.errors import FrameDamagedError

SMALL, LARGE = (48, 64), (1024, 1024)


def encoded(name: str, size: tuple[int, int]) -> bytes:
    codec = codecs()[name]
    number = 0.0 if codec.scale is None else codec.scale.default
    return codec.encode(np.full((1, *size, 3), 90, np.uint8), number).units[0]  # type: ignore[attr-defined, no-any-return]


def claiming(name: str, width: int, height: int) -> bytes:
    """Write other sides into the header of a small picture."""
    data = bytearray(encoded(name, SMALL))
    if name == "jpeg":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    elif name == "webp":
        start = data.index(b"\x9d\x01\x2a") + 3
        data[start : start + 4] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    else:
        start = data.index(b"ispe") + 8
        data[start : start + 8] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


def decode(name: str, data: bytes) -> np.ndarray:
    clip = one_unit_a_frame(codecs()[name].clip_codec, [data])
    return decode_clip(clip, SMALL[1], SMALL[0], lambda place: f"frame {place}")


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl", "raw", "h264", "h265", "av1"])
def test_a_larger_picture_than_the_index_says(name: str) -> None:
    with pytest.raises(FrameDamagedError, match=r"^frame 0: "):
        decode(name, encoded(name, LARGE))
    assert decode(name, encoded(name, SMALL)).shape == (1, *SMALL, 3)  # the next one is decoded as ever


@pytest.mark.parametrize("name", ["h264", "h265", "av1"])
def test_a_decoder_of_video_refuses_a_larger_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg refuses it: no picture comes out whose size is compared."""
    data = encoded(name, LARGE)
    monkeypatch.setattr(VideoCodec, "_rgb", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(FrameDamagedError, match=r"^frame 0: "):
        decode(name, data)


SIDES = {"jpeg": [(65_500, 65_500), (16_384, 8192)], "webp": [(16_383, 16_383), (16_383, 64)]}
CLAIMS = {**SIDES, "avif": [(2**31 - 1, 2**31 - 1), (16_384, 16_384), (64, 4096)]}


@pytest.mark.parametrize(("name", "sides"), [(name, sides) for name, all_ in CLAIMS.items() for sides in all_])
def test_a_header_that_claims_a_huge_picture(name: str, sides: tuple[int, int]) -> None:
    with pytest.raises(FrameDamagedError, match=r"^frame 0: "):
        decode(name, claiming(name, *sides))


def test_no_room_is_made_for_what_headers_claim() -> None:
    """All huge claims are decoded in a process that may use 300 MB more; each would take 0.4 GB or more."""
    code = f"""
import resource, sys
sys.path.insert(0, {__file__.rpartition("/")[0]!r})
from test_codec_bombs import CLAIMS, claiming, decode, encoded
from vclimb.pipeline.errors import FrameDamagedError

bombs = [(name, claiming(name, *sides)) for name, all_ in CLAIMS.items() for sides in all_]
bombs += [(name, encoded(name, (4096, 4096))) for name in ("h264", "av1")]
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
for name, data in bombs:
    try:
        decode(name, data)
    except FrameDamagedError as error:
        print(name, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == sum(map(len, CLAIMS.values())) + 2


def test_more_frames_than_fit_in_memory() -> None:
    numbers = np.zeros(2**40 // 2**20, np.int64)
    clip = EncodedClip("jpeg", [b""], numbers, numbers)
    says: Callable[[int], str] = "frame {} of m.zarr".format
    with pytest.raises(FrameDamagedError, match=re.escape("frame 0 of m.zarr: ")):
        decode_clip(clip, 2**13, 2**13, says)
