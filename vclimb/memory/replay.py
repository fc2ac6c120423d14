"""The replay memory as training uses it: after each task its classes are added, and all classes shrink to quotas."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vclimb.memory.choice.budget import fill, shares
from vclimb.memory.class_encoder import ClassEncoder, ClassInstances
from vclimb.memory.settings import MemorySettings
from vclimb.memory.smaller_videos import smaller_videos
from vclimb.memory.store.accounting import MemoryUsage, measure
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_array import AnyArray
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.errors import SettingsError

__all__ = ["ClassInstances", "MemorySettings", "ReplayMemory", "UpdateReport"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpdateReport:
    """What an update did: exemplars added, why instances were skipped, wall time, and the memory's new usage."""

    added: int
    skipped: list[str]
    seconds: float
    usage: MemoryUsage


class ReplayMemory:
    """A memory that is updated after each task. Each update is one atomic step; done again, it changes nothing."""

    def __init__(self, path: Path | str, settings: MemorySettings) -> None:
        self.path = Path(path)
        self.settings = settings

    def open(self) -> MemoryStore:
        """Open the memory as it is now.

        Raises:
            DatasetError: there is none yet, or it is damaged.
        """
        return MemoryStore.open(self.path)

    def update(
        self,
        provider: InstanceProvider,
        new: Sequence[ClassInstances],
        seen: Sequence[int],
        on_exemplar: Callable[[], None] | None = None,
        arrays: Mapping[str, AnyArray] | None = None,
    ) -> UpdateReport:
        """Add classes to the memory and shrink the others, so that the budget holds.

        A budget in bytes counts the lengths of all files of the new memory, so that exemplars get what the arrays
        leave. While an update is under way, its new files lie beside the memory as it was.

        Args:
            new: The classes to add; those that the memory holds already are left (a run was killed after this step).
            seen: Label ids of all classes seen so far, the new ones included, in the order of their first appearance.
            arrays: All that a method keeps besides exemplars, by part and name, such as `statistics/importance`.

        Raises:
            SettingsError: the arrays alone exceed the budget, a class isn't among those seen, or the memory was made
                with another codec.
            TargetError: the disk is full, or the like; the memory is as it was.
        """
        start_seconds = time.monotonic()
        with MemoryWriter.open(self.path) as writer:
            before = set(writer.memory.classes)
            self._check(writer.memory, new, seen)
            encoders = [
                ClassEncoder(self.settings, provider, instances)
                for instances in new
                if instances.label not in before and len(instances.items)
            ]
            writer.keep(arrays or {})
            trims = self._fills
            counts = self._stage(writer, encoders, seen, on_exemplar or (lambda: None), trims)
            if any(count > writer.trimmed_count(label) for label, count in counts.items()):
                writer.rollback()
                writer.keep(arrays or {})
                counts = self._stage(writer, encoders, seen, lambda: None, False)
            if self._fills and (places := self._smaller(writer, encoders, counts)):
                writer.rollback()
                writer.keep(arrays or {})
                counts = self._stage_places(writer, encoders, seen, places, counts)
            memory = writer.commit(counts)
        empty = [label for label in seen if label not in memory.classes]
        if empty and self.settings.budget.kind != "none":
            log.warning(
                "%d of %d classes seen keep no exemplar (label id %d is the first): %s doesn't hold one of each",
                len(empty),
                len(seen),
                empty[0],
                self.settings.budget,
            )
        return UpdateReport(
            added=sum(stored.n_exemplars for label, stored in memory.classes.items() if label not in before),
            skipped=[reason for encoder in encoders for reason in encoder.skipped],
            seconds=time.monotonic() - start_seconds,
            usage=measure(self.path),
        )

    def _check(self, memory: MemoryStore, new: Sequence[ClassInstances], seen: Sequence[int]) -> None:
        if len(set(seen)) != len(seen):
            raise ValueError("a class is named twice among those seen")
        if missing := ({instances.label for instances in new} | memory.classes.keys()) - set(seen):
            raise SettingsError(
                f"label id {min(missing)} is in {self.path} or is to be added, but not among the {len(seen)} classes "
                "seen; is the memory of another run?"
            )
        codec = self.settings.encoding if memory.classes else ""
        for stored in memory.classes.values():
            if stored.encoding != codec:
                raise SettingsError(
                    f"{self.path} holds exemplars encoded as {stored.encoding}, not {codec}; use that codec, or "
                    "another place for this memory"
                )

    def _stage(
        self,
        writer: MemoryWriter,
        encoders: Sequence[ClassEncoder],
        seen: Sequence[int],
        on_exemplar: Callable[[], None],
        trims: bool,
    ) -> dict[int, int]:
        """Stage new classes, and decide how many exemplars each class keeps.

        Args:
            trims: Whether to remove the files for which the classes so far leave no room. Where each class is encoded
                up to the whole budget, the disk holds little more than twice the budget then. In rare cases a class
                keeps more than that once others are staged: where these leave no room for a third one's large exemplar.
        """
        allowances = self._allowances(writer, encoders, seen)
        rest = self.settings.budget.amount - writer.empty_bytes
        share = rest // max(1, len(seen))
        for encoder in encoders:
            instances = encoder.instances
            first = max(0, share - encoder.class_bytes) if self._fills else None
            exemplars = encoder.encode(allowances[instances.label], on_exemplar, first)
            if exemplars:
                writer.stage(NewClass(instances.label, instances.name, encoder.encoding, exemplars))
            if exemplars and trims:
                for label, count in self._kept_counts(writer, seen).items():
                    if label not in writer.memory.classes:
                        writer.trim(label, count + 1 + count // 8)
        return self._kept_counts(writer, seen)

    @property
    def _fills(self) -> bool:
        """Whether what a class can't use of a budget in bytes goes to others, and to smaller videos."""
        return self.settings.rebalances and self.settings.budget.kind == "bytes"

    def _smaller(
        self, writer: MemoryWriter, encoders: Sequence[ClassEncoder], counts: Mapping[int, int]
    ) -> dict[int, list[int]]:
        """Choose the candidates of new classes to keep where the budget isn't filled; see `smaller_videos`."""
        spent = {label: writer.class_bytes(label, count) for label, count in counts.items()}
        amount = self.settings.budget.amount
        left = amount - writer.empty_bytes - sum(spent.values())
        return smaller_videos(encoders, counts, spent, left, amount)

    def _stage_places(
        self,
        writer: MemoryWriter,
        encoders: Sequence[ClassEncoder],
        seen: Sequence[int],
        places: Mapping[int, Sequence[int]],
        counts: Mapping[int, int],
    ) -> dict[int, int]:
        """Stage the candidates at some places of the rankings of new classes; old classes keep what they have.

        Returns:
            label id -> number of exemplars kept: all, unless an estimate of their bytes was too low.
        """
        for encoder in encoders:
            instances = encoder.instances
            if exemplars := encoder.encode_places(places[instances.label]):
                writer.stage(NewClass(instances.label, instances.name, encoder.encoding, exemplars))
        old = {label: count for label, count in counts.items() if label in writer.memory.classes}
        return self._kept_counts(writer, seen, old)

    def _allowances(
        self, writer: MemoryWriter, encoders: Sequence[ClassEncoder], seen: Sequence[int]
    ) -> dict[int, int | None]:
        """Limit what each new class may take of the budget, in its unit, by label id; None: no limit."""
        budget, multiple, remainder = self.settings.budget, self.settings.share_multiple, self.settings.remainder
        labels = [encoder.instances.label for encoder in encoders]
        if budget.kind in ("none", "all"):
            return dict.fromkeys(labels, 0 if budget.kind == "none" else None)
        equal = dict(zip(seen, shares(budget.amount, len(seen), multiple, remainder), strict=True))
        if not self.settings.rebalances:
            return {label: equal[label] for label in labels}
        if budget.kind == "bytes":  # how many fit is known once all are encoded
            return dict.fromkeys(labels, budget.amount)
        new_costs = {encoder.instances.label: encoder.costs for encoder in encoders}
        costs = self._stored_costs(writer, seen) | new_costs
        in_order = [costs[label] for label in seen]
        kept = fill(budget.amount, in_order, multiple=multiple, rebalance=True, remainder=remainder)
        counts = dict(zip(seen, kept, strict=True))
        return {label: max(equal[label], sum(new_costs[label][: counts[label]])) for label in labels}

    def _stored_costs(self, writer: MemoryWriter, seen: Sequence[int]) -> dict[int, list[int]]:
        """Get the cost of each exemplar of the classes seen, in the memory or staged, in videos or frames."""
        cost = self.settings.budget.cost
        return {
            label: [cost(n_frames, 1) for n_frames in writer.kept_frames(label)] if label in writer.labels else []
            for label in seen
        }

    def _kept_counts(
        self, writer: MemoryWriter, seen: Sequence[int], most: Mapping[int, int] | None = None
    ) -> dict[int, int]:
        """Decide how many exemplars of each class, in the memory or staged, the budget allows, and `most` by label."""
        settings, budget = self.settings, self.settings.budget
        if budget.kind == "bytes":
            class_costs = [writer.costs(label) if label in writer.labels else (0, []) for label in seen]
            limits = most or {}
            counts = budget.kept(
                [costs[: limits.get(label)] for label, (_, costs) in zip(seen, class_costs, strict=True)],
                root_bytes=writer.empty_bytes,
                class_bytes=[overhead for overhead, _ in class_costs],
                rebalance=settings.rebalances,
                remainder=settings.remainder,
            )
        else:
            counts = budget.kept(
                [*self._stored_costs(writer, seen).values()],
                multiple=settings.share_multiple,
                rebalance=settings.rebalances,
                remainder=settings.remainder,
            )
        return {label: count for label, count in zip(seen, counts, strict=True) if label in writer.labels}
