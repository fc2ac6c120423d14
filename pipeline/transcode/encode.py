"""How videos are stored: size, rate and length of a stored video, and the ffmpeg command that makes it.

Every stored video is upright and has square pixels, a constant frame rate, even sides, no audio and no metadata.
Settings and source fix the command, and the command fixes the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from vclimb.pipeline.codecs.encoded import MAX_PIXELS, MIN_SIDE
from vclimb.pipeline.dataset.settings import CODECS, GOP_FRAMES, EncodeSettings
from vclimb.pipeline.transcode.probe import DEMUXERS, Probe

# Decoders that keep transparency; ffmpeg's own decoders of these codecs drop it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def output_size(probe: Probe, settings: EncodeSettings) -> tuple[int, int]:
    """Width and height of the stored video, in square pixels.

    A video is only scaled down. Its sides are rounded to the codec's multiple (2 for JPEG, 16 for H.264).
    """
    multiple = CODECS[settings.codec].multiple
    scale = min(1.0, settings.short_side / min(probe.display_width, probe.display_height))

    def side(length: float) -> int:
        return max(multiple, round(length * scale / multiple) * multiple)

    return side(probe.display_width), side(probe.display_height)


def output_rate(probe: Probe, settings: EncodeSettings) -> Fraction:
    return settings.fps or probe.rate


def keeps_uneven_times(probe: Probe, settings: EncodeSettings) -> bool:
    """Whether each frame is stored once although the source's are unevenly spaced, so that their times must be kept."""
    return not probe.is_regular and settings.fps is None


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
        bytes_per_pixel = 0.028 * 2 ** ((23 - settings.quality) / 6) * (0.85 if settings.b_frames else 1)
    return int(frames * width * height * bytes_per_pixel) + 2048


def transcode_argv(binary: str, videos: Sequence[tuple[Path, Path, Probe]], settings: EncodeSettings) -> list[str]:
    """The ffmpeg command that stores one or several videos, each given as (source, target, probe).

    Several short videos share a process, because starting ffmpeg takes a third of the time of a 40-frame clip. The
    bytes are those of separate runs. Sources are opened by absolute `file:` path with only the file protocol and
    only container demuxers allowed, so that a playlist, a concat script or a subtitle reference named `x.mp4`
    opens nothing else.
    """
    # ffmpeg-python refuses names that aren't UTF-8, so the files' names are put in last.
    outputs: list[Any] = []
    files: dict[str, str] = {}
    for number, (source, target, probe) in enumerate(videos):
        files |= {f"SOURCE {number}": f"file:{source}", f"TARGET {number}": f"file:{target}"}
        outputs.append(_output(f"SOURCE {number}", f"TARGET {number}", probe, settings))
    # No limit on decoding errors: whether enough of a damaged video was decoded is checked afterwards.
    general = ("-nostdin", "-v", "repeat+error", "-filter_threads", "1", "-max_error_rate", "1")
    merged = ffmpeg.merge_outputs(*outputs).global_args(*general)
    words = map(str, ffmpeg.compile(merged, cmd=binary, overwrite_output=True))
    return [files.get(word, word) for word in words]


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
    if keeps_uneven_times(probe, settings):
        # Prints the frames' times in microseconds to stdout, then evens them out. `print` skips frames without entry.
        filters += ["settb=AVTB", "metadata=mode=add:key=time:value=0", "metadata=mode=print:file=-"]
        filters.append(f"setpts=N/({rate}*TB)")
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
        return {"c:v": CODECS["jpeg"].encoder, "q:v": settings.quality}
    # Type 6 is SEI, where x264 writes its version and thread count. Parameter sets before every key frame make each
    # group of pictures decodable without the mp4's header.
    packets = "filter_units=remove_types=6,dump_extra=freq=keyframe"
    order: dict[str, Any] = {"bf": settings.b_frames}
    if settings.b_frames:
        # As many as possible, none of which another frame refers to. Macroblock trees are for frames that others refer
        # to, of which few are left: without them, frames take fewer bytes and less time to decode.
        order |= {"b_strategy": 0, "b-pyramid": "none", "mbtree": 0, "x264-params": "pbratio=1.1"}
        # The first frame is shown at time 0, although it is decoded before.
        order["avoid_negative_ts"] = "disabled"
        packets += ",setts=pts=PTS-STARTPTS:dts=DTS-STARTPTS"
    return {
        "c:v": CODECS["h264"].encoder,
        "crf": settings.quality,
        "preset": "medium",
        "tune": "fastdecode",
        **order,
        "g": GOP_FRAMES,
        "keyint_min": GOP_FRAMES,
        "sc_threshold": 0,
        "flags:v": "+bitexact+cgop",
        "bsf:v": packets,
    }
