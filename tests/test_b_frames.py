"""H.264 videos with B-frames: a clip decodes none that it doesn't show, and shows the pixels of the whole video."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.dataset.check import check_decodes, frame_ranges
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.dataset.frame_index import VideoRows
from vclimb.pipeline.dataset.picture_order import b_frames, needed_frames
from vclimb.pipeline.dataset.settings import GOP_FRAMES, EncodeSettings
from vclimb.pipeline.errors import SettingsError, VideoError


def shown_order(n_frames: int, between: int) -> tuple[Indices, set[int]]:
    """File positions, in the order of display, of a closed group of pictures as x264 makes it, and its B-frames."""
    anchors = [0, *range(between + 1, n_frames - 1, between + 1), *([n_frames - 1] if n_frames > 1 else [])]
    in_file = [0]
    for before, anchor in itertools.pairwise(anchors):
        in_file += [anchor, *range(before + 1, anchor)]
    return np.argsort(in_file), set(range(n_frames)) - set(anchors)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, GOP_FRAMES), st.integers(0, 10), st.integers(0, 3), st.data())
def test_what_a_frame_refers_to_is_decoded_and_no_other_b_frame(
    n_frames: int, between: int, n_following: int, data: st.DataObject
) -> None:
    order, expected_b = shown_order(n_frames, between)
    starts = np.concatenate([1000 * order + 7, 10**6 + np.arange(n_following)])  # frames of the next video follow
    wanted = np.array(data.draw(st.lists(st.integers(0, n_frames - 1), min_size=1)))
    assert set(np.flatnonzero(b_frames(starts)).tolist()) == expected_b
    decoded, places = needed_frames(starts, wanted)
    assert (np.diff(starts[decoded]) > 0).all()
    assert np.array_equal(np.sort(decoded)[places], wanted)
    anchors = [frame for frame in range(n_frames) if frame not in expected_b]
    needed = set(wanted.tolist())
    for frame in wanted.tolist():
        until = frame if frame in anchors else min(anchor for anchor in anchors if anchor > frame)
        needed |= {anchor for anchor in anchors if anchor <= until}
    assert set(decoded.tolist()) == needed


def decoded_whole(dataset: StoredDataset, video: StoredVideo) -> tuple[list[Any], list[bool]]:
    """RGB pixels of all frames, decoded in one go, and which of them are B-frames."""
    with dataset.open_video(video) as file, av.open(file) as container:
        assert container.streams.video[0].start_time == 0
        frames = list(container.decode(video=0))
    kind = av.video.frame.PictureType.B
    return [frame.to_ndarray(format="rgb24", threads=1) for frame in frames], [f.pict_type == kind for f in frames]


def test_frames_of_a_clip_are_those_of_the_whole_video(h264_folder: Path) -> None:
    dataset = StoredDataset.open(h264_folder)
    assert dataset.settings.b_frames == 3
    random, n_unneeded = np.random.default_rng(0), 0
    for video in dataset.videos:
        whole, is_b = decoded_whole(dataset, video)
        assert len(whole) == video.n_frames
        assert is_b == b_frames(dataset.frame_ranges(video)[:, 0]).tolist()
        rows = VideoRows(video.key, video.codec, video.shard, video.first_frame)
        for n_wanted in (1, 1, 1, 3, 8, video.n_frames):
            wanted = np.sort(random.choice(video.n_frames, min(n_wanted, video.n_frames), replace=False))
            clip = dataset.frame_indices.read_clip(rows, wanted)
            pixels = decode_clip(clip, video.width, video.height, str)
            assert np.array_equal(pixels, [whole[frame] for frame in wanted])
            unwanted = {frame for frame in np.flatnonzero(is_b).tolist() if frame not in wanted}
            bytes_of_unwanted = [dataset.frame_bytes(video, frame)[4:] for frame in unwanted]
            assert not any(data in unit for data in bytes_of_unwanted for unit in clip.units)
            n_unneeded += len(unwanted)
    assert n_unneeded > 100


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("-bf", "3", "-b_strategy", "0", "-b-pyramid", "normal", "-g", "12"), "frame 2 .* is no B-frame"),
        (("-bf", "0", "-g", "6"), "frame 6 .* is no frame that others refer to"),
        (("-bf", "0", "-g", "24"), "frame 12 .* is no key frame"),
    ],
)
def test_a_video_of_another_order_is_refused(
    tmp_path: Path, run_ffmpeg_tool: Callable[..., None], options: tuple[str, ...], problem: str
) -> None:
    video = tmp_path / "video.mp4"
    drawn = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "24", "-pix_fmt", "yuv420p"]
    fixed = ["-keyint_min", options[-1], "-sc_threshold", "0", "-flags:v", "+cgop"]
    run_ffmpeg_tool([*drawn, "-c:v", "libx264", *options, *fixed, str(video)])
    with pytest.raises(VideoError, match=problem):
        check_decodes(video, frame_ranges(str(video)), "h264", 64, 48)


def test_jpeg_has_no_b_frames() -> None:
    with pytest.raises(SettingsError, match="b frames 1 is out of range; jpeg has none"):
        EncodeSettings(b_frames=1)
