"""The built-in data set on disk: video files, the table that lists them, and the settings that produced them.

`synth.json` is written first and claims the folder; in the end it also holds the digest of the frames. A video gets its
name when it is complete, so that a call after an interruption draws the missing videos only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vclimb.pipeline.errors import SettingsError, TargetError
from vclimb.pipeline.synth.encode import encode_clip
from vclimb.pipeline.synth.render import Frames, render_clip
from vclimb.pipeline.synth.scenes import CLASS_NAMES, SPLITS, Clip, Difference
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.durable import draft_of, replace_file, sync
from vclimb.pipeline.system.folders import held_folder, writable
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.progress import progress_bar
from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed
from vclimb.pipeline.transcode.ffmpeg import Ffmpeg, find_ffmpeg

HEADER = "synth.json"
TABLE = "videos.csv"
COLUMNS = ("path", "label", "split", "group")
MIN_CLASSES = 2
MAX_CLIPS = 10_000
MAX_SEED = 2**32 - 1
_DRAWING = 1  # version of the drawing: raise it with any change of the frames of a seed
_DRAFTS = ".drafts-"


@dataclass(frozen=True)
class SynthSettings:
    """Settings that fix every frame of the data set."""

    classes: int = 12
    train: int = 8
    test: int = 4
    seed: int = 0
    told_apart_by: Difference = "appearance"

    def __post_init__(self) -> None:
        if self.told_apart_by not in CLASS_NAMES:
            allowed = ", ".join(CLASS_NAMES)
            raise SettingsError(f"told_apart_by {self.told_apart_by!r} is not known; allowed: {allowed}")
        for name, low, high in (
            ("classes", MIN_CLASSES, len(CLASS_NAMES[self.told_apart_by])),
            ("train", 1, MAX_CLIPS),
            ("test", 1, MAX_CLIPS),
            ("seed", 0, MAX_SEED),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} {getattr(self, name)} is out of range; allowed: {low} to {high}")

    def clips(self) -> list[Clip]:
        return [
            Clip(self.seed, number, split, index, self.told_apart_by)
            for number in range(self.classes)
            for split in SPLITS
            for index in range(getattr(self, split))
        ]


@dataclass(frozen=True)
class SynthSummary:
    """Result of a call of `vclimb.synth`.

    Attributes:
        out: Folder of the data set.
        seed: Seed of the frames.
        classes: Names of the classes.
        splits: Number of clips by split.
        drawn: Number of clips that this call drew.
        kept: Number of clips that were there before.
        frames: Number of frames in all clips.
        seconds: Duration of all clips in seconds.
        bytes: Size of all video files.
        frames_sha256: Digest of the frames before encoding, the same on every machine.
    """

    out: Path
    seed: int
    classes: tuple[str, ...]
    splits: dict[str, int]
    drawn: int
    kept: int
    frames: int
    seconds: float
    bytes: int
    frames_sha256: str

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "out": str(self.out), "classes": list(self.classes)}


def synth(
    out: Path | str,
    *,
    classes: int = 12,
    train: int = 8,
    test: int = 4,
    seed: int = 0,
    told_apart_by: Difference = "appearance",
    progress: bool | None = None,
) -> SynthSummary:
    """Draw a small labelled set of real video files, to try everything without a download.

    Textured shapes move before backdrops; a class is a shape and a texture. With `told_apart_by="motion"` a class is a
    trajectory instead: all classes of a scene show the same frames in different orders, so that single frames tell
    nothing. Sizes, frame rates and containers (mp4, avi, webm) vary. Train and test share no scene, colour or backdrop.
    `vclimb.prepare` takes the folder next. A call on an existing folder draws the missing files only.

    Args:
        out: Folder of the data set: new, empty, or from a call with the same settings.
        classes: Number of classes, 2 to 16; up to 18 that motion tells apart.
        train: Number of training clips of each class.
        test: Number of test clips of each class.
        seed: Seed that fixes every frame, on any machine.
        told_apart_by: What tells classes apart: `appearance` or `motion`.
        progress: Whether to show a progress bar on stderr. None: where stderr is a terminal or in Jupyter.

    Raises:
        SettingsError: A number is out of range, or the folder was drawn with other settings.
        TargetError: The folder holds something else, or can't be written.
        TargetBusyError: Another process is writing to the folder.
        FfmpegMissingError: No ffmpeg encodes all containers.
    """
    folder, settings = local_path(out), SynthSettings(classes, train, test, seed, told_apart_by)
    ffmpeg = find_ffmpeg()
    with progress_bar("clips", progress) as bar:
        task = bar.add_task("drawing", total=None, note="")
        return write_dataset(
            folder, settings, ffmpeg, available_cores(), lambda done, n: bar.update(task, completed=done, total=n)
        )


def frames_digest(frames: Frames) -> str:
    """Compute the SHA-256 of a clip's shape, as four little-endian 32-bit numbers, and pixels."""
    return hashlib.sha256(np.array(frames.shape, "<u4").tobytes() + frames.tobytes()).hexdigest()


def dataset_digest(digests: dict[Clip, str]) -> str:
    """Compute the SHA-256 of the lines `digest, two spaces, path` of all clips, sorted by path."""
    lines = sorted((clip.path, digest) for clip, digest in digests.items())
    return hashlib.sha256("".join(f"{digest}  {path}\n" for path, digest in lines).encode()).hexdigest()


def write_dataset(
    out: Path, settings: SynthSettings, ffmpeg: Ffmpeg, n_workers: int, on_clip: Callable[[int, int], None]
) -> SynthSummary:
    """Draw and encode what is missing of a data set, `n_workers` clips at a time.

    `on_clip` is called with (clips done, clips in all) at the start and after each clip.
    """
    clips = settings.clips()
    with writable(out), held_folder(out):
        digest = _claim(out, settings)
        missing = {clip for clip in clips if not (out / clip.path).exists()}
        # The digest is that of frames, not of files: where it is unknown, all clips must be drawn.
        to_draw = [clip for clip in clips if digest is None or clip in missing]
        digests = _draw_all(out, to_draw, missing, ffmpeg, n_workers, on_clip)
        for folder in {(out / clip.path).parent for clip in missing}:
            sync(folder)
        digest = digest or dataset_digest(digests)
        replace_file(out / TABLE, _table(clips))
        replace_file(out / HEADER, _header(settings, digest))
        rates = [clip.scene().rate for clip in clips]
        frames = [clip.n_frames() for clip in clips]
        return SynthSummary(
            out=out,
            seed=settings.seed,
            classes=CLASS_NAMES[settings.told_apart_by][: settings.classes],
            splits={split: getattr(settings, split) * settings.classes for split in SPLITS},
            drawn=len(missing),
            kept=len(clips) - len(missing),
            frames=sum(frames),
            seconds=sum(count / rate for count, rate in zip(frames, rates, strict=True)),
            bytes=sum((out / clip.path).stat().st_size for clip in clips),
            frames_sha256=digest,
        )


def _draw_all(
    out: Path,
    clips: list[Clip],
    missing: set[Clip],
    ffmpeg: Ffmpeg,
    n_workers: int,
    on_clip: Callable[[int, int], None],
) -> dict[Clip, str]:
    def make(clip: Clip) -> str:
        frames = render_clip(clip)
        if clip in missing:
            target = out / clip.path
            draft = drafts / clip.path.replace("/", "-")
            encode_clip(ffmpeg, frames, clip.scene().rate, draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
        return frames_digest(frames)

    digests: dict[Clip, str] = {}
    on_clip(0, len(clips))
    # The pool ends first, after the clips in work; then the folder of their drafts is removed.
    with _drafts_folder(out) as drafts, ThreadPoolExecutor(n_workers, "synth") as pool:
        futures = {pool.submit(make, clip): clip for clip in clips}
        try:
            for future in as_completed(futures):
                digests[futures[future]] = future.result()
                on_clip(len(digests), len(clips))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return digests


@contextmanager
def _drafts_folder(out: Path) -> Iterator[Path]:
    """Make a folder for unfinished files, and remove those of killed processes."""
    for leftover in out.glob(f"{_DRAFTS}*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=_DRAFTS, dir=out) as folder:
        yield Path(folder)


def _claim(out: Path, settings: SynthSettings) -> str | None:
    """Claim a new folder, or check the claim of an old one; return the digest of its frames if they are complete."""
    path = out / HEADER
    if not path.exists():
        ours = (draft_of(path).name, _DRAFTS)
        if foreign := sorted(name for name in os.listdir(out) if not name.startswith(ours)):
            raise TargetError(
                f"{out} holds files that are not a drawn data set ({foreign[0]!r} and {len(foreign) - 1} more); "
                "choose a new or empty folder"
            )
        replace_file(path, _header(settings, None))
        return None
    try:
        header = unsealed(parse_object(path.read_bytes()))
        before, digest = dict(header["settings"]), header["frames_sha256"]
    except (ValueError, KeyError, TypeError):
        raise TargetError(f"{path} is not from a run of ours, or damaged; choose a new or empty folder") from None
    now = json.loads(_header(settings, None))["settings"]
    if differences := [
        f"{name} {before.get(name)} before, {now[name]} now" for name in now if before.get(name) != now[name]
    ]:
        raise SettingsError(
            f"{out} was drawn with other settings ({'; '.join(differences)}); "
            "give the same ones to go on with it, or choose another folder"
        )
    return None if digest is None else str(digest)


def _header(settings: SynthSettings, digest: str | None) -> bytes:
    header = {"settings": {**asdict(settings), "drawing": _DRAWING}, "frames_sha256": digest}
    return (json.dumps(sealed(header), indent=1) + "\n").encode()


def _table(clips: list[Clip]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((clip.path, clip.label, clip.split, clip.group) for clip in clips)
    return text.getvalue().encode()
