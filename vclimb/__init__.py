"""The vCLIMB benchmark: video class-incremental learning under a storage budget.

Names are loaded when they are first used, so that `import vclimb` is fast and loads no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vclimb.benchmark.bench import bench as bench
    from vclimb.benchmark.report import BenchFigures as BenchFigures
    from vclimb.benchmark.report import BenchReport as BenchReport
    from vclimb.memory.api import Memory as Memory
    from vclimb.memory.api import SheetSummary as SheetSummary
    from vclimb.memory.api import pack as pack
    from vclimb.memory.pack import MemoryQuality as MemoryQuality
    from vclimb.memory.pack import PackSummary as PackSummary
    from vclimb.memory.store.reader import Damage as Damage
    from vclimb.methods.registry import list_methods as list_methods
    from vclimb.model.registry import list_networks as list_networks
    from vclimb.pipeline.api import Dataset as Dataset
    from vclimb.pipeline.api import DatasetStatistics as DatasetStatistics
    from vclimb.pipeline.api import PrepareSummary as PrepareSummary
    from vclimb.pipeline.api import VerifyReport as VerifyReport
    from vclimb.pipeline.api import open as open
    from vclimb.pipeline.api import prepare as prepare
    from vclimb.pipeline.api import verify as verify
    from vclimb.pipeline.errors import DatasetError as DatasetError
    from vclimb.pipeline.errors import DatasetMissingError as DatasetMissingError
    from vclimb.pipeline.errors import FfmpegMissingError as FfmpegMissingError
    from vclimb.pipeline.errors import FrameDamagedError as FrameDamagedError
    from vclimb.pipeline.errors import SettingsError as SettingsError
    from vclimb.pipeline.errors import SourceError as SourceError
    from vclimb.pipeline.errors import TargetBusyError as TargetBusyError
    from vclimb.pipeline.errors import TargetError as TargetError
    from vclimb.pipeline.errors import VclimbError as VclimbError
    from vclimb.pipeline.errors import VideoError as VideoError
    from vclimb.pipeline.errors import WorkersStoppedError as WorkersStoppedError
    from vclimb.pipeline.synth.dataset import SynthSummary as SynthSummary
    from vclimb.pipeline.synth.dataset import synth as synth
    from vclimb.scenario.api import Scenario as Scenario
    from vclimb.scenario.report import ScenarioReport as ScenarioReport
    from vclimb.scenario.task_sequence import ScenarioError as ScenarioError
    from vclimb.study.api import Study as Study
    from vclimb.study.planning.capacity import Capacity as Capacity
    from vclimb.study.planning.capacity import capacities as capacities
    from vclimb.study.planning.estimate import Estimate as Estimate
    from vclimb.study.report.write import Report as Report
    from vclimb.study.result import StudyResult as StudyResult
    from vclimb.training.api import plan as plan
    from vclimb.training.api import train as train
    from vclimb.training.config import RunConfig as RunConfig
    from vclimb.training.plan import RunPlan as RunPlan
    from vclimb.training.run_metrics import RunMetrics as RunMetrics
    from vclimb.training.saved_run import Run as Run

__version__ = "0.1.0"

_PUBLIC = {
    "BenchFigures": "vclimb.benchmark.report",
    "BenchReport": "vclimb.benchmark.report",
    "bench": "vclimb.benchmark.bench",
    "Damage": "vclimb.memory.store.reader",
    "Memory": "vclimb.memory.api",
    "MemoryQuality": "vclimb.memory.pack",
    "PackSummary": "vclimb.memory.pack",
    "SheetSummary": "vclimb.memory.api",
    "pack": "vclimb.memory.api",
    "list_methods": "vclimb.methods.registry",
    "list_networks": "vclimb.model.registry",
    "Dataset": "vclimb.pipeline.api",
    "DatasetStatistics": "vclimb.pipeline.api",
    "PrepareSummary": "vclimb.pipeline.api",
    "VerifyReport": "vclimb.pipeline.api",
    "open": "vclimb.pipeline.api",
    "prepare": "vclimb.pipeline.api",
    "verify": "vclimb.pipeline.api",
    "DatasetError": "vclimb.pipeline.errors",
    "DatasetMissingError": "vclimb.pipeline.errors",
    "FfmpegMissingError": "vclimb.pipeline.errors",
    "FrameDamagedError": "vclimb.pipeline.errors",
    "SettingsError": "vclimb.pipeline.errors",
    "SourceError": "vclimb.pipeline.errors",
    "TargetBusyError": "vclimb.pipeline.errors",
    "TargetError": "vclimb.pipeline.errors",
    "VclimbError": "vclimb.pipeline.errors",
    "VideoError": "vclimb.pipeline.errors",
    "WorkersStoppedError": "vclimb.pipeline.errors",
    "SynthSummary": "vclimb.pipeline.synth.dataset",
    "synth": "vclimb.pipeline.synth.dataset",
    "Run": "vclimb.training.saved_run",
    "RunConfig": "vclimb.training.config",
    "RunMetrics": "vclimb.training.run_metrics",
    "RunPlan": "vclimb.training.plan",
    "plan": "vclimb.training.api",
    "train": "vclimb.training.api",
    "Capacity": "vclimb.study.planning.capacity",
    "Estimate": "vclimb.study.planning.estimate",
    "Scenario": "vclimb.scenario.api",
    "ScenarioError": "vclimb.scenario.task_sequence",
    "ScenarioReport": "vclimb.scenario.report",
    "Study": "vclimb.study.api",
    "Report": "vclimb.study.report.write",
    "StudyResult": "vclimb.study.result",
    "capacities": "vclimb.study.planning.capacity",
}
"""Public name -> module that defines it."""

# Threads of torch that wait for each other sleep instead of spinning. With processes that decode on the same cores,
# spinning made training on two cores 3 to 10 times slower. The variable is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
