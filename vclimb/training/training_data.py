"""The items that a task is trained on: its own instances and the memory's exemplars, as one provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vclimb.memory.decoded import DecodedExemplars, DecodingCost
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.replay import ClassCandidates
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ClipProvider, ConcatProvider, InstanceProvider, Items
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.packing import DALI_CODECS
from vclimb.scenario import MatchedScenario


class ChosenItems:
    """Some items of a provider, in a given order, numbered anew."""

    def __init__(self, provider: ClipProvider, chosen: Indices) -> None:
        self._provider = provider
        self._chosen = chosen
        facts = provider.items
        self.items = Items(
            keys=facts.keys[chosen],
            labels=facts.labels[chosen],
            n_frames=facts.n_frames[chosen],
            widths=facts.widths[chosen],
            heights=facts.heights[chosen],
        )

    def read(self, item: int, frames: Indices) -> EncodedClip:
        return self._provider.read(int(self._chosen[item]), frames)

    def where(self, item: int, frame: int) -> str:
        return self._provider.where(int(self._chosen[item]), frame)


@dataclass
class TrainingItems:
    """What a task is trained on. Close it after the streams that read from it.

    Attributes:
        provider: of new instances, then exemplars.
        new: of the new instances alone.
        names: (n,) of the items, each once.
        is_replay: (n,) bool: exemplars.
        groups: of the new instances: videos cut from one recording share it; None: unknown.
        decoding: what it cost to decode exemplars ahead; None where nothing needed it.
    """

    provider: ClipProvider
    new: InstanceProvider
    names: list[str]
    is_replay: npt.NDArray[np.bool_]
    groups: list[str | None]
    decoding: DecodingCost | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def labels(self) -> Indices:
        """(n,) label ids."""
        return self.provider.items.labels

    def __len__(self) -> int:
        return len(self.names)

    def close(self) -> None:
        """Give the disk space of decoded exemplars back."""
        self._open.close()

    def candidates(self, labels: Sequence[int], classes: Sequence[str]) -> list[ClassCandidates]:
        """The new instances that may become exemplars, class by class; one that is listed twice counts once.

        Args:
            labels: label ids of the classes.
            classes: names by label id.
        """
        first = {name: item for item, name in reversed(list(enumerate(self.instance_names())))}
        once = np.zeros(len(self.new.items), np.bool_)
        once[list(first.values())] = True
        found = []
        for label in labels:
            items = np.flatnonzero((self.new.items.labels == label) & once)
            found.append(ClassCandidates(label, classes[label], items, [self.groups[item] for item in items.tolist()]))
        return found

    def instance_names(self) -> list[str]:
        facts = self.new.items
        spans = zip(facts.keys.tolist(), self.new.start_frames.tolist(), facts.n_frames.tolist(), strict=True)
        labels = facts.labels.tolist()
        return [f"{label}/{key}:{start}-{start + n}" for label, (key, start, n) in zip(labels, spans, strict=True)]


def training_items(
    dataset: StoredDataset,
    matched: MatchedScenario,
    task: int,
    memory: MemoryStore | None,
    all_data: bool,
    cache_bytes: int,
) -> TrainingItems:
    """What a task is trained on.

    Args:
        memory: as it is before the task; None or empty: nothing is replayed.
        all_data: take the instances of all tasks so far.
        cache_bytes: of exemplars that are decoded ahead.
    """
    tasks = matched.tasks[: task + 1] if all_data else matched.tasks[task : task + 1]
    instances = [instance for one in tasks for instance in one.train]
    new = InstanceProvider(dataset, instances, matched.label_ids)
    items = TrainingItems(
        provider=new,
        new=new,
        names=[],
        is_replay=np.zeros(len(instances), np.bool_),
        groups=[dataset.by_key[instance.key].group for instance in instances],
    )
    names = items.instance_names()
    if memory is not None and len(memory):
        found = items._open.enter_context(exemplar_items(memory, cache_bytes))
        exemplars, items.decoding = found.provider, found.cost
        items.provider = ConcatProvider([new, exemplars])
        n_exemplars = len(exemplars.items)
        items.is_replay = np.concatenate([items.is_replay, np.ones(n_exemplars, np.bool_)])
        names += _exemplar_names(memory, exemplars.items)
    items.names = _unique(names)
    return items


@dataclass(frozen=True)
class ExemplarItems:
    """All exemplars of a memory, decoded ahead where their codec is slow to decode. Close it after its streams."""

    provider: ExemplarProvider | DecodedExemplars
    cost: DecodingCost | None

    def __enter__(self) -> ExemplarItems:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.provider, DecodedExemplars):
            self.provider.close()


def exemplar_items(memory: MemoryStore, cache_bytes: int) -> ExemplarItems:
    """All exemplars of a memory; classes that can't be read are left out, with a warning.

    Args:
        cache_bytes: of exemplars that are decoded ahead.
    """
    stored = ExemplarProvider(memory, on_damaged_class="skip")
    if set(stored.codecs.tolist()) <= set(DALI_CODECS):
        return ExemplarItems(stored, None)
    decoded = DecodedExemplars(stored, cache_bytes)
    return ExemplarItems(decoded, decoded.cost)


def evaluation_items(
    dataset: StoredDataset, matched: MatchedScenario, tasks: Sequence[int], split: str, least_frames: int = 1
) -> tuple[InstanceProvider, Indices]:
    """The instances of a split of some tasks, and the number of each one's task.

    Args:
        least_frames: shorter ones are left out (the released code's are, below 8).
    """
    chosen = [
        (task, instance)
        for task in tasks
        for instance in matched.tasks[task].split(split)
        if instance.end_frame - instance.start_frame >= least_frames
    ]
    provider = InstanceProvider(dataset, [instance for _, instance in chosen], matched.label_ids)
    return provider, np.array([task for task, _ in chosen], np.int64)


def _exemplar_names(memory: MemoryStore, items: Items) -> list[str]:
    """Names as those of the instances that exemplars were made from, so that they are the same before and after."""
    names: list[str] = []
    for label in np.unique(items.labels).tolist():
        facts = memory.facts(label)
        starts, ends = facts.column("start_frame")[:, 0].tolist(), facts.column("end_frame")[:, 0].tolist()
        names += [f"{label}/{key}:{start}-{end}" for key, start, end in zip(facts.keys, starts, ends, strict=True)]
    return names


def _unique(names: list[str]) -> list[str]:
    """Names of which the second and later of equals have a number."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique
