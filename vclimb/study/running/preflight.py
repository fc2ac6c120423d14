"""What no run of a study could take, found before any is started."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import VclimbError
from vclimb.scenario import Scenario, match
from vclimb.settings import Table
from vclimb.study.cells import Cell
from vclimb.study.constraints import DataTotals
from vclimb.training.checks import blur_warning, check_settings
from vclimb.training.config import ScenarioConfig, make_config
from vclimb.training.run import find_scenario, make_method


class ScenarioTotals:
    """What the training parts of scenarios hold, each looked at once.

    Args:
        dataset: that they are of.
    """

    def __init__(self, dataset: StoredDataset) -> None:
        self._dataset = dataset
        self._known: dict[ScenarioConfig, DataTotals] = {}

    def __call__(self, table: Table) -> DataTotals:
        """The training part of the scenario that a run's settings ask for: its own split, or its file's videos.

        Raises:
            VclimbError: it can't be made, or the data set lacks videos of it.
        """
        config = make_config({"data": "", "scenario": table.get("scenario", {})}).scenario
        if config not in self._known:
            dataset = self._dataset
            matched = match(find_scenario(config, dataset), dataset, config.allow_missing)
            self._known[config] = _totals(dataset, [one for task in matched.tasks for one in task.train])
        return self._known[config]


def _totals(dataset: StoredDataset, instances: Sequence[StoredInstance]) -> DataTotals:
    frames = sum(one.end_frame - one.start_frame for one in instances)
    n_bytes = sum(dataset.by_key[key].bytes for key in {one.key for one in instances})
    return DataTotals(len(instances), frames, n_bytes)


def dataset_digest(dataset: StoredDataset) -> str:
    """A digest of a data set's videos and instances, equal wherever it lies and whatever it is called."""
    digest = hashlib.sha256()
    for video in sorted((video.key, video.sha256) for video in dataset.videos):
        digest.update(repr(video).encode())
    for one in sorted(repr(instance) for instance in dataset.instances):
        digest.update(one.encode())
    return digest.hexdigest()


def preflight(cells: Sequence[Cell], dataset: StoredDataset) -> list[str]:
    """Check everything that can be checked without training: scenarios, models, codecs, and what goes together.

    Returns:
        What cells are warned of, each once.

    Raises:
        VclimbError: a cell couldn't be run.
    """
    scenarios: dict[ScenarioConfig, Scenario] = {}
    codecs: set[str] = set()
    warnings: dict[str, None] = {}
    for cell in cells:
        config = cell.config
        method = make_method(config)
        try:
            if config.scenario not in scenarios:
                scenario = find_scenario(config.scenario, dataset)
                match(scenario, dataset, config.scenario.allow_missing)
                scenarios[config.scenario] = scenario
            check_settings(config, method, scenarios[config.scenario], 1)
            if method.replays and config.memory.codec not in codecs:
                _check_codec(config.memory.codec, dataset)
                codecs.add(config.memory.codec)
            if warning := blur_warning(config, method, dataset):
                warnings[warning] = None
        except VclimbError as error:
            raise type(error)(f"cell {cell.run_id} ({config.method['name']}): {error}") from None
    return list(warnings)


def _check_codec(name: str, dataset: StoredDataset) -> None:
    """Encode a frame: `copy` can't take the frames of every data set."""
    provider = InstanceProvider(dataset, dataset.instances[:1])
    parse_codec(name).encode(source_frames(provider, 0, provider.items.n_frames[:1] // 2))
