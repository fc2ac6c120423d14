"""Encoding a new class: its instances are ranked, and encoded in that order as long as they fit the budget."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.choice.videos import Candidates, Features, parse_video_choice
from vclimb.memory.feature_codec import parse_feature_codec
from vclimb.memory.sample import ARRAY_BYTES, CLASS_BYTES
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.chunks import encode_chunk
from vclimb.memory.store.exemplar import NO_FRAMES, Exemplar
from vclimb.memory.store.stored_array import CHECKSUM_BYTES, AnyArray
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.errors import FrameDamagedError
from vclimb.pipeline.system.cores import available_cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassInstances:
    """The instances of a new class, to choose exemplars from.

    Attributes:
        items: (n,) numbers of the instances among the provider's items.
        groups: (n,) source groups; None where they are unknown.
        features: (n, D) features of the instances, or (n, K, D) of their frames, whose means count in the choice of
            videos; None where neither this choice nor what is kept needs any.
        arrays: Arrays (n, ...) whose rows are kept beside the exemplars' frames, by name, such as `logits`.
    """

    label: int
    name: str
    items: Indices
    groups: Sequence[str | None] | None = None
    features: Features | None = None
    arrays: Mapping[str, AnyArray] = field(default_factory=dict)

    def readable(self, items: Indices, features: Features) -> ClassInstances:
        """Keep the instances that are among the provider's items (m,), rising, and add these items' features (m, D)."""
        kept = np.flatnonzero(np.isin(self.items, items))
        groups = None if self.groups is None else [self.groups[place] for place in kept.tolist()]
        of_kept = features[np.searchsorted(items, self.items[kept])]
        arrays = {name: array[kept] for name, array in self.arrays.items()}
        return ClassInstances(self.label, self.name, self.items[kept], groups, of_kept, arrays)


@dataclass
class ClassEncoder:
    """Encodes the instances of a class in the order of their ranks.

    Attributes:
        places: Places in the ranking of the exemplars that `encode` or `encode_places` returned last.
    """

    settings: MemorySettings
    provider: InstanceProvider
    instances: ClassInstances
    places: list[int] = field(default_factory=list)
    _damage: dict[int, str] = field(default_factory=dict)  # place in the ranking -> why it was passed over

    def __post_init__(self) -> None:
        all_items, items = self.provider.items, self.instances.items
        starts = self.provider.start_frames[items].tolist()
        parts = zip(all_items.keys[items].tolist(), starts, all_items.n_frames[items].tolist(), strict=True)
        # Two instances of one video are two candidates.
        self._names = [f"{key}:{start}-{start + n_frames}" for key, start, n_frames in parts]
        self.encoding = self.settings.encoding
        self._frames = parse_frame_choice(self.settings.frame_choice, self.settings.frames, self.settings.seed)
        choice = parse_video_choice(self.settings.video_choice, self.settings.seed)
        features = self.instances.features
        if features is not None and features.ndim == 3:
            features = features.mean(axis=1)
        self._ranking = choice.rank(Candidates(self._names, self.instances.groups, features)).tolist()

    @property
    def class_bytes(self) -> int:
        """Estimate of the bytes on disk of the class besides its exemplars."""
        scales = parse_feature_codec(self.encoding).has_scale if self.settings.keeps_features else 0
        return CLASS_BYTES + ARRAY_BYTES * (len(self.instances.arrays) + scales)

    @property
    def costs(self) -> list[int]:
        """Cost of each instance in a budget of videos or frames, by rank."""
        n_frames = self.provider.items.n_frames[self.instances.items]
        return [
            self.settings.budget.cost(self._frames.n_chosen(int(n_frames[candidate])), 1) for candidate in self._ranking
        ]

    @property
    def skipped(self) -> list[str]:
        """Reasons why instances were passed over, of those tried so far."""
        return [*self._damage.values()]

    def encode(
        self, allowance: int | None, on_exemplar: Callable[[], None], first_allowance: int | None = None
    ) -> list[Exemplar]:
        """Encode the first instances of the ranking that can be read, as many as fit.

        Allowances are in the unit of the budget; None: no limit.

        Args:
            first_allowance: Limit of the first exemplar: instances that exceed it are passed over until one fits. Where
                none fits, there is no such limit.
        """
        exemplars: list[Exemplar] = []
        self.places = []
        if allowance == 0:
            return exemplars
        spent = 0
        for place, exemplar in self._encoded(range(len(self._ranking))):
            cost = self.settings.budget.cost(len(exemplar.frames), self._size(exemplar))
            if not exemplars and first_allowance is not None and cost > first_allowance:
                continue
            spent += cost
            if allowance is not None and spent > allowance:
                break
            exemplars.append(exemplar)
            self.places.append(place)
            on_exemplar()
        if not exemplars and first_allowance is not None:
            return self.encode(allowance, on_exemplar)
        return exemplars

    def encode_places(self, places: Sequence[int]) -> list[Exemplar]:
        """Encode the instances at some places of the ranking, in the order given."""
        encoded = [*self._encoded(places)]
        self.places = [place for place, _ in encoded]
        return [exemplar for _, exemplar in encoded]

    def sizes(self, places: Sequence[int]) -> Generator[tuple[int, int]]:
        """Encode instances one after the other, and yield their places and their bytes."""
        for place, exemplar in self._encoded(places):
            yield place, self._size(exemplar)

    def _size(self, exemplar: Exemplar) -> int:
        """Count the bytes of an exemplar's files, and its part of shared ones; 0 where the budget counts no bytes."""
        if self.settings.budget.kind != "bytes":
            return 0
        frames = len(encode_chunk(b"".join(exemplar.clip.units))) if exemplar.clip.units else 0
        return frames + sum(array.nbytes + CHECKSUM_BYTES for array in exemplar.arrays.values())

    def _encoded(self, places: Iterable[int]) -> Iterator[tuple[int, Exemplar]]:
        """Yield places of the ranking and exemplars; several threads encode a little ahead."""
        n_threads = available_cores()
        with ThreadPoolExecutor(n_threads) as threads:
            ahead: deque[tuple[int, Future[Exemplar]]] = deque()
            ranking = iter([place for place in places if place not in self._damage])
            try:
                while True:
                    while len(ahead) < 2 * n_threads and (place := next(ranking, None)) is not None:
                        ahead.append((place, threads.submit(self._encode, self._ranking[place])))
                    if not ahead:
                        return
                    place, future = ahead.popleft()
                    try:
                        yield place, future.result()
                    except FrameDamagedError as error:
                        log.warning("passed over as an exemplar: %s", error)
                        self._damage[place] = str(error)
            finally:
                for _, future in ahead:
                    future.cancel()

    def _encode(self, candidate: int) -> Exemplar:
        item = int(self.instances.items[candidate])
        n_frames, start = int(self.provider.items.n_frames[item]), int(self.provider.start_frames[item])
        key = str(self.provider.items.keys[item])
        arrays = {name: array[candidate] for name, array in self.instances.arrays.items()}
        if self.settings.keeps_features:
            assert self.instances.features is not None
            arrays |= parse_feature_codec(self.settings.codec).encode(self.instances.features[candidate])
            size = int(self.provider.items.widths[item]), int(self.provider.items.heights[item])
            return Exemplar(key, start, start + n_frames, np.empty(0, np.int64), NO_FRAMES, *size, arrays)
        frames = self._frames.choose(
            n_frames, self._names[candidate], lambda numbers: source_frames(self.provider, item, numbers).pixels
        )
        encoded = parse_codec(self.settings.codec).encode(source_frames(self.provider, item, frames))
        size = encoded.width, encoded.height
        return Exemplar(key, start, start + n_frames, start + frames, encoded.clip, *size, arrays)
