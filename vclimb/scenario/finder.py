"""The stored videos that a scenario's instances name, and the frames of the instances."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.arrays import Flags, Indices
from vclimb.pipeline.dataset.column_checks import surely_keys
from vclimb.pipeline.dataset.columns import StoredVideos
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.dataset.frame_times import EPSILON
from vclimb.pipeline.sources.keys import make_key
from vclimb.scenario.instance import MAX_FRAMES, Frames, ScenarioError, ScenarioInstance, Seconds
from vclimb.scenario.instances import IN_FRAMES, WHOLE_VIDEO, ScenarioInstances

# What `os.path.splitext` cuts off: a last dot and what follows it, unless only dots come before it in the last part.
_SUFFIX = r"\A((?s:.*/)?\.*[^/.][^/]*)\.[^/.]*\z"
_FOLDERS = r"\A(?s:.*)/"


class Finder:
    """Stored and failed videos of a data set by all their names."""

    def __init__(self, dataset: StoredDataset) -> None:
        self._name = dataset.name
        self._videos = dataset.videos
        self._broken: dict[str, str] = {}
        for error in dataset.catalog.errors:
            if error.stage == "label":  # the video is stored, and only a segment of it failed
                continue
            path = error.path
            last = path.rpartition("/")[2]
            for name in (path, os.path.splitext(path)[0], last, os.path.splitext(last)[0]):
                self._broken.setdefault(name, f"{error.stage}: {error.reason}")

    def rows(self, instances: ScenarioInstances) -> Indices:
        """Find the row of each instance's video; -1: there is none."""
        names = instances.columns.column("video")
        rows = self._videos.rows_of(names)
        if len(unknown := np.flatnonzero(rows < 0)):
            rows[unknown] = self._videos.rows_of(_as_keys(names.take(pa.array(unknown))))
        for named in (self._by_path, self._by_stem):
            if len(unknown := np.flatnonzero(rows < 0)):
                self._find(named(), instances, rows, unknown)
        return rows

    def _find(self, named: _Named, instances: ScenarioInstances, rows: Indices, unknown: Indices) -> None:
        """Enter the rows of instances that were not found by another name."""
        codes = named.codes(instances.columns.column("video").take(pa.array(unknown)))
        unknown, codes = unknown[codes >= 0], codes[codes >= 0]
        rows[unknown] = named.first(codes)
        for place, code in zip(unknown[named.counts[codes] > 1].tolist(), codes[named.counts[codes] > 1], strict=True):
            rows[place] = self._only(instances[place], named.rows(int(code)))

    def _only(self, instance: ScenarioInstance, rows: Indices) -> int:
        candidates = [self._videos[row] for row in rows.tolist()]
        fitting = [n for n, video in enumerate(candidates) if instance.label in video.labels] or [*range(len(rows))]
        if len(fitting) > 1:
            one, other = (candidates[n] for n in fitting[:2])
            raise ScenarioError(
                f"video {instance.video!r} of class {instance.label!r} may be {one.source!r} or "
                f"{other.source!r} of data set {self._name}; name it in the scenario by its key, "
                f"{one.key!r} or {other.key!r}"
            )
        return int(rows[fitting[0]])

    def _by_path(self) -> _Named:
        sources = self._videos.columns.column("source")
        return _Named(sources, pc.replace_substring_regex(sources, _SUFFIX, r"\1"))

    def _by_stem(self) -> _Named:
        last = pc.replace_substring_regex(self._videos.columns.column("source"), _FOLDERS, "")
        return _Named(pc.replace_substring_regex(last, _SUFFIX, r"\1"), last)

    def frames(self, instance: ScenarioInstance, video: StoredVideo | None) -> tuple[str, str, tuple[int, int]]:
        """Return the problem (empty: none), the reason, and the frames [start, end)."""
        span = instance.span
        if isinstance(span, Seconds) and span.is_empty:
            return "empty", f"{span} of {instance.video!r} holds nothing", (0, 0)
        if video is None:
            if reason := self._broken.get(instance.video):
                return "broken", reason, (0, 0)
            return "missing", f"no video {instance.video!r} is in data set {self._name}", (0, 0)
        start, end = 0, video.n_frames
        if isinstance(span, Frames):
            start, end = span.start, span.end
        elif span is not None:
            start, end = video.frame_times.between(span.start, span.end)
        if start >= end or (isinstance(span, Frames) and span.end > video.n_frames):
            reason = f"{span} of {video.key!r} lies outside its {video.n_frames} stored frames ({video.seconds:.3f} s)"
            return "outside", reason, (0, 0)
        return "", "", (start, end)


class _Named:
    """Rows by name, where each row has two names, and several rows may have the same.

    Attributes:
        counts: Number of rows of each different name.
    """

    def __init__(self, names: pa.StringArray, others: pa.StringArray) -> None:
        differ = np.flatnonzero(pc.not_equal(names, others).to_numpy(zero_copy_only=False))
        both = pa.concat_arrays([names, others.take(pa.array(differ))]).dictionary_encode()
        codes, rows = both.indices.to_numpy(), np.concatenate([np.arange(len(names)), differ])
        order = np.lexsort([rows, codes])
        self._names, self._rows = both.dictionary, rows[order]
        self.counts = np.bincount(codes, minlength=len(self._names))
        self._starts = np.cumsum(self.counts) - self.counts

    def codes(self, names: pa.StringArray) -> Indices:
        """The number of each name; -1: no row has it."""
        codes: Indices = pc.fill_null(pc.index_in(names, self._names), -1).to_numpy().astype(np.int64)
        return codes

    def first(self, codes: Indices) -> Indices:
        """The first row that has each name."""
        rows: Indices = self._rows[self._starts[codes]]
        return rows

    def rows(self, code: int) -> Indices:
        """All rows that have a name."""
        rows: Indices = self._rows[self._starts[code] : self._starts[code] + self.counts[code]]
        return rows


def _as_keys(names: pa.StringArray) -> pa.StringArray:
    """The keys that videos of these names get."""
    sure = surely_keys(names).to_numpy(zero_copy_only=False)
    made = [name if is_key else make_key(name) for name, is_key in zip(names.to_pylist(), sure.tolist(), strict=True)]
    return pa.array(made, pa.string())


def frames_of_all(instances: ScenarioInstances, rows: Indices, videos: StoredVideos) -> tuple[Indices, Indices, Flags]:
    """Find the frames [start, end) of instances, as `Finder.frames` does, and those that only it can decide about."""
    is_found = rows >= 0
    of_video = np.where(is_found, rows, 0)
    n_frames = np.where(is_found, videos.numbers("n_frames")[of_video], 0) if len(videos) else np.zeros(len(rows), int)
    starts, ends, doubtful = np.zeros(len(rows), np.int64), n_frames.astype(np.int64), ~is_found
    kinds = instances.narrow_numbers("kind")
    at = np.flatnonzero((kinds != WHOLE_VIDEO) & is_found)
    if not len(at):
        return starts, ends, doubtful
    rates, uneven = videos.rates(), videos.columns.column("frame_seconds").is_valid().to_numpy(zero_copy_only=False)
    given_start, given_end, in_frames = (
        instances.floats("start")[at],
        instances.floats("end")[at],
        kinds[at] == IN_FRAMES,
    )
    rate = np.where(in_frames, 1.0, rates[of_video[at]])
    slack = np.where(in_frames, 0.0, EPSILON)
    first = np.nan_to_num(np.floor(given_start * rate + slack), nan=0.0)
    last = np.where(np.isnan(given_end), n_frames[at], np.ceil(given_end * rate - slack))
    starts[at] = np.clip(first, 0, MAX_FRAMES).astype(np.int64)
    ends[at] = np.clip(np.minimum(last, n_frames[at]), -1, MAX_FRAMES).astype(np.int64)
    # Whole numbers of seconds are multiplied exactly, as fractions.
    is_exact = ~in_frames & (instances.narrow_numbers("ints")[at] > 0)
    is_empty = ~in_frames & (np.nan_to_num(given_start, nan=0.0) >= given_end)
    beyond = in_frames & (given_end > n_frames[at])
    doubtful[at] |= is_exact | is_empty | beyond | (~in_frames & uneven[of_video[at]]) | (starts[at] >= ends[at])
    return starts, ends, doubtful
