"""MP4 files of the stored H.264, decoded by the libraries that users would pick, each written with care.

They are imported when they are used: none but PyAV has to be installed.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import av

from vclimb.benchmark.peers.clips import PeerClips
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.settings import GOP_FRAMES


def write_videos(dataset: StoredDataset, clips: PeerClips, folder: Path) -> None:
    """Write the stored MP4 file of each video."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, video in enumerate(clips.videos):
        with dataset.open_video(video) as stored:
            (folder / f"{number:05d}.mp4").write_bytes(stored.read())


def load_torchcodec(folder: Path, number: int, frames: list[int]) -> list[Any]:
    decoder = import_module("torchcodec.decoders").VideoDecoder(
        folder / f"{number:05d}.mp4", dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate"
    )
    return list(decoder.get_frames_at(frames).data)


def load_pyav(folder: Path, number: int, frames: list[int]) -> list[Any]:
    """Decode from the last keyframe before each run of frames."""
    pictures: dict[int, Any] = {}
    with av.open(str(folder / f"{number:05d}.mp4")) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.average_rate is not None, "the files have a constant rate"
        assert stream.time_base is not None, "MP4 files have a time base"
        step = 1 / (stream.average_rate * stream.time_base)
        at = -1
        for wanted in sorted(set(frames)):
            if at < 0 or wanted // GOP_FRAMES > at // GOP_FRAMES:
                container.seek(int(wanted * step), stream=stream)
                decoded = container.decode(stream)
            for picture in decoded:
                assert picture.pts is not None, "frames of MP4 files have times"
                at = round(picture.pts / step)
                if at == wanted:
                    pictures[at] = picture.to_ndarray(format="rgb24")
                    break
    return [pictures[frame] for frame in frames]


def load_opencv(folder: Path, number: int, frames: list[int]) -> list[Any]:
    cv2, pictures = import_module("cv2"), {}
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(folder / f"{number:05d}.mp4"), cv2.CAP_FFMPEG)
    for wanted in sorted(set(frames)):
        capture.set(cv2.CAP_PROP_POS_FRAMES, wanted)
        pictures[wanted] = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    capture.release()
    return [pictures[frame] for frame in frames]


def load_decord(folder: Path, number: int, frames: list[int]) -> list[Any]:
    reader = import_module("decord").VideoReader(str(folder / f"{number:05d}.mp4"), num_threads=1)
    return list(reader.get_batch(frames).asnumpy())
