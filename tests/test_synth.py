"""The built-in data set: the same frames everywhere, nothing shared by train and test, and interrupted runs."""

from __future__ import annotations

import colorsys
import csv
import fcntl
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_cases import RunningCommand, digests, vclimb, vclimb_json
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_cases import read_sealed, write_sealed
from typer.testing import CliRunner

from vclimb.cli.main import app
from vclimb.pipeline.errors import FfmpegMissingError, SettingsError, TargetBusyError, TargetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.synth import dataset as synth_dataset
from vclimb.pipeline.synth.backdrops import BACKDROPS
from vclimb.pipeline.synth.dataset import (
    HEADER,
    MAX_SEED,
    TABLE,
    SynthSettings,
    SynthSummary,
    frames_digest,
    write_dataset,
)
from vclimb.pipeline.synth.random_numbers import RandomNumbers
from vclimb.pipeline.synth.render import render_clip
from vclimb.pipeline.synth.scenes import CLASS_NAMES, CLASSES, SPLITS, STYLES, Clip, Style
from vclimb.pipeline.synth.shapes import HUES, SHAPES, SINE_BITS, TEXTURES, TURN, UNIT, colour_of, sine
from vclimb.pipeline.transcode.ffmpeg import Ffmpeg, find_ffmpeg
from vclimb.pipeline.transcode.probe import probe_video

SMALL = SynthSettings(classes=2, train=3, test=2)
clips = st.builds(
    Clip, st.integers(0, MAX_SEED), st.integers(0, len(CLASSES) - 1), st.sampled_from(SPLITS), st.integers(0, 200)
)


def write(out: Path, settings: SynthSettings = SMALL, ffmpeg: Ffmpeg | None = None) -> SynthSummary:
    return write_dataset(out, settings, ffmpeg or find_ffmpeg(), 2, lambda done, total: None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "small"
    write(out)
    return out


def arguments(out: Path) -> list[str | Path]:
    return ["synth", out, "--classes", "2", "--train", "3", "--test", "2"]


class TestFrames:
    def test_are_the_same_on_every_machine(self) -> None:
        # A change of these digests changes every data set drawn so far: raise `_DRAWING` with it.
        frame_digests = [
            frames_digest(render_clip(Clip(7, number, split, 1))) for number, split in ((0, "train"), (7, "test"))
        ]
        assert frame_digests == [
            "e8560671086b843f7970c332f446ca5ef3c8cc5e581c89a6ca22a6b0894d4359",
            "e17a71e726448f949edd8a0ba6400a5bdb715ae5a704062240a9779c5cdebbe7",
        ]

    def test_are_the_same_in_a_fresh_process_with_other_vector_units(self) -> None:
        clip = Clip(3, 5, "test", 2)
        code = (
            "from vclimb.pipeline.synth.dataset import frames_digest\n"
            "from vclimb.pipeline.synth.render import render_clip\n"
            f"from vclimb.pipeline.synth.scenes import Clip; print(frames_digest(render_clip({clip!r})))"
        )
        enabled = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index]
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(enabled), "PYTHONHASHSEED": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == frames_digest(render_clip(clip))

    @given(clips)
    @settings(deadline=None, max_examples=12)
    def test_fit_their_description(self, clip: Clip) -> None:
        state = np.random.get_state()[1].tolist()
        frames, scene = render_clip(clip), clip.scene()
        assert frames.dtype == np.uint8
        assert frames.shape == (clip.n_frames(), scene.height, scene.width, 3)
        assert scene.width % 2 == scene.height % 2 == 0
        assert len(frames) + 1 > scene.rate
        assert len(frames) <= 2.5 * scene.rate
        assert (frames[0] != frames[-1]).mean() > 0.5
        assert np.random.get_state()[1].tolist() == state

    def test_depend_on_every_part_of_the_clips_name(self) -> None:
        clip = Clip(0, 0, "train", 0)
        others = [
            replace(clip, seed=1),
            replace(clip, class_number=1),
            replace(clip, split="test"),
            replace(clip, index=1),
        ]
        assert len({frames_digest(render_clip(one)) for one in (clip, *others)}) == 5

    def test_show_the_class_in_shape_and_texture_alone(self) -> None:
        """A nearest neighbour by mean colour is as good as a guess."""
        settings = SynthSettings(classes=4, train=4, test=3)
        colours = {clip: render_clip(clip).mean((0, 1, 2)) for clip in settings.clips()}
        train = [clip for clip in colours if clip.split == "train"]
        test = [clip for clip in colours if clip.split == "test"]
        nearest = [min(train, key=lambda other: float(np.abs(colours[other] - colours[clip]).sum())) for clip in test]
        assert np.mean([a.label == b.label for a, b in zip(test, nearest, strict=True)]) < 0.55


class TestSplits:
    def test_styles_share_no_value(self) -> None:
        train, test = STYLES["train"], STYLES["test"]
        for name in ("sectors", "backdrops"):
            assert not set(getattr(train, name)) & set(getattr(test, name))
        for one, other in product((*train.radii,), (*test.radii,)):
            assert not set(one) & set(other)
        for one, other in product((*train.cells,), (*test.cells,)):
            assert not set(one) & set(other)
        for name in ("speeds", "spins", "pans"):
            assert not set(getattr(train, name)) & set(getattr(test, name))
        assert train.orbits != test.orbits
        assert {*train.backdrops, *test.backdrops} == set(BACKDROPS)

    def test_hues_are_apart(self) -> None:
        def hues(style: Style) -> set[int]:
            return {style.hue(position) for position in range(3 * style.n_hues)}

        train, test = hues(STYLES["train"]), hues(STYLES["test"])
        assert len(train) == STYLES["train"].n_hues
        assert min(abs(one - other) for one in train for other in test) > HUES // 60

    @given(st.integers(0, MAX_SEED), st.integers(0, 50), st.integers(0, 50))
    @settings(deadline=None, max_examples=30)
    def test_no_scene_of_train_comes_again_in_test(self, seed: int, train: int, test: int) -> None:
        ours, theirs = Clip(seed, 0, "train", train), Clip(seed, 0, "test", test)
        assert ours.group != theirs.group
        assert not set(ours.scene().backdrop_colours) & set(theirs.scene().backdrop_colours)
        assert not set(ours.scene().looks) & set(theirs.scene().looks)

    def test_a_scene_films_every_class_once(self) -> None:
        listed = SynthSettings(classes=16, train=3, test=2).clips()
        groups = {clip.group: [other for other in listed if other.group == clip.group] for clip in listed}
        assert len(groups) == 5
        for members in groups.values():
            assert sorted(clip.label for clip in members) == sorted(CLASS_NAMES["appearance"])
            assert len({clip.scene() for clip in members}) == 1
            assert len({clip.split for clip in members}) == 1

    @pytest.mark.parametrize("n_classes", [4, 8, 12, 16])
    def test_neither_shape_nor_texture_alone_tells_the_class(self, n_classes: int) -> None:
        textures, shapes = zip(*CLASSES[:n_classes], strict=True)
        assert (
            {textures.count(name) for name in TEXTURES} == {shapes.count(name) for name in SHAPES} == {n_classes // 4}
        )

    def test_more_clips_leave_the_others_as_they_are(self) -> None:
        more = SynthSettings(classes=5, train=9, test=4).clips()
        assert set(SynthSettings(classes=3, train=8, test=2).clips()) < set(more)


class TestIntegerArithmetic:
    def test_no_sine_is_near_a_half_before_it_is_rounded(self) -> None:
        exact = [math.sin(2 * math.pi * angle / TURN) * (1 << SINE_BITS) for angle in range(TURN)]
        assert min(abs(value % 1 - 0.5) for value in exact) > 1e-4
        assert all(abs(sine(angle) - value) <= 0.5 for angle, value in enumerate(exact))

    @given(st.integers(0, HUES - 1), st.integers(0, 255), st.integers(0, 255))
    def test_colours_are_those_of_the_hsv_model(self, hue: int, saturation: int, value: int) -> None:
        exact = colorsys.hsv_to_rgb(hue / HUES, saturation / 255, value / 255)
        assert np.allclose(colour_of(hue, saturation, value), np.array(exact) * 255, atol=1.01)

    def test_objects_reach_no_further_than_their_radius_and_have_two_colours(self) -> None:
        v, u = np.mgrid[-1100:1101:8, -1100:1101:8].astype(np.int32)
        for shape, texture in product(SHAPES.values(), TEXTURES.values()):
            inside = shape(u, v)
            assert not inside[u * u + v * v > (UNIT + 8) ** 2].any()
            assert 0.15 < inside[u * u + v * v <= UNIT**2].mean() < 0.75
            assert 0.3 < texture(u, v, 350)[inside].mean() < 0.7

    @given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.integers(1, 1000))
    def test_draws_are_in_range(self, chain: list[int], limit: int) -> None:
        rng = RandomNumbers(*chain)
        assert all(0 <= rng.below(limit) < limit for _ in range(100))
        assert {rng.among(range(3), range(7, 9)) for _ in range(200)} == {0, 1, 2, 7, 8}
        array = rng.array(limit, (3, 40))
        assert array.shape == (3, 40)
        assert ((array >= 0) & (array < limit)).all()


class TestFiles:
    def test_are_what_the_table_says(self, written: Path) -> None:
        with open(written / TABLE, newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["path", "label", "split", "group"]
        assert sorted(row["path"] for row in rows) == sorted(
            str(path.relative_to(written)) for path in written.rglob("*.*") if path.name not in (HEADER, TABLE)
        )
        table = read_source(written)
        assert table.layout == "table"
        assert not table.missing
        listed = {
            (video.path, video.instances[0].label, video.instances[0].split, video.group) for video in table.videos
        }
        assert listed == {(clip.path, clip.label, clip.split, clip.group) for clip in SMALL.clips()}

    def test_probe_as_they_were_drawn_and_vary(self, written: Path) -> None:
        probes = {clip: probe_video(written / clip.path) for clip in SMALL.clips()}
        for clip, probe in probes.items():
            scene = clip.scene()
            assert (probe.display_width, probe.display_height) == (scene.width, scene.height)
            assert probe.n_packets == clip.n_frames()
            assert probe.rate == scene.rate
            assert probe.is_regular
            assert probe.duration_seconds == pytest.approx(clip.n_frames() / scene.rate, abs=0.5 / scene.rate)
        assert {probe.codec for probe in probes.values()} == {"h264", "mpeg4", "vp9"}
        assert len({probe.rate for probe in probes.values()}) >= 3
        assert len({(probe.display_width, probe.display_height) for probe in probes.values()}) >= 3

    def test_show_the_frames_that_were_drawn(self, written: Path) -> None:
        av = pytest.importorskip("av")
        for clip in SMALL.clips()[:3]:
            with av.open(written / clip.path) as container:
                decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
            error = np.abs(decoded.astype(int) - render_clip(clip)).mean((1, 2, 3))
            assert error.max() < 12, f"{clip.path}: frame {error.argmax()}"

    def test_digest_can_be_checked_by_hand(self, written: Path) -> None:
        lines = sorted((clip.path, frames_digest(render_clip(clip))) for clip in SMALL.clips())
        digest = hashlib.sha256("".join(f"{digest}  {path}\n" for path, digest in lines).encode()).hexdigest()
        assert json.loads((written / HEADER).read_text())["frames_sha256"] == digest

    def test_digest_goes_with_the_seed(self, written: Path, tmp_path: Path) -> None:
        tiny = SynthSettings(classes=2, train=1, test=1)
        same, other = write(tmp_path / "a", tiny), write(tmp_path / "b", replace(tiny, seed=1))
        assert same.frames_sha256 != other.frames_sha256
        # The same clips are in the larger set, byte for byte.
        for clip in tiny.clips():
            assert (tmp_path / "a" / clip.path).read_bytes() == (written / clip.path).read_bytes()


class TestGoingOn:
    def test_keeps_what_is_there_and_draws_what_is_missing(self, written: Path, tmp_path: Path) -> None:
        before = digests(written)
        out = Path(shutil.copytree(written, tmp_path / "out"))
        gone = [clip for clip in SMALL.clips() if clip.index == 1]
        for clip in gone:
            (out / clip.path).unlink()
        kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name not in (HEADER, TABLE)}
        summary = write(out)
        assert (summary.drawn, summary.kept) == (len(gone), len(kept))
        assert digests(out) == before
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        assert write(out).drawn == 0

    def test_knows_the_digest_of_clips_that_an_earlier_run_drew(self, written: Path, tmp_path: Path) -> None:
        out = Path(shutil.copytree(written, tmp_path / "out"))
        header = read_sealed(out / HEADER)
        write_sealed(out / HEADER, {**header, "frames_sha256": None})
        (out / TABLE).unlink()
        (out / SMALL.clips()[3].path).unlink()
        assert write(out).frames_sha256 == header["frames_sha256"]
        assert digests(out) == digests(written)

    def test_refuses_other_settings(self, written: Path) -> None:
        before = digests(written)
        with pytest.raises(SettingsError, match=r"train 3 before, 4 now; seed 0 before, 9 now"):
            write(written, replace(SMALL, train=4, seed=9))
        assert digests(written) == before

    def test_refuses_another_way_of_drawing(self, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(synth_dataset, "_DRAWING", 99)
        with pytest.raises(SettingsError, match="drawing 1 before, 99 now"):
            write(written)

    def test_refuses_a_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("dear")
        with pytest.raises(TargetError, match=r"'thesis\.tex' and 0 more"):
            write(tmp_path)
        assert digests(tmp_path) == {"thesis.tex": hashlib.sha256(b"dear").hexdigest()}

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, {"settings": 3, "frames_sha256": None}]
    )
    def test_refuses_a_damaged_header(self, tmp_path: Path, content: bytes | dict[str, Any]) -> None:
        if isinstance(content, bytes):
            (tmp_path / HEADER).write_bytes(content)
        else:
            write_sealed(tmp_path / HEADER, content)
        with pytest.raises(TargetError, match="not from a run of ours, or damaged"):
            write(tmp_path)

    def test_refuses_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("")
        with pytest.raises(TargetError, match="can't be a folder"):
            write(tmp_path / "out")

    def test_refuses_a_folder_that_another_run_writes_to(self, tmp_path: Path) -> None:
        handle = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with pytest.raises(TargetBusyError, match="another run"):
                write(tmp_path)
        finally:
            os.close(handle)
        assert digests(tmp_path) == {}


class TestStopping:
    @pytest.mark.parametrize(
        ("number", "status"),
        [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)],
        ids=["kill", "int", "term"],
    )
    def test_leaves_whole_files_only_and_can_go_on(
        self, written: Path, tmp_path: Path, number: signal.Signals, status: int
    ) -> None:
        running = RunningCommand(*arguments(tmp_path))
        assert running.wait_until(lambda: len(list(tmp_path.glob("videos/*/*"))) >= 2)
        running.process.send_signal(number)
        _, stderr = running.process.communicate(timeout=120)
        assert running.process.returncode == status
        assert running.wait_until_alone() == []
        assert "Traceback" not in stderr
        if number != signal.SIGKILL:
            assert "stopped. What is drawn is kept" in stderr
            assert [path.name for path in tmp_path.glob(".*")] == []
        whole = digests(written)
        done = digests(tmp_path / "videos")
        assert 2 <= len(done) < len(SMALL.clips())
        assert all(whole[f"videos/{name}"] == digest for name, digest in done.items())
        assert not (tmp_path / TABLE).exists()
        assert write(tmp_path).kept == len(done)
        assert digests(tmp_path) == whole

    def test_an_ffmpeg_that_fails_leaves_no_video(self, tmp_path: Path) -> None:
        broken = tmp_path / "ffmpeg"
        broken.write_text("#!/bin/sh\necho 'Unknown encoder' >&2\nexit 1\n")
        broken.chmod(0o755)
        with pytest.raises(FfmpegMissingError, match=r"can't encode .* \(Unknown encoder\)"):
            write(tmp_path / "out", ffmpeg=Ffmpeg(str(broken), "1", "a test"))
        assert set(digests(tmp_path / "out")) == {HEADER}

    def test_a_full_disk_is_said_to_be_full(self, tmp_path: Path) -> None:
        broken = tmp_path / "ffmpeg"
        broken.write_text("#!/bin/sh\necho 'av_interleaved_write_frame(): No space left on device' >&2\nexit 228\n")
        broken.chmod(0o755)
        with pytest.raises(TargetError, match="no space left on the disk"):
            write(tmp_path / "out", ffmpeg=Ffmpeg(str(broken), "1", "a test"))


class TestCommand:
    def test_draws_and_says_what_comes_next(self, written: Path, tmp_path: Path) -> None:
        out = tmp_path / "my set"
        summary = vclimb_json(*arguments(out))
        probes = [probe_video(path) for path in (out / "videos").glob("*/*")]
        assert summary == {
            "out": str(out),
            "seed": 0,
            "classes": list(CLASS_NAMES["appearance"][:2]),
            "splits": {"train": 6, "test": 4},
            "drawn": 10,
            "kept": 0,
            "frames": sum(probe.n_packets for probe in probes),
            "seconds": pytest.approx(sum(probe.n_packets / probe.rate for probe in probes)),
            "bytes": sum(probe.bytes for probe in probes),
            "frames_sha256": json.loads((written / HEADER).read_text())["frames_sha256"],
            "next": f"vclimb prepare '{out}' --out 'shards/my set'",
        }
        assert digests(out) == digests(written)
        again = vclimb(*arguments(out))
        assert again.returncode == 0, again.stderr
        assert "0 clips drawn, 10 there already" in again.stdout
        assert f"next: vclimb prepare '{out}' --out 'shards/my set'" in again.stdout

    @pytest.mark.parametrize(
        ("option", "value", "allowed"),
        [
            ("classes", "1", "2 to 16"),
            ("classes", "17", "2 to 16"),
            ("train", "0", "1 to"),
            ("seed", "-1", "0 to 4294967295"),
        ],
    )
    def test_explains_a_bad_value(self, tmp_path: Path, option: str, value: str, allowed: str) -> None:
        done = CliRunner().invoke(app, ["synth", str(tmp_path / "out"), f"--{option}", value])
        assert done.exit_code == 1
        assert done.stderr.strip().startswith(f"error: {option} {value} is out of range; allowed: {allowed}")
        assert not (tmp_path / "out").exists()
