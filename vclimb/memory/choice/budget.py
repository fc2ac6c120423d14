"""How much the memory may hold, and how many exemplars that leaves each class.

A budget is shared out equally over the classes seen so far, in the order in which they were first seen. Each class
keeps the longest prefix of its ranking that fits in its share. All numbers are whole, so that results are the same on
every machine.

What does not divide evenly goes to the earliest classes, one exemplar each, since a class's place in the order never
changes; or it stays unused, as in the benchmark's released code, which keeps `budget // classes` videos of a class.
Either way, a budget is never exceeded, shares differ by one exemplar at most, and the share of a class never grows when
classes are added: no dropped exemplar would have a place again.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import parse_size, size_text

Kind = Literal["videos", "frames", "bytes", "none", "all"]
Remainder = Literal["earliest-classes", "unused"]
"""Use of what a budget can't share out equally."""

_ALLOWED = "videos (2020v), frames (16160f), bytes on disk (64MB, 64MiB), none or all"


@dataclass(frozen=True)
class MemoryBudget:
    """Limit of what the memory may hold.

    Attributes:
        kind: Unit that is counted: `videos`, `frames` or `bytes` on disk; or `none` (nothing is kept) or `all`.
        amount: Number of units, 1 or more; 0 for `none` and `all`.

    Raises:
        SettingsError: the amount isn't allowed for this kind, or there is no such kind.
    """

    kind: Kind
    amount: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SettingsError(f"budget of {self.kind!r} is not known; allowed: {', '.join(get_args(Kind))}")
        if self.kind in ("none", "all"):
            if self.amount != 0:
                raise SettingsError(f"budget {self.kind!r} takes no amount, but {self.amount} was given; leave it out")
        elif self.amount < 1:
            raise SettingsError(
                f"budget of {self.amount} {self.kind} is out of range; allowed: 1 or more, or none for no memory"
            )

    @staticmethod
    def parse(text: str) -> MemoryBudget:
        """Read `2020v` (videos), `16160f` (frames), `64MB` (bytes on disk, any unit of `parse_size`), `none` or `all`.

        Raises:
            SettingsError: the text is none of these. A number alone is refused: it could count any of them.
        """
        word = text.strip().lower()
        if word in ("none", "all"):
            return MemoryBudget("none" if word == "none" else "all")
        if counted := re.fullmatch(r"([0-9]{1,18})\s*([vf])", word):
            return MemoryBudget("videos" if counted[2] == "v" else "frames", int(counted[1]))
        if not word.endswith(("b", "k", "m", "g", "ki", "mi", "gi")):
            raise SettingsError(f"budget {text!r} is not understood; write {_ALLOWED}")
        try:
            return MemoryBudget("bytes", parse_size(word))
        except SettingsError:
            raise SettingsError(f"budget {text!r} is not understood; write {_ALLOWED}") from None

    def __str__(self) -> str:
        """Write the text that `parse` reads as this budget."""
        if self.kind in ("none", "all"):
            return self.kind
        return size_text(self.amount) if self.kind == "bytes" else f"{self.amount}{self.kind[0]}"

    def cost(self, n_frames: int, n_bytes: int) -> int:
        """Count what an exemplar takes of this budget: 1 video, its frames, or its bytes on disk."""
        return {"frames": n_frames, "bytes": n_bytes}.get(self.kind, 1)

    def kept(
        self,
        costs: Sequence[Sequence[int]],
        *,
        multiple: int = 1,
        root_bytes: int = 0,
        class_bytes: Sequence[int] | None = None,
        rebalance: bool = False,
        remainder: Remainder = "earliest-classes",
    ) -> list[int]:
        """Decide how many exemplars each class keeps, from the start of its ranking.

        Args:
            costs: For each class, in the order in which they were first seen, the `cost` of each available exemplar,
                in rank order. Of an earlier task's class, only stored exemplars are available.
            multiple: Number that each share is a multiple of. Give K for a budget of frames, so that `16160f` of 16
                frames a video is the same as `1010v`.
            root_bytes: Bytes of an empty store. Only a budget of bytes counts `root_bytes` and `class_bytes`.
            class_bytes: Bytes of each class besides its exemplars, once it has an exemplar.
            rebalance: Whether classes that can't use their share give it to others; see `fill`.

        Raises:
            SettingsError: the budget is smaller than an empty store.
        """
        if self.kind == "none":
            return [0] * len(costs)
        if self.kind == "all":
            return [len(ranked) for ranked in costs]
        if self.kind != "bytes":
            return fill(self.amount, costs, multiple=multiple, rebalance=rebalance, remainder=remainder)
        if root_bytes > self.amount:
            raise SettingsError(
                f"budget {self} is {self.amount} bytes, but a memory without exemplars takes {root_bytes}; "
                "allow more, or write none for no memory"
            )
        return fill(
            self.amount - root_bytes, costs, class_bytes, multiple=multiple, rebalance=rebalance, remainder=remainder
        )


def shares(amount: int, n_classes: int, multiple: int = 1, remainder: Remainder = "earliest-classes") -> list[int]:
    """Share an amount out equally over classes.

    Each share is a multiple of `multiple`. Together they are at most the amount. Where it doesn't divide evenly, the
    first classes get `multiple` more, so that less than `multiple` is left; or the remainder stays unused. A class's
    share never grows with the number of classes.
    """
    if n_classes == 0:
        return []
    each, rest = divmod(amount // multiple, n_classes)
    larger = rest if remainder == "earliest-classes" else 0
    return [multiple * (each + (place < larger)) for place in range(n_classes)]


def fill(
    amount: int,
    costs: Sequence[Sequence[int]],
    overheads: Sequence[int] | None = None,
    *,
    multiple: int = 1,
    rebalance: bool = False,
    remainder: Remainder = "earliest-classes",
) -> list[int]:
    """Decide how many exemplars each class keeps: the longest prefix of its ranking that fits in its share.

    With `rebalance`, each class first gets the same number as without. Exemplars are then added one at a time, to the
    class that has spent least (the earliest of several), until no class's next exemplar fits in the rest of the amount.
    No exemplar is skipped for a smaller one of a lower rank.

    Args:
        amount: Amount to share out, 0 or more.
        costs: For each class, the costs of its exemplars in rank order; each 1 or more.
        overheads: For each class, the cost of having any exemplar; None: nothing.

    Returns:
        a number for each class. The costs and overheads together are at most the amount.
    """
    overheads = [0] * len(costs) if overheads is None else overheads
    if len(overheads) != len(costs):
        raise ValueError(f"{len(overheads)} overheads don't fit {len(costs)} classes")
    if amount < 0 or multiple < 1 or min(overheads, default=0) < 0 or any(min(c, default=1) < 1 for c in costs):
        raise ValueError("an amount or an overhead below 0, or a multiple or a cost below 1, can't be shared out")
    # totals[c][k]: what class c costs with its first k exemplars; without exemplars it costs nothing.
    totals = [list(accumulate(ranked, initial=own)) for ranked, own in zip(costs, overheads, strict=True)]
    kept = [
        max(0, bisect_right(total, share) - 1)
        for total, share in zip(totals, shares(amount, len(costs), multiple, remainder), strict=True)
    ]
    if rebalance:
        _hand_out_rest(amount, totals, kept)
    return kept


def _hand_out_rest(amount: int, totals: Sequence[Sequence[int]], kept: list[int]) -> None:
    """Add exemplars to `kept`, one at a time, as long as they fit in the part of the amount that isn't spent."""
    spent = [total[count] if count else 0 for total, count in zip(totals, kept, strict=True)]
    left = amount - sum(spent)
    queue = [(spent[place], place) for place in range(len(kept)) if kept[place] + 1 < len(totals[place])]
    heapq.heapify(queue)
    while queue:
        before, place = heapq.heappop(queue)
        after = totals[place][kept[place] + 1]
        if after - before > left:
            continue  # the rest only shrinks: this class can get no more
        left -= after - before
        kept[place] += 1
        if kept[place] + 1 < len(totals[place]):
            heapq.heappush(queue, (after, place))
