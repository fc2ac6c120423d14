"""Checks of a study's cells before any run starts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.columns import StoredInstances
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import VclimbError
from vclimb.settings import from_table
from vclimb.study.cells import Cell
from vclimb.study.constraints import DataTotals, TotalsOf
from vclimb.training.checks import check_settings
from vclimb.training.config import ScenarioConfig
from vclimb.training.ledger import check_kept
from vclimb.training.memory_settings import memory_settings
from vclimb.training.run import make_method
from vclimb.training.scenarios import MatchedScenarios
from vclimb.training.warnings import run_warnings


def check_limit(cell: Cell, scenarios: MatchedScenarios) -> None:
    """Refuse a method without exemplars that keeps more than the study's largest budget, by a SettingsError."""
    if cell.limit is not None:
        tasks = scenarios.get(cell.config.scenario).tasks
        classes_per_task = tuple(len(task.classes) for task in tasks)
        check_kept(
            make_method(cell.config), cell.limit, classes_per_task, cell.config.model, cell.config.training.frozen
        )


def scenario_totals(scenarios: MatchedScenarios) -> TotalsOf:
    """Make the function that measures the training part of the scenario in a table of a run's settings.

    Raises:
        VclimbError: By that function: the scenario can't be made, or the data set lacks videos of it.
    """

    @cache
    def measured(config: ScenarioConfig) -> DataTotals:
        train = StoredInstances.joined([task.train for task in scenarios.get(config).tasks])
        frames = int((train.numbers("end_frame") - train.numbers("start_frame")).sum())
        n_bytes = int(train.videos.numbers("bytes")[np.unique(train.numbers("video"))].sum())
        return DataTotals(len(train), frames, n_bytes)

    return lambda table: measured(from_table(ScenarioConfig, table.get("scenario", {}), "scenario"))


def dataset_digest(dataset: StoredDataset) -> str:
    """SHA-256 of a data set's videos and instances. Its place and name have no influence."""
    digest = hashlib.sha256()
    for video in sorted((video.key, video.sha256) for video in dataset.videos):
        digest.update(repr(video).encode())
    for instance in sorted(repr(instance) for instance in dataset.instances):
        digest.update(instance.encode())
    return digest.hexdigest()


def preflight(cells: Sequence[Cell], scenarios: MatchedScenarios) -> list[str]:
    """Check scenarios, models, codecs and their combinations, without training.

    Returns:
        warnings, each once.

    Raises:
        VclimbError: A cell couldn't be run.
    """
    dataset = scenarios.dataset
    codecs: set[str] = set()
    warnings: dict[str, None] = {}
    for cell in cells:
        config = cell.config
        method = make_method(config)
        try:
            scenario = scenarios.get(config.scenario).scenario
            check_settings(config, method, scenario, 1)
            check_limit(cell, scenarios)
            settings = memory_settings(config, method, dataset.settings.codec)
            if method.replays and not method.replays_features and settings.codec not in codecs:
                # `copy` can't take the frames of every data set.
                provider = InstanceProvider(dataset, dataset.instances[:1])
                parse_codec(settings.codec).encode(source_frames(provider, 0, provider.items.n_frames[:1] // 2))
                codecs.add(settings.codec)
            warnings |= dict.fromkeys(run_warnings(config, method, dataset, scenario))
        except VclimbError as error:
            raise type(error)(f"cell {cell.run_id} ({config.method['name']}): {error}") from None
    return list(warnings)
