"""Properties of plans, sizes, settings and the shard writer, over many made-up inputs."""

from __future__ import annotations

import io
import itertools
import json
import math
import tarfile
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import webdataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from source_cases import by_class_and_key

from vclimb.pipeline.codecs.encoded import MAX_SIDE, MIN_SIDE
from vclimb.pipeline.dataset.frame_times import FrameTimes
from vclimb.pipeline.dataset.settings import CODECS, EncodeSettings, parse_rate
from vclimb.pipeline.dataset.shard import ShardWriter, shard_paths
from vclimb.pipeline.errors import SettingsError, VideoError
from vclimb.pipeline.sizes import parse_size
from vclimb.pipeline.sources.keys import MAX_KEY_BYTES, is_key, make_key
from vclimb.pipeline.sources.table import Instance, SourceVideo, SourceVideos
from vclimb.pipeline.transcode.encode import estimated_bytes
from vclimb.pipeline.transcode.plan import PLAN, Plan, PlannedShard, PlannedVideo
from vclimb.pipeline.transcode.planning import Planning, cut_shards, spread_over_classes
from vclimb.pipeline.transcode.probe import Probe

quickly = settings(deadline=None, max_examples=60)

PLANNED = TypeAdapter(PlannedShard)
labels = st.sampled_from(["archery", "bowling", "Zumba", "a b", ""])
times = st.none() | st.floats(0, 1e5)


@st.composite
def source_videos(draw: st.DrawFn) -> list[SourceVideo]:
    """Videos with distinct keys, some of several classes and some of none."""
    paths = draw(st.lists(st.text("abcé/ .", min_size=1, max_size=8), unique=True, max_size=30))
    videos = []
    for number, path in enumerate(paths):
        instances = draw(st.lists(st.builds(Instance, labels, st.just("train"), times, times), max_size=2))
        videos.append(SourceVideo(path, make_key(f"{path}{number}"), tuple(instances), draw(st.none() | labels)))
    return videos


@st.composite
def planned_videos(draw: st.DrawFn) -> list[PlannedVideo]:
    videos = draw(source_videos())
    sides, seconds = st.integers(1, 4000), st.floats(0.01, 1e5)
    return [PlannedVideo(video, probe(draw(sides), draw(sides), draw(seconds))) for video in videos]


def probe(width: int, height: int, seconds: float) -> Probe:
    return Probe(0, "h264", width, height, 100, seconds, None, Fraction(30000, 1001), True, False, False, 1000, 0)


@st.composite
def encode_settings(draw: st.DrawFn) -> EncodeSettings:
    codec = draw(st.sampled_from(sorted(CODECS)))
    low, high = CODECS[codec].best, CODECS[codec].worst
    return EncodeSettings(
        codec=codec,
        quality=draw(st.integers(low, high)),
        short_side=draw(st.integers(MIN_SIDE, MAX_SIDE)),
        fps=draw(st.none() | st.fractions(Fraction(1, 1001), 240, max_denominator=1001)),
        max_frames=draw(st.none() | st.integers(1, 10**6)),
        keep_truncated=draw(st.booleans()),
        b_frames=draw(st.integers(0, CODECS[codec].most_b_frames)),
    )


@quickly
@given(st.lists(st.integers(1, 10**8)), st.integers(1, 10**8))
def test_shards_hold_every_video_once_in_order(sizes: list[int], shard_bytes: int) -> None:
    shards = [sizes[cut] for cut in cut_shards(sizes, shard_bytes)]
    assert [size for shard in shards for size in shard] == sizes
    for shard, following in itertools.zip_longest(shards, shards[1:]):
        assert shard
        assert sum(shard) <= shard_bytes or len(shard) == 1
        if following is not None:  # the next video did not fit
            assert sum(shard) + following[0] > shard_bytes


@quickly
@given(planned_videos(), encode_settings(), st.integers(1, 10**8), st.randoms())
def test_a_plan_on_disk_is_the_plan(
    videos: list[PlannedVideo], stored_as: EncodeSettings, shard_bytes: int, random: Random
) -> None:
    """Whatever order the probes come in."""
    todo = SourceVideos.of(planned.video for planned in videos).in_order()
    assert list(todo) == sorted((planned.video for planned in videos), key=by_class_and_key)
    probes: dict[str, Probe | VideoError] = {planned.video.key: planned.probe for planned in videos}
    failed = [video for video in todo if video.group]
    probes |= {video.key: VideoError("probe", "“no” video\n") for video in failed}
    found = [(place, probes[video.key]) for place, video in enumerate(todo)]
    random.shuffle(found)
    stored = [PlannedVideo(v, probe) for v in todo if isinstance(probe := probes[v.key], Probe)]
    cuts = cut_shards([estimated_bytes(planned.probe, stored_as) for planned in stored], shard_bytes)
    shards = [PlannedShard(number, tuple(stored[cut])) for number, cut in enumerate(cuts, 7)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert Plan.read(folder) is None
        written = Planning(stored_as, "name", shard_bytes, 7).write(todo, found, folder, folder)
        assert [path.name for path in folder.iterdir()] == [PLAN]
        lines = (folder / PLAN).read_bytes().splitlines()[1:-1]
        assert lines == [json.dumps(PLANNED.dump_python(shard, mode="json")).encode() for shard in shards]
        read = Plan.read(folder)
        assert read is not None
        for plan in (written, read):
            assert (plan.settings, plan.name, list(plan.shards)) == (stored_as, "name", shards)
            assert [error.path for error in plan.errors] == [video.path for video in failed]
            assert plan.n_videos == len(stored)
            assert list(plan.shards.without({7})) == shards[1:]
            assert list(plan.shards[1:]) == shards[1:]
            assert plan.shards.numbered(7) == (shards[0] if shards else None)
            assert plan.shards.numbered(99_999) is None


@quickly
@given(source_videos(), st.integers(0, 40))
def test_a_limit_takes_from_all_classes_alike_and_a_larger_one_more(videos: list[SourceVideo], limit: int) -> None:
    table = SourceVideos.of(videos)
    chosen = list(spread_over_classes(table, limit))
    assert len(chosen) == min(limit, len(videos))
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(videos)
    assert list(spread_over_classes(table, limit + 1))[:limit] == chosen
    assert list(spread_over_classes(table[::-1], limit)) == chosen
    taken, there = (Counter(by_class_and_key(video)[0] for video in some) for some in (chosen, videos))
    most = max(taken.values(), default=0)
    for label, count in there.items():  # a class has two fewer than another only where it has no more videos
        assert taken[label] >= min(count, most - 1)


@quickly
@given(
    st.builds(Instance, labels, st.none(), times, times),
    st.fractions(Fraction(1, 10), 240, max_denominator=1001),
    st.integers(1, 10**6),
)
def test_frame_range_is_clipped_and_covers_the_seconds(instance: Instance, fps: Fraction, n_frames: int) -> None:
    start, end = FrameTimes(fps, n_frames, None).between(instance.start_seconds, instance.end_seconds)
    assert start >= 0
    assert end <= n_frames
    start_seconds, end_seconds = instance.start_seconds or 0.0, instance.end_seconds
    if start_seconds == 0:
        assert start == 0
    if end_seconds is None:
        assert end == n_frames
    if start < end:  # the first frame is shown at the start, the last one just before the end
        assert start / fps <= start_seconds + 1e-6
        assert (start + 1) / fps > start_seconds
        if end < n_frames:
            assert end / fps >= end_seconds - 1e-6
        if end_seconds is not None:
            assert (end - 1) / fps < end_seconds


@quickly
@given(st.integers(1, 10**5), st.integers(1, 10**5), st.sampled_from(["24000/1001", "25", "30000/1001", "30", "60"]))
def test_frame_range_finds_the_frames_that_seconds_were_made_from(first: int, length: int, rate: str) -> None:
    fps = Fraction(rate)
    segment = float(first / fps), float((first + length) / fps)
    assert FrameTimes(fps, 10**6, None).between(*segment) == (first, first + length)


@quickly
@given(
    st.sampled_from([Fraction(12), Fraction(25), Fraction(30000, 1001), Fraction(30)]),
    st.integers(1, 300),
    *[st.none() | st.integers(0, 20_000).map(lambda milliseconds: milliseconds / 1000)] * 2,
)
def test_even_frames_have_the_same_range_with_and_without_their_times(
    fps: Fraction, n_frames: int, start: float | None, end: float | None
) -> None:
    shown = tuple(float(number / fps) for number in range(n_frames + 1))
    even, listed = (FrameTimes(fps, n_frames, seconds).between(start, end) for seconds in (None, shown))
    assert even == listed or (even[0] >= even[1] and listed[0] >= listed[1])


@pytest.mark.parametrize(
    ("segment", "frames"),
    [
        ((None, None), (0, 4)),
        ((0.0, 0.1), (0, 1)),
        ((0.05, 0.15), (0, 2)),
        ((0.1, 3.0), (1, 3)),
        ((1.0, 2.0), (2, 3)),
        ((2.9, 3.0), (2, 3)),
        ((3.0, 99.0), (3, 4)),
        ((3.099, None), (3, 4)),
        ((None, 0.01), (0, 1)),
    ],
)
def test_segments_of_uneven_frames_are_found_by_their_times(
    segment: tuple[float | None, float | None], frames: tuple[int, int]
) -> None:
    """Four frames, the third of which is shown for 2.8 s."""
    assert FrameTimes(Fraction(40, 31), 4, (0.0, 0.1, 0.2, 3.0, 3.1)).between(*segment) == frames


def test_a_segment_after_uneven_frames_holds_none() -> None:
    start, end = FrameTimes(Fraction(40, 31), 4, (0.0, 0.1, 0.2, 3.0, 3.1)).between(3.1, 9.0)
    assert start >= end


@quickly
@given(st.integers(1, 10**18 - 1), st.sampled_from(["", "B", "b", " B", " "]))
def test_sizes_are_exact(size: int, unit: str) -> None:
    assert parse_size(f"{size}{unit}") == size


SIZES = {"1kB": 10**3, "256MB": 256 * 10**6, "1.5GiB": 3 * 2**29, "0.25 k": 250, "3 MiB": 3 * 2**20, "2G": 2 * 10**9}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "0", "0.0001", "-1", "1e9", "1TB", "1 000", "nan", "9" * 5000, "٣", "1..5"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"e\.g\. 256MB or 1GiB"):
        parse_size(text)


@quickly
@given(st.fractions(Fraction(1, 100), 240, max_denominator=1001))
def test_rates_are_exact(rate: Fraction) -> None:
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "fast", "30/0", "nan", "inf", "30000/1001/2", "1/2.5"])
def test_invalid_rates_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a number; write e\.g\. 12, 29\.97 or 30000/1001"):
        parse_rate(text)


def test_rates_of_decimals_are_near_and_none_is_none() -> None:
    assert parse_rate(None) is None
    assert parse_rate("12.5") == Fraction(25, 2)
    assert math.isclose(parse_rate("29.97") or 0, 29.97, abs_tol=1e-6)


@quickly
@given(encode_settings(), encode_settings())
def test_settings_survive_json_and_tell_their_differences(ours: EncodeSettings, theirs: EncodeSettings) -> None:
    assert TypeAdapter(EncodeSettings).validate_json(json.dumps(ours.to_json())) == ours
    assert ours.difference(ours) == []
    assert (ours.digest() == theirs.digest()) == (ours == theirs) == (ours.difference(theirs) == [])
    for line in ours.difference(theirs):
        name = line.partition(":")[0]
        assert line == f"{name}: {ours.to_json()[name]} before, {theirs.to_json()[name]} now"


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("codec", "av1", "jpeg, h264"),
        ("quality", 1, "2 (best) to 31"),
        ("quality", 32, "2 (best) to 31"),
        ("short_side", 15, "16 to 8192 px"),
        ("short_side", 8193, "16 to 8192 px"),
        ("fps", Fraction(0), "above 0, up to 240"),
        ("fps", Fraction(241), "above 0, up to 240"),
        ("max_frames", 0, "1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: object, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        EncodeSettings(**{setting: value})  # type: ignore[arg-type]
    assert setting.replace("_", " ") in str(caught.value)
    assert str(value) in str(caught.value)
    assert allowed in str(caught.value)


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, bytes, bytes, list[int]]]:
    """Key, mp4, json, and sizes of frames that lie one after another in the mp4."""
    names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=120)
    keys = draw(st.lists(names.map(make_key), unique=True, min_size=1, max_size=5))
    contents = st.binary(min_size=1, max_size=1500)
    sizes = st.lists(st.integers(1, 40), min_size=1, max_size=10)
    return [(key, draw(contents), draw(contents), draw(sizes)) for key in keys]


@quickly
@given(members())
def test_what_is_written_to_a_shard_is_read_back(videos: list[tuple[str, bytes, bytes, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        placed = []
        with ShardWriter(folder, "shard") as writer:
            for key, mp4, metadata, sizes in videos:
                assert is_key(key)
                assert len(key) <= MAX_KEY_BYTES
                (folder / "video").write_bytes(mp4)
                index = np.array([(sum(sizes[:i]), size, 7 * i) for i, size in enumerate(sizes)], np.int64)
                placed.append(writer.add(key, folder / "video", metadata, index))
            files = writer.finish()
        tar, idx, frames = shard_paths(folder, "shard")
        whole = tar.read_bytes()
        assert (files.tar_bytes, files.n_videos, files.n_frames) == (
            len(whole),
            len(videos),
            sum(len(sizes) for _, _, _, sizes in videos),
        )
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            read = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
        assert read == [
            entry for key, mp4, metadata, _ in videos for entry in ((f"{key}.mp4", mp4), (f"{key}.json", metadata))
        ]

        head, *lines = idx.read_text("ascii").splitlines()
        assert head == f"v1.2 {len(videos)}"
        for line, (key, mp4, metadata, _) in zip(lines, videos, strict=True):
            words = line.split(" ")
            for (suffix, offset, size, member), content in zip((words[:4], words[4:]), (mp4, metadata), strict=True):
                assert member == f"{key}.{suffix}"
                assert whole[int(offset) : int(offset) + int(size)] == content

        table = np.load(frames)
        assert table.dtype == np.int64
        first = 0
        for (_, mp4, _, sizes), (offset, first_frame) in zip(videos, placed, strict=True):
            assert whole[offset : offset + len(mp4)] == mp4
            assert first_frame == first
            rows = table[first : first + len(sizes)]
            assert (rows[:, 0] - offset).tolist() == [sum(sizes[:i]) for i in range(len(sizes))]
            assert rows[:, 1].tolist() == sizes
            assert rows[:, 2].tolist() == [7 * i for i in range(len(sizes))]
            first += len(sizes)
        assert first == len(table)


AWKWARD_NAMES = ("__init__/v", "__v__", "_", "=", "@a", "+b", ",c", "~", "a~b", "v.mp4", "a/b.c/d", "..", "CON", "é")


@quickly
@given(members())
@example([(make_key(name), b"mp4", b"{}", [1]) for name in AWKWARD_NAMES])
def test_webdataset_reads_every_key_that_a_video_can_have(videos: list[tuple[str, bytes, bytes, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ShardWriter(folder, "shard") as writer:
            for key, mp4, metadata, sizes in videos:
                (folder / "video").write_bytes(mp4)
                writer.add(key, folder / "video", metadata, np.ones((len(sizes), 3), np.int64))
            writer.finish()
        reader = webdataset.WebDataset(str(folder / "shard.tar"), shardshuffle=False)
        samples = [(sample["__key__"], sample["mp4"], sample["json"]) for sample in reader]
        assert samples == [(key, mp4, metadata) for key, mp4, metadata, _ in videos]
