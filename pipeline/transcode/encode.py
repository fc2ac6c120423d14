"""How videos are stored: the settings of a data set, and the ffmpeg command that makes one video of it.

Every stored video is upright and has square pixels, a constant frame rate, even sides, no audio and no metadata.
Settings and source fix the command, and the command fixes the bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from vclimb.pipeline.codecs.encoded import MAX_PIXELS, MAX_SIDE, MIN_SIDE
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.transcode.probe import DEMUXERS, Probe

# Length of an H.264 group of pictures, each decodable alone: a clip of 8 frames touches at most 8 groups.
GOP_FRAMES = 12
CODECS = {
    # codec: (lowest, default, highest quality number, sides are multiples of)
    "jpeg": (2, 5, 31, 2),
    "h264": (0, 23, 51, 16),
}
ENCODERS = {"jpeg": "mjpeg", "h264": "libx264"}
"""Codec -> ffmpeg's encoder."""
# Decoders that keep transparency; ffmpeg's own decoders of these codecs drop it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class EncodeSettings:
    """Settings that decide how every video of a data set is stored. All videos of a data set share them.

    Attributes:
        codec: `jpeg` (motion JPEG, every frame stands alone) or `h264` (12-frame closed groups).
        quality: Quality on ffmpeg's scale: 2 (best) to 31 for JPEG, CRF 0 (lossless) to 51 for H.264.
        short_side: Short side in pixels that larger videos are scaled down to.
        fps: Frames a second. None: each source frame, at the source's average rate.
        max_frames: Greatest number of frames stored of a video. None: all.
        keep_truncated: Whether to store what decodes of a damaged video rather than list it as failed.
    """

    codec: str = "jpeg"
    quality: int = 5
    short_side: int = 256
    fps: Fraction | None = None
    max_frames: int | None = None
    keep_truncated: bool = False

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise SettingsError(f"codec {self.codec!r} is not known; allowed: {', '.join(CODECS)}")
        low, _, high, _ = CODECS[self.codec]
        if not low <= self.quality <= high:
            raise SettingsError(f"quality {self.quality} is out of range; {self.codec} takes {low} (best) to {high}")
        if not MIN_SIDE <= self.short_side <= MAX_SIDE:
            raise SettingsError(f"short side {self.short_side} is out of range; allowed: {MIN_SIDE} to {MAX_SIDE} px")
        if self.fps is not None and not 0 < self.fps <= 240:
            raise SettingsError(f"fps {self.fps} is out of range; allowed: above 0, up to 240")
        if self.max_frames is not None and self.max_frames < 1:
            raise SettingsError(f"max frames {self.max_frames} is out of range; allowed: 1 or more")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values; `from_json` reads them back."""
        return {**asdict(self), "fps": None if self.fps is None else str(self.fps)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> EncodeSettings:
        """The settings that `to_json` wrote."""
        return cls(**{**row, "fps": None if row["fps"] is None else Fraction(row["fps"])})

    def digest(self) -> str:
        """SHA-256 of the settings as canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def difference(self, other: EncodeSettings) -> list[str]:
        """A line for each setting that differs: `name: VALUE before, VALUE now`."""
        before, now = self.to_json(), other.to_json()
        return [f"{name}: {before[name]} before, {now[name]} now" for name in before if before[name] != now[name]]


def default_quality(codec: str) -> int:
    """The quality of a codec where none is given; 0 for an unknown codec, which `EncodeSettings` refuses."""
    return CODECS[codec][1] if codec in CODECS else 0


def parse_rate(rate: str | float | Fraction | None) -> Fraction | None:
    """Frames a second as an exact fraction.

    Raises:
        SettingsError: `rate` is neither a number nor a fraction such as `30000/1001`.
    """
    if rate is None:
        return None
    try:
        return Fraction(str(rate)).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        raise SettingsError(f"fps {rate!r} is not a number; write e.g. 12, 29.97 or 30000/1001") from None


def output_size(probe: Probe, settings: EncodeSettings) -> tuple[int, int]:
    """Width and height of the stored video, in square pixels.

    A video is only scaled down. Its sides are rounded to the codec's multiple (2 for JPEG, 16 for H.264).
    """
    multiple = CODECS[settings.codec][3]
    scale = min(1.0, settings.short_side / min(probe.display_width, probe.display_height))

    def side(length: float) -> int:
        return max(multiple, round(length * scale / multiple) * multiple)

    return side(probe.display_width), side(probe.display_height)


def output_rate(probe: Probe, settings: EncodeSettings) -> Fraction:
    """Frames a second of the stored video."""
    return settings.fps or probe.rate


def expected_frames(probe: Probe, settings: EncodeSettings) -> int:
    """Number of frames that the stored video should have, by the times of the source's packets."""
    frames = max(1, round(probe.duration_seconds * output_rate(probe, settings)))
    return min(frames, settings.max_frames or frames)


def most_frames(probe: Probe, settings: EncodeSettings) -> int:
    """Number of frames after which ffmpeg is stopped, so that a source with contradictory times can't fill the disk."""
    return settings.max_frames or 2 * max(expected_frames(probe, settings), probe.n_packets) + 100


def estimated_bytes(probe: Probe, settings: EncodeSettings) -> int:
    """Estimate the bytes of a stored video, within a factor of two. The estimate serves to plan shards only.

    Bytes per pixel were measured on J-HMDB at 320x240 and are scaled by rules of thumb: JPEG sizes go with
    1 / sqrt(qscale), and H.264 sizes halve with every 6 steps of CRF.
    """
    width, height = output_size(probe, settings)
    frames = expected_frames(probe, settings)
    if settings.codec == "jpeg":
        bytes_per_pixel = 0.12 * (5 / settings.quality) ** 0.5
    else:
        bytes_per_pixel = 0.028 * 2 ** ((23 - settings.quality) / 6)
    return int(frames * width * height * bytes_per_pixel) + 2048


def transcode_argv(binary: str, videos: Sequence[tuple[Path, Path, Probe]], settings: EncodeSettings) -> list[str]:
    """The ffmpeg command that stores one or several videos, each given as (source, target, probe).

    Several short videos share a process, because starting ffmpeg takes a third of the time of a 40-frame clip. The
    bytes are those of separate runs. Sources are opened by absolute `file:` path with only the file protocol and
    only container demuxers allowed, so that a playlist, a concat script or a subtitle reference named `x.mp4`
    opens nothing else.
    """
    outputs = [_output(_source(number), _target(number), video[2], settings) for number, video in enumerate(videos)]
    # No limit on decoding errors: whether enough of a damaged video was decoded is checked afterwards.
    general = ("-nostdin", "-v", "repeat+error", "-filter_threads", "1", "-max_error_rate", "1")
    merged = ffmpeg.merge_outputs(*outputs).global_args(*general)
    # ffmpeg-python refuses names that aren't UTF-8, so the files' names are put in last.
    files = {_source(number): f"file:{source}" for number, (source, _, _) in enumerate(videos)}
    files |= {_target(number): f"file:{target}" for number, (_, target, _) in enumerate(videos)}
    words = map(str, ffmpeg.compile(merged, cmd=binary, overwrite_output=True))
    return [files.get(word, word) for word in words]


def _source(number: int) -> str:
    return f"SOURCE {number}"


def _target(number: int) -> str:
    return f"TARGET {number}"


def _output(source: str, target: str, probe: Probe, settings: EncodeSettings) -> Any:
    decoding: dict[str, Any] = {
        "protocol_whitelist": "file",
        "format_whitelist": DEMUXERS,
        "max_pixels": MAX_PIXELS,
        "threads": 1,
    }
    if probe.is_regular:
        # Replaces the source's times: small gaps (dropped frames, jitter) are evened out, and each frame comes once.
        decoding["r"] = str(probe.rate)
    if probe.has_alpha and probe.codec in _ALPHA_DECODERS:
        decoding["vcodec"] = _ALPHA_DECODERS[probe.codec]
    arguments: dict[str, Any] = {
        "vf": _filters(probe, settings),
        "f": "mp4",
        "avoid_negative_ts": "make_zero",  # a picture may begin after the sound
        "map_metadata": -1,
        "map_chapters": -1,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "threads": 1,
        "frames:v": most_frames(probe, settings),
        **_codec_arguments(settings),
    }
    return ffmpeg.output(ffmpeg.input(source, **decoding)[str(probe.stream_index)], target, **arguments)


def _filters(probe: Probe, settings: EncodeSettings) -> str:
    """The filters of one video, after ffmpeg's autorotation.

    Each video has a separate graph: where the picture's size changes in mid-stream, ffmpeg sets the graph up again and
    drops the frames in it.
    """
    width, height = output_size(probe, settings)
    rate = output_rate(probe, settings)
    filters = []
    if min(probe.display_width, probe.display_height) >= MIN_SIDE:  # bwdif refuses less than 3 lines
        filters.append("bwdif=mode=send_frame:deint=interlaced")
    if probe.has_alpha:  # over black, as players show it
        filters += ["format=gbrap", "premultiply=inplace=1"]
    # With rounding, a video shorter than half a frame's time would have no frame.
    at_end = "pass" if probe.duration_seconds * rate < 1 else "round"
    filters.append(f"fps={rate}:round=near:eof_action={at_end}")
    colour = f"out_color_matrix=bt601:out_range={'full' if settings.codec == 'jpeg' else 'limited'}"
    if probe.colour_is_guessed_hd:
        colour += ":in_color_matrix=bt709"
    filters.append(f"scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int:{colour}")
    filters += ["setsar=1", f"format={'yuvj420p' if settings.codec == 'jpeg' else 'yuv420p'}"]
    return ",".join(filters)


def _codec_arguments(settings: EncodeSettings) -> dict[str, Any]:
    if settings.codec == "jpeg":
        return {"c:v": ENCODERS["jpeg"], "q:v": settings.quality}
    return {
        "c:v": ENCODERS["h264"],
        "crf": settings.quality,
        "preset": "medium",
        "tune": "fastdecode",
        "bf": 0,
        "g": GOP_FRAMES,
        "keyint_min": GOP_FRAMES,
        "sc_threshold": 0,
        "flags:v": "+bitexact+cgop",
        # Type 6 is SEI, where x264 writes its version and thread count. Parameter sets before every key frame make
        # each group of pictures decodable without the mp4's header.
        "bsf:v": "filter_units=remove_types=6,dump_extra=freq=keyframe",
    }
