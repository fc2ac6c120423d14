"""The replay memory as training uses it: after each task its classes join, and all classes shrink to their quotas."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vclimb.memory.choice.budget import fill, shares
from vclimb.memory.joining import ClassCandidates, JoiningClass
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.accounting import MemoryUsage, measure
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.errors import SettingsError

__all__ = ["ClassCandidates", "MemorySettings", "ReplayMemory", "UpdateReport"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpdateReport:
    """What an update did.

    Attributes:
        added: exemplars of new classes.
        dropped: exemplars of earlier classes.
        skipped: why candidates were passed over: their frames are damaged.
        seconds: that it took.
        usage: of the memory as it is now.
    """

    added: int
    dropped: int
    skipped: list[str]
    seconds: float
    usage: MemoryUsage


class ReplayMemory:
    """A memory that is updated after each task. Each update is one atomic step; done again, it changes nothing.

    Args:
        path: of the store, `memory.zarr`.
        settings: what to keep.
    """

    def __init__(self, path: Path | str, settings: MemorySettings) -> None:
        self.path = Path(path)
        self.settings = settings

    def open(self) -> MemoryStore:
        """The memory as it is now.

        Raises:
            DatasetError: there is none yet, or it is damaged.
        """
        return MemoryStore.open(self.path)

    def update(
        self,
        provider: InstanceProvider,
        new: Sequence[ClassCandidates],
        seen: Sequence[int],
        on_exemplar: Callable[[], None] | None = None,
    ) -> UpdateReport:
        """Let classes join the memory and shrink the others, so that the budget holds.

        The bytes of a budget are those of all files that the new memory consists of, their lengths added up; while
        an update is under way, what it adds lies beside the memory as it was.

        Args:
            provider: of the new classes' instances.
            new: the classes; those that the memory holds already (the run was killed after this step) are left.
            seen: label ids of all classes seen so far, the new ones included, in the order of their first appearance.
            on_exemplar: called whenever one is encoded.

        Raises:
            SettingsError: a class isn't among those seen, or the memory was made with another codec.
            TargetError: the disk is full, or the like; the memory is as it was.
        """
        start_seconds = time.monotonic()
        with MemoryWriter.open(self.path) as writer:
            before = {label: stored.n_exemplars for label, stored in writer.memory.classes.items()}
            self._check(writer.memory, new, seen)
            joining = [
                JoiningClass(self.settings, provider, one) for one in new if one.label not in before and len(one.items)
            ]
            for one, allowance in zip(joining, self._allowances(writer, joining, seen), strict=True):
                if exemplars := one.encode(allowance, on_exemplar or (lambda: None)):
                    writer.stage(NewClass(one.of.label, one.of.name, one.encoding, exemplars))
            keep = self._keep(writer, seen)
            memory = writer.commit(keep)
        without = [label for label in seen if label not in memory.classes]
        if without and self.settings.budget.kind != "none":
            log.warning(
                "%d of %d classes seen keep no exemplar (label id %d is the first): %s doesn't hold one of each",
                len(without),
                len(seen),
                without[0],
                self.settings.budget,
            )
        after = {label: stored.n_exemplars for label, stored in memory.classes.items()}
        return UpdateReport(
            added=sum(after.get(one.of.label, 0) for one in joining),
            dropped=sum(count - after.get(label, 0) for label, count in before.items()),
            skipped=[reason for one in joining for reason in one.skipped],
            seconds=time.monotonic() - start_seconds,
            usage=measure(self.path),
        )

    def _check(self, memory: MemoryStore, new: Sequence[ClassCandidates], seen: Sequence[int]) -> None:
        if len(set(seen)) != len(seen):
            raise ValueError("a class is named twice among those seen")
        if missing := ({one.label for one in new} | memory.classes.keys()) - set(seen):
            raise SettingsError(
                f"label id {min(missing)} is in {self.path} or to join it, but not among the {len(seen)} classes seen; "
                "is the memory of another run?"
            )
        codec = str(parse_codec(self.settings.codec))
        for stored in memory.classes.values():
            if stored.encoding != codec:
                raise SettingsError(
                    f"{self.path} holds exemplars encoded as {stored.encoding}, not {codec}; use that codec, or "
                    "another place for this memory"
                )

    def _allowances(
        self, writer: MemoryWriter, joining: Sequence[JoiningClass], seen: Sequence[int]
    ) -> Iterator[int | None]:
        """What each joining class may take of the budget at most, in its unit; None without a limit."""
        budget, rebalance = self.settings.budget, self.settings.rebalance
        if budget.kind in ("none", "all"):
            yield from [0 if budget.kind == "none" else None] * len(joining)
            return
        equal = dict(zip(seen, shares(budget.amount, len(seen), self.settings.granule), strict=True))
        if not rebalance:
            yield from (equal[one.of.label] for one in joining)
            return
        if budget.kind == "bytes":  # how many fit shows when all are encoded
            yield from [budget.amount] * len(joining)
            return
        costs = self._stored_costs(writer, seen) | {one.of.label: one.costs for one in joining}
        kept = fill(budget.amount, [costs[label] for label in seen], granule=self.settings.granule, rebalance=True)
        count = dict(zip(seen, kept, strict=True))
        yield from (max(equal[one.of.label], sum(one.costs[: count[one.of.label]])) for one in joining)

    def _stored_costs(self, writer: MemoryWriter, seen: Sequence[int]) -> dict[int, list[int]]:
        """What each exemplar of the classes seen costs, in the memory or staged; nothing of those that aren't there.

        Not for a budget of bytes, where a class costs too.
        """
        cost = self.settings.budget.cost
        return {
            label: [cost(n_frames, 1) for n_frames in writer.kept_frames(label)] if label in writer.labels else []
            for label in seen
        }

    def _keep(self, writer: MemoryWriter, seen: Sequence[int]) -> dict[int, int]:
        """How many exemplars of each class, in the memory or staged, the budget allows."""
        budget, granule, rebalance = self.settings.budget, self.settings.granule, self.settings.rebalance
        if budget.kind == "bytes":
            of_class = [writer.costs(label) if label in writer.labels else (0, []) for label in seen]
            counts = budget.kept(
                [costs for _, costs in of_class],
                root_bytes=writer.empty_bytes,
                class_bytes=[overhead for overhead, _ in of_class],
                rebalance=rebalance,
            )
        else:
            counts = budget.kept([*self._stored_costs(writer, seen).values()], granule=granule, rebalance=rebalance)
        return {label: count for label, count in zip(seen, counts, strict=True) if label in writer.labels}
