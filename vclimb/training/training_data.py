"""Items that tasks are trained and evaluated on: instances of the data set, and exemplars of the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vclimb.memory.decoded import DecodedExemplars, DecodingCost
from vclimb.memory.kept_features import KeptFeatures, holds_features, read_features
from vclimb.memory.provider import ExemplarProvider
from vclimb.memory.replay import ClassInstances
from vclimb.memory.store.reader import MemoryStore
from vclimb.model.inference import Outputs
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ClipProvider, ConcatProvider, InstanceProvider
from vclimb.pipeline.dataset.columns import StoredInstances
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.stream.packing import DALI_CODECS
from vclimb.scenario import MatchedScenario, TaskSequence
from vclimb.training.predictor import EvaluationItems
from vclimb.training.stored_logits import StoredLogits, read_logits


@dataclass
class TrainingItems:
    """Items that a task is trained on. Close them after the streams that read from them.

    Attributes:
        provider: Clips of new instances, then of exemplars.
        new: Clips of the new instances alone.
        names: Unique names of all items.
        is_replay: (n,) bool, whether an item is an exemplar.
        groups: Group of each new instance, shared by videos cut from one recording; None: unknown.
        decoding: Cost of decoding exemplars ahead; None where their codec does not need it.
        logits: Logits that the memory keeps beside the exemplars; None: there are none.
        kept: Features of exemplars, where the memory keeps these in place of frames; they are no items.
        outputs: Outputs for the new instances of a network that the task doesn't change; None: not computed yet.
    """

    provider: ClipProvider
    new: InstanceProvider
    names: list[str]
    is_replay: npt.NDArray[np.bool_]
    groups: list[str | None]
    decoding: DecodingCost | None = None
    logits: StoredLogits | None = None
    kept: KeptFeatures | None = None
    outputs: Outputs | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def labels(self) -> Indices:
        return self.provider.items.labels

    @property
    def replayed_labels(self) -> Indices:
        """Label ids of all exemplars, those whose features are kept included."""
        return self.labels[self.is_replay] if self.kept is None else self.kept.labels

    def __len__(self) -> int:
        return len(self.names)

    def close(self) -> None:
        """Release the disk space of decoded exemplars."""
        self._open.close()

    def candidates(self, labels: Sequence[int], classes: Sequence[str]) -> list[ClassInstances]:
        """List the new instances that may become exemplars, class by class; repeated instances count once."""
        first = {name: item for item, name in reversed(list(enumerate(self.instance_names())))}
        is_first = np.zeros(len(self.new.items), np.bool_)
        is_first[list(first.values())] = True
        candidates = []
        for label in labels:
            items = np.flatnonzero((self.new.items.labels == label) & is_first)
            groups = [self.groups[item] for item in items.tolist()]
            candidates.append(ClassInstances(label, classes[label], items, groups))
        return candidates

    def instance_names(self) -> list[str]:
        """Name the new instances by label, video and frames."""
        facts = self.new.items
        spans = zip(facts.keys.tolist(), self.new.start_frames.tolist(), facts.n_frames.tolist(), strict=True)
        labels = facts.labels.tolist()
        return [f"{label}/{key}:{start}-{start + n}" for label, (key, start, n) in zip(labels, spans, strict=True)]


@contextmanager
def exemplar_items(memory: MemoryStore, cache_bytes: int) -> Iterator[ExemplarProvider | DecodedExemplars]:
    """Open all exemplars of a memory, decoded ahead where their codec is slow to decode.

    Classes that can't be read are left out, with a warning.
    """
    stored = ExemplarProvider(memory)
    if set(stored.codecs.tolist()) <= set(DALI_CODECS):
        yield stored
        return
    with closing(DecodedExemplars(stored, cache_bytes)) as decoded:
        yield decoded


@dataclass(frozen=True)
class RunData:
    """Data set and scenario of a run, and the items that tasks are trained and evaluated on.

    Attributes:
        matched: Scenario, matched to the videos of the data set.
        cache_bytes: Limit of disk space for exemplars that are decoded ahead.
    """

    dataset: StoredDataset
    matched: MatchedScenario
    cache_bytes: int = 0

    @property
    def scenario(self) -> TaskSequence:
        return self.matched.scenario

    @property
    def codec(self) -> str:
        return self.dataset.settings.codec

    @property
    def classes_per_task(self) -> tuple[int, ...]:
        return tuple(len(task.classes) for task in self.scenario)

    @cached_property
    def digest(self) -> str:
        return self.matched.digest(self.dataset)

    def training_items(self, task: int, memory: MemoryStore | None = None, all_data: bool = False) -> TrainingItems:
        """Collect the items that a task is trained on.

        Args:
            memory: Memory before the task; nothing is replayed where it is None or empty.
            all_data: Whether to take the instances of all tasks so far.
        """
        tasks = self.matched.tasks[: task + 1] if all_data else self.matched.tasks[task : task + 1]
        instances = StoredInstances.joined([part.train for part in tasks])
        new = InstanceProvider(self.dataset, instances, self.matched.label_ids)
        items = TrainingItems(
            provider=new,
            new=new,
            names=[],
            is_replay=np.zeros(len(instances), np.bool_),
            groups=instances.videos.groups_of(instances.numbers("video")),
        )
        names = items.instance_names()
        if memory is not None and holds_features(memory):
            items.kept = read_features(memory)
        elif memory is not None and len(memory):
            exemplars = items._open.enter_context(exemplar_items(memory, self.cache_bytes))
            items.decoding = exemplars.cost if isinstance(exemplars, DecodedExemplars) else None
            items.provider = ConcatProvider([new, exemplars])
            items.is_replay = np.concatenate([items.is_replay, np.ones(len(exemplars.items), np.bool_)])
            labels = np.unique(exemplars.items.labels).tolist()
            names += exemplar_names(memory, labels)
            items.logits = read_logits(memory, labels, len(instances), sum(self.classes_per_task[: task + 1]))
        items.names = _unique(names)
        return items

    def evaluation_items(self, tasks: Sequence[int], split: str | None = None) -> EvaluationItems:
        """Collect the instances of some tasks to evaluate; without `split`, those of the reported split."""
        split = split or self.scenario.evaluation_split
        parts = [self.matched.tasks[task].split(split) for task in tasks]
        provider = InstanceProvider(self.dataset, StoredInstances.joined(parts), self.matched.label_ids)
        counts = self.classes_per_task
        task_of_item = np.repeat(np.array(tasks, np.int64), [*map(len, parts)])
        return EvaluationItems(provider, task_of_item, sum(counts), len(counts))


def exemplar_names(memory: MemoryStore, labels: Sequence[int]) -> list[str]:
    """Name exemplars like the instances that they were made from, so that an instance keeps its name as an exemplar."""
    names: list[str] = []
    for label in labels:
        table = memory.table(label)
        starts, ends = table.rows["start_frame"].tolist(), table.rows["end_frame"].tolist()
        names += [f"{label}/{key}:{start}-{end}" for key, start, end in zip(table.keys, starts, ends, strict=True)]
    return names


def _unique(names: list[str]) -> list[str]:
    """Append a number to the second and later ones of equal names."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique
