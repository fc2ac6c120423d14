"""Timelines of stored videos: as many frames as ffmpeg decodes, their times, segments by these times, and the cases."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import video_cases_uneven  # noqa: F401 - registers its cases
from conftest import prepare_videos
from dataset_cases import InlineExecutor, prepare_table
from video_cases import CASES, count_to, frames_of, reasons
from video_cases_timelines import VARIABLE, VARIABLE_TIMES

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.prepare import PrepareSummary
from vclimb.pipeline.transcode.probe import probe_video

PrepareFolder = Callable[..., PrepareSummary]
SHARED_CASES = Path(__file__).parents[1] / "../shared/cases"
NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def prepare_folder() -> PrepareFolder:
    """Prepare in this process: none of these videos crashes a decoder."""
    return functools.partial(prepare_videos, executor=InlineExecutor())


def passthrough(path: Path, *select: str) -> list[tuple[float, str]]:
    """Time in seconds and MD5 of each frame that ffmpeg itself decodes."""
    command = [find_ffmpeg().path, "-nostdin", "-v", "error", "-i", str(path), *select]
    command += ["-an", "-sn", "-fps_mode", "passthrough", "-enc_time_base", "1:1000000", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()
    rows = [line.split(",") for line in lines if line and not line.startswith("#")]
    return [(int(row[2]) / 1e6, row[-1].strip()) for row in rows]


# The cases beside the source of the project


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("fmp4-declared-longer", {"30.mp4": (30, NTSC, None), "120.mp4": (120, NTSC, None)}),
        ("gif-end-pause", {"pause3.gif": (20, Fraction(200, 49), (*(n / 10 for n in range(20)), 4.9))}),
        ("still-webm-1000fps", {"webm.webm": (1, Fraction(1), None)}),
        ("raw-m4v-packed", {"frame0123.m4v": (5, Fraction(25), None)}),
    ],
)
def test_shared_case(
    case: str,
    expected: dict[str, tuple[int, Fraction, tuple[float, ...] | None]],
    tmp_path: Path,
    prepare_folder: PrepareFolder,
) -> None:
    source = shared_case(case)
    prepare_folder(source, tmp_path / "out")
    dataset = StoredDataset.open(tmp_path / "out")
    stored = {Path(video.source).name: video for video in dataset.videos}
    assert set(stored) == set(expected)
    for name, (n_frames, fps, times) in expected.items():
        video, decoded = stored[name], passthrough(source / "c" / name)
        assert (video.n_frames, video.fps_fraction) == (n_frames, fps)
        assert len(decoded) == n_frames
        assert (video.frame_seconds is None) == (times is None)
        assert times is None or video.frame_seconds == pytest.approx(times)
        distinct = len({frame.tobytes() for frame in frames_of(dataset, video)})
        assert distinct == len({md5 for _, md5 in decoded})


def test_shared_case_of_a_damaged_gif(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    source = shared_case("gif-damaged-end")
    prepare_folder(source, tmp_path / "out")
    assert "only 3 of about 4 frames could be decoded" in next(iter(reasons(tmp_path / "out").values()))
    prepare_folder(source, tmp_path / "kept", keep_truncated=True)
    (video,) = StoredDataset.open(tmp_path / "kept").videos
    assert (video.n_frames, video.fps_fraction) == (3, Fraction(2))


def shared_case(name: str) -> Path:
    folder = SHARED_CASES / name / "source"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder


# Against ffmpeg


def test_uneven_videos_have_the_frames_and_times_that_ffmpeg_gives(
    tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    cases = [case for case in CASES if case.name.startswith(("pause", "slower", "repeated", "variable."))]
    assert len(cases) >= 10
    (tmp_path / "in").mkdir()
    for case in cases:
        case.make(tmp_path / "in" / case.name)
    prepare_folder(tmp_path / "in", tmp_path / "out")
    videos = StoredDataset.open(tmp_path / "out").videos
    assert len(videos) == len(cases)
    for video in videos:
        times = [seconds for seconds, _ in passthrough(tmp_path / "in" / video.source)]
        assert video.frame_seconds is not None
        assert video.frame_seconds[:-1] == pytest.approx([seconds - times[0] for seconds in times], abs=2e-6)


def test_the_stored_video_stream_is_the_one_that_ffmpeg_chooses(tmp_path: Path) -> None:
    cases = [case for case in CASES if case.name.startswith(("larger_", "default_", "cover_", "two_videos"))]
    assert len(cases) == 7
    for case in cases:
        path = tmp_path / case.name
        case.make(path)
        chosen = probe_video(path).stream_index
        assert passthrough(path) == passthrough(path, "-map", f"0:{chosen}"), case.name


# Segments and the end


def variable(folder: Path) -> Path:
    """A video of 12 frames: six at 25 a second, a pause of 1.2 s, six more."""
    folder.mkdir()
    count_to(folder / "pause.mp4", "-fps_mode", "passthrough", filters=VARIABLE)
    return folder


def only_video(out: Path) -> StoredVideo:
    (video,) = StoredDataset.open(out).videos
    return video


def test_segments_in_seconds_fit_to_an_uneven_video(tmp_path: Path) -> None:
    rows = [
        "path,label,t_start,t_end",
        "pause.mp4,before,0,0.2",
        "pause.mp4,during,0.5,1.0",
        "pause.mp4,after,1.44,9",
        "pause.mp4,late,1.7,9",
    ]
    source = variable(tmp_path / "in")
    (source / "videos.csv").write_text("\n".join(rows) + "\n")
    prepare_table(read_source(source), tmp_path / "out")
    dataset = StoredDataset.open(tmp_path / "out")
    ranges = {instance.label: (instance.start_frame, instance.end_frame) for instance in dataset.instances}
    assert ranges == {"before": (0, 5), "during": (5, 6), "after": (6, 12)}
    (reason,) = reasons(tmp_path / "out").values()
    assert "outside the stored video of 1.680 s" in reason


def test_an_uneven_video_that_is_cut_ends_where_the_next_frame_begins(
    tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    prepare_folder(variable(tmp_path / "in"), tmp_path / "out", max_frames=6)
    assert only_video(tmp_path / "out").frame_seconds == pytest.approx(VARIABLE_TIMES[:7])


def test_uneven_videos_give_the_same_bytes_again(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    source = variable(tmp_path / "in")
    shutil.copy(source / "pause.mp4", source / "again.mp4")
    for run in ("1", "2"):
        prepare_folder(source, tmp_path / run / "out")
    files = [path for path in (tmp_path / "1" / "out").iterdir() if path.is_file()]
    assert len(files) == 7
    for path in files:
        assert path.read_bytes() == (tmp_path / "2" / "out" / path.name).read_bytes(), path.name


def test_an_uneven_video_that_changes_its_size_is_refused(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """Its times are printed by two filter graphs, one after the other."""
    source = tmp_path / "in"
    source.mkdir()
    for name, size, offset in (("a", "64x48", "0"), ("b", "96x64", "1.68")):
        output = ("-fps_mode", "passthrough", "-output_ts_offset", offset)
        count_to(source / f"{name}.ts", *output, size=size, filters=VARIABLE)
    (source / "joined.ts").write_bytes((source / "a.ts").read_bytes() + (source / "b.ts").read_bytes())
    (source / "a.ts").unlink()
    (source / "b.ts").unlink()
    prepare_folder(source, tmp_path / "out", keep_truncated=True)
    assert "changes its size" in reasons(tmp_path / "out")["joined.ts"]
