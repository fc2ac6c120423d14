"""A source-disjoint split: whole groups of clips (of one recording, one film) go to train or to test.

Where each group has clips of one class, the test share of every class is the nearest that its groups allow: a subset
sum. Groups with clips of several classes are dealt out first, by a local search. The groups of a single class then
bring the share of that class as near as possible.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from vclimb.scenario.instance import ScenarioError, ScenarioInstance
from vclimb.scenario.instances import ScenarioInstances

Clips = Counter[str]
"""Number of clips of each class."""


def split_by_group(
    instances: Sequence[ScenarioInstance], test_share: float, seed: int
) -> tuple[ScenarioInstances, ScenarioInstances]:
    """Split instances into train and test. No group is in both parts, and each class is.

    Args:
        instances: Instances, each with a group.
        test_share: Wanted share of test clips of each class, above 0 and below 1.
        seed: Seed of the choice of groups. The order of the instances has no influence.

    Returns:
        train and test instances, in the order of `instances`.

    Raises:
        ScenarioError: The share is out of range, or a class can't be split.
    """
    if not 0 < test_share < 1:
        raise ScenarioError(f"test share {test_share:g} is out of range; allowed: above 0 and below 1, e.g. 0.3")
    instances = ScenarioInstances.of(instances)
    names = instances.columns.column("group").dictionary_encode()
    if names.null_count:
        video = next(instance.video for instance in instances if instance.group is None)
        raise ScenarioError(f"video {video!r} has no group; a source-disjoint split needs the group of each")
    groups = _count_clips(names, instances)
    order = sorted(groups, key=lambda group: (hashlib.sha256(f"{seed}/{group}".encode()).digest(), group))
    totals = _sum(groups.values())
    shared = {group: groups[group] for group in order if len(groups[group]) > 1}
    test = _deal_shared(shared, test_share)
    in_test = _sum(shared[group] for group in test)
    in_train = _sum(clips for group, clips in shared.items() if group not in test)
    single: dict[str, list[tuple[str, int]]] = {label: [] for label in totals}
    for group in order:
        if group not in shared:
            ((label, count),) = groups[group].items()
            single[label].append((group, count))
    for label, total in totals.items():
        wanted = total * test_share - in_test[label]
        test |= _nearest(single[label], wanted, need_test=label not in in_test, need_train=label not in in_train)
    _check_both_sides(groups, totals, test)
    in_test_by_code = np.array([name in test for name in names.dictionary.to_pylist()], np.bool_)
    is_test = in_test_by_code[names.indices.to_numpy()]
    return instances.take(np.flatnonzero(~is_test)), instances.take(np.flatnonzero(is_test))


def _count_clips(names: pa.DictionaryArray, instances: ScenarioInstances) -> dict[str, Clips]:
    """Count the clips of each group and class, in the order of their first clips."""
    codes, labels = instances.codes("label")
    pairs = names.indices.to_numpy().astype(np.int64) * max(1, len(labels)) + codes
    different, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    order, texts = np.argsort(first), names.dictionary.to_pylist()
    groups: dict[str, Clips] = {}
    for pair, count in zip(different[order].tolist(), counts[order].tolist(), strict=True):
        group, label = divmod(pair, len(labels))
        groups.setdefault(texts[group], Counter())[labels[label]] = count
    return groups


def _sum(clips: Iterable[Clips]) -> Clips:
    total = Clips()
    for some in clips:
        total.update(some)
    return total


def _deal_shared(groups: Mapping[str, Clips], test_share: float) -> set[str]:
    """Choose the test groups among those with clips of several classes.

    Starting from the largest, a group changes sides wherever that brings the shares of its classes nearer to
    `test_share`, until no change helps.
    """
    totals = _sum(groups.values())
    in_test = Clips()

    def gain(group: str, sign: int) -> float:
        """Fall of the squared errors of the shares if a group joins (+1) or leaves (-1) test."""
        fall = 0.0
        for label, count in groups[group].items():
            before = in_test[label] / totals[label] - test_share
            fall += before**2 - (before + sign * count / totals[label]) ** 2
        return fall

    test: set[str] = set()
    order = sorted(groups, key=lambda group: -sum(groups[group].values()))
    changed = True
    while changed:  # ends, as each change lowers the sum of squares and there are finitely many states
        changed = False
        for group in order:
            sign = -1 if group in test else 1
            if gain(group, sign) > 1e-12:
                changed = True
                test ^= {group}
                for label, count in groups[group].items():
                    in_test[label] += sign * count
    return test


def _nearest(groups: Sequence[tuple[str, int]], wanted: float, *, need_test: bool, need_train: bool) -> set[str]:
    """Choose the groups of one class whose clips add up nearest to `wanted`, exactly, over all possible sums.

    At least one group is chosen where test needs one, and at least one is left where train does.
    """
    reached: dict[int, tuple[int, str] | None] = {0: None}  # sum -> the sum without its last group, and that group
    for group, count in groups:
        for before in sorted(reached, reverse=True):
            reached.setdefault(before + count, (before, group))
    total = sum(count for _, count in groups)
    allowed = [s for s in reached if not (need_test and s == 0) and not (need_train and s == total)]
    if not allowed:  # a class of one group, which the caller reports
        return set()
    chosen: set[str] = set()
    step = reached[min(allowed, key=lambda s: (abs(s - wanted), s))]
    while step is not None:
        before, group = step
        chosen.add(group)
        step = reached[before]
    return chosen


def _check_both_sides(groups: Mapping[str, Clips], totals: Clips, test: set[str]) -> None:
    in_test = _sum(groups[group] for group in test)
    for label, total in totals.items():
        if 0 < in_test[label] < total:
            continue
        n_groups = sum(label in clips for clips in groups.values())
        side = "test" if in_test[label] else "train"
        raise ScenarioError(
            f"class {label!r} can't be split by source: all {total} clips, of {n_groups} group(s), would be in "
            f"{side}; leave the class out, or use the data set's own split"
        )
