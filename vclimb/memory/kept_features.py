"""Features of exemplars as training replays them: read from a memory that keeps them in place of frames."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from vclimb.memory.feature_codec import Features32, keeps_features, parse_feature_codec
from vclimb.memory.store.errors import ExemplarDamagedError, MemoryEmptyError
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.arrays import Indices

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class KeptFeatures:
    """Features of the exemplars of a memory, by label id and rank.

    Attributes:
        features: (n, D) features of clips, or (n, K, D) of their frames.
        labels: (n,) label ids.
        names: (n,) names of the instances: label id, key and frames.
    """

    features: Features32
    labels: Indices
    names: list[str]


def holds_features(memory: MemoryStore) -> bool:
    """Tell whether a memory keeps features in place of frames; an empty one doesn't."""
    return any(keeps_features(stored.encoding) for stored in memory.classes.values())


def read_features(memory: MemoryStore) -> KeptFeatures:
    """Read the features of all exemplars. Those that can't be read are left out, with a warning.

    Raises:
        MemoryEmptyError: there are none that can be read.
        MemoryChangedError: exemplars were dropped since the memory was opened.
    """
    features, labels, names = [], [], []
    for label, stored in sorted(memory.classes.items()):
        codec = parse_feature_codec(stored.encoding)
        for rank in range(stored.n_exemplars):
            try:
                exemplar = memory.exemplar(label, rank)
            except ExemplarDamagedError as error:
                log.warning("left out of replay: %s", error)
                continue
            rows = codec.decode(exemplar.arrays)
            features.append(rows if codec.of_frames else rows.mean(axis=0))
            labels.append(label)
            names.append(_name(label, exemplar))
    if not features:
        raise MemoryEmptyError(f"{memory.path} has no features to replay: none of its exemplars can be read")
    return KeptFeatures(np.stack(features), np.array(labels, np.int64), names)


def _name(label: int, exemplar: Exemplar) -> str:
    return f"{label}/{exemplar.key}:{exemplar.start_frame}-{exemplar.end_frame}"
