"""The built-in data set on disk: video files, the table that lists them, and the settings they were drawn with.

`synth.json` is written first and says whose folder it is; once all is done it also holds the digest of the frames.
A video gets its name when it is whole, so a run that was stopped goes on with those that are missing.
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

import numpy as np

from vclimb.pipeline.dataset.shard import sync_folder, write_atomically
from vclimb.pipeline.errors import SettingsError, TargetError
from vclimb.pipeline.synth.draw import Frames, draw_clip
from vclimb.pipeline.synth.encode import encode_clip
from vclimb.pipeline.synth.scenes import CLASS_NAMES, SPLITS, Clip
from vclimb.pipeline.transcode.ffmpeg import Ffmpeg
from vclimb.pipeline.transcode.target import held_folder, writable

HEADER = "synth.json"
TABLE = "videos.csv"
COLUMNS = ("path", "label", "split", "group")
MIN_CLASSES = 2
MAX_CLASSES = len(CLASS_NAMES)
MAX_CLIPS = 10_000
MAX_SEED = 2**32 - 1
_DRAWING = 1  # raised by any change of the frames that a seed gives
_DRAFTS = ".drafts-"


@dataclass(frozen=True)
class SynthSettings:
    """What decides every frame of the data set.

    Attributes:
        classes: how many, 2 to 16.
        train: clips of each class to train on, 1 or more.
        test: clips of each class to test on, 1 or more.
        seed: 0 to 2**32 - 1.
    """

    classes: int = 12
    train: int = 8
    test: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("classes", MIN_CLASSES, MAX_CLASSES),
            ("train", 1, MAX_CLIPS),
            ("test", 1, MAX_CLIPS),
            ("seed", 0, MAX_SEED),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} {getattr(self, name)} is out of range; allowed: {low} to {high}")

    def clips(self) -> list[Clip]:
        """All clips, a class after the other."""
        return [
            Clip(self.seed, number, split, index)
            for number in range(self.classes)
            for split in SPLITS
            for index in range(getattr(self, split))
        ]


@dataclass(frozen=True)
class SynthSummary:
    """What a run did, and what the data set holds now.

    Attributes:
        out: its folder.
        labels: names of the classes.
        splits: clips by split.
        drawn: clips that this run made.
        kept: clips that were there.
        frames: in all clips.
        seconds: of video, in all clips.
        bytes: of all video files.
        frames_sha256: digest of the frames as drawn, before any encoder; the same on every machine.
    """

    out: Path
    labels: tuple[str, ...]
    splits: dict[str, int]
    drawn: int
    kept: int
    frames: int
    seconds: float
    bytes: int
    frames_sha256: str


def frames_digest(frames: Frames) -> str:
    """SHA-256 of a clip's shape (as four little-endian 32-bit numbers) and pixels."""
    return hashlib.sha256(np.array(frames.shape, "<u4").tobytes() + frames.tobytes()).hexdigest()


def dataset_digest(digests: dict[Clip, str]) -> str:
    """SHA-256 over `digest, two spaces, path, newline` of each clip, in the order of the paths."""
    lines = sorted((clip.path, digest) for clip, digest in digests.items())
    return hashlib.sha256("".join(f"{digest}  {path}\n" for path, digest in lines).encode()).hexdigest()


def write_dataset(
    out: Path, settings: SynthSettings, ffmpeg: Ffmpeg, n_workers: int, on_clip: Callable[[int, int], None]
) -> SynthSummary:
    """Draw and encode what is missing of a data set.

    Args:
        out: its folder; new, empty, or from an earlier run with the same settings.
        settings: what to draw.
        ffmpeg: encodes the clips.
        n_workers: clips that are worked on at a time.
        on_clip: told (clips done, clips to do) at the start and after each clip.

    Raises:
        SettingsError: the folder holds a data set that was drawn with other settings.
        TargetError: the folder holds something else, or can't be written.
        TargetBusyError: another run is writing to it.
        FfmpegMissingError: ffmpeg can't encode one of the containers.
    """
    clips = settings.clips()
    with writable(out), held_folder(out):
        digest = _claim(out, settings)
        missing = {clip for clip in clips if not (out / clip.path).exists()}
        # The digest is of what is drawn, not of files: to know it, all clips must be drawn.
        to_draw = [clip for clip in clips if digest is None or clip in missing]
        digests = _draw_all(out, to_draw, missing, ffmpeg, n_workers, on_clip)
        for folder in {(out / clip.path).parent for clip in missing}:
            sync_folder(folder)
        digest = digest or dataset_digest(digests)
        write_atomically(out / TABLE, _table(clips))
        write_atomically(out / HEADER, _header(settings, digest))
        rates = [clip.scene().rate for clip in clips]
        frames = [clip.n_frames() for clip in clips]
        return SynthSummary(
            out=out,
            labels=CLASS_NAMES[: settings.classes],
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
    """Draw the clips, write the missing ones, and give the digest of each."""

    def make(clip: Clip) -> str:
        frames = draw_clip(clip)
        if clip in missing:
            target = out / clip.path
            draft = drafts / clip.path.replace("/", "-")
            encode_clip(ffmpeg, frames, clip.scene().rate, draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
        return frames_digest(frames)

    digests: dict[Clip, str] = {}
    on_clip(0, len(clips))
    # The pool ends first, with the clips in hand; then their drafts' folder goes.
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
    """A fresh folder for unfinished files; those of a run that was killed are removed."""
    for leftover in out.glob(f"{_DRAFTS}*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=_DRAFTS, dir=out) as folder:
        yield Path(folder)


def _claim(out: Path, settings: SynthSettings) -> str | None:
    """Make the folder ours, or see that it is; the digest of its frames if it was finished before."""
    path = out / HEADER
    if not path.exists():
        ours = (f"{HEADER}.new", _DRAFTS)
        if foreign := sorted(name for name in os.listdir(out) if not name.startswith(ours)):
            raise TargetError(
                f"{out} holds files that are not a drawn data set ({foreign[0]!r} and {len(foreign) - 1} more); "
                "choose a new or empty folder"
            )
        write_atomically(path, _header(settings, None))
        return None
    try:
        header = json.loads(path.read_bytes())
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
    return (json.dumps(header, indent=1) + "\n").encode()


def _table(clips: list[Clip]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((clip.path, clip.label, clip.split, clip.group) for clip in clips)
    return text.getvalue().encode()
