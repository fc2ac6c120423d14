"""Epochs whose batches hold both new items and replayed ones: pure functions of (seed, epoch, item).

An epoch passes once over the new items. The replayed ones follow one another in an endless sequence of rounds, each of
which passes over all of them in an order of its own; an epoch goes on in it where the epoch before ended. A batch of 4
clips of which 2 are replayed, from the new items a, b, c and the replayed ones X, Y, Z:

    epoch 0    b a X Z | c Y
    epoch 1    a c Z X | b Y
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import Purpose, bits


@dataclass(frozen=True)
class Mixing:
    """Parts of the batches of an epoch, over all processes.

    Attributes:
        n_new: Number of new items; those with higher numbers are replayed.
        batch_size: Number of clips of a whole batch.
        replayed: Number of these that are replayed, at least 1 and less than all.
    """

    n_new: int
    batch_size: int
    replayed: int

    @property
    def n_clips(self) -> int:
        """Number of clips of an epoch. The last batch may be smaller, with about the same share of replayed clips."""
        return self._n_whole * self.batch_size + self._rest + self._rest_replayed

    def order(self, new: Indices, n_items: int, seed: int, epoch: int) -> tuple[Indices, Indices]:
        """Order the clips of an epoch: the items (n_clips,), and the round of each, (n_clips,).

        In each batch new items come first. The round of a new item is the epoch; that of a replayed one says how often
        it was shown before.

        Args:
            new: (n_new,) new items in the order of the epoch.
            n_items: Number of all items.
        """
        places = np.arange(self.n_clips)
        is_last = places >= self._n_whole * self.batch_size
        is_replayed = places % self.batch_size >= np.where(is_last, self._rest, self.batch_size - self.replayed)
        items, rounds = np.empty(self.n_clips, np.int64), np.full(self.n_clips, epoch)
        items[~is_replayed] = new
        items[is_replayed], rounds[is_replayed] = self._replayed(n_items, seed, epoch)
        return items, rounds

    def _replayed(self, n_items: int, seed: int, epoch: int) -> tuple[Indices, Indices]:
        """Draw the replayed items of an epoch, and the round of each."""
        replayed = np.arange(self.n_new, n_items)
        count = self.n_clips - self.n_new
        places = np.arange(epoch * count, (epoch + 1) * count)
        rounds = places // len(replayed)
        distinct = np.arange(rounds[0], rounds[-1] + 1) if count else rounds
        orders = np.argsort(bits(seed, distinct[:, None], Purpose.REPLAY_ORDER, replayed), axis=1, kind="stable")
        return replayed[orders[rounds - rounds[:1], places % len(replayed)]], rounds

    @property
    def _n_whole(self) -> int:
        return self.n_new // (self.batch_size - self.replayed)

    @property
    def _rest(self) -> int:
        return self.n_new % (self.batch_size - self.replayed)

    @property
    def _rest_replayed(self) -> int:
        """Number of replayed clips in the last batch where it isn't whole: their share of it, rounded."""
        n_new = self.batch_size - self.replayed
        return (2 * self._rest * self.replayed + n_new) // (2 * n_new)


def replayed_of(share: float, batch_size: int) -> int:
    """Number of clips of a batch that are replayed, for a share between 0 and 1, rounded."""
    return int(share * batch_size + 0.5)
