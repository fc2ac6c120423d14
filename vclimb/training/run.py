"""A run from its settings to its metrics: what `vclimb train` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.replay import ReplayMemory
from vclimb.methods.method import Method
from vclimb.methods.registry import parse_method
from vclimb.model.inference import InferenceSettings
from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sizes import parse_size
from vclimb.pipeline.stream.workers import kept_workers
from vclimb.pipeline.system.paths import local_path
from vclimb.scenario import match
from vclimb.training.beginnings import Beginnings
from vclimb.training.checkpoint import checkpoints
from vclimb.training.config import RunConfig
from vclimb.training.gpu import cudnn_search, gpu_starting, memory_explained
from vclimb.training.learner import Learner
from vclimb.training.memory_settings import memory_settings
from vclimb.training.predictor import Predictor
from vclimb.training.processes import Processes, distributed
from vclimb.training.run_context import RunContext
from vclimb.training.run_folder import EVENTS, METRICS, TENSORBOARD, RunFolder
from vclimb.training.run_log import EventFile, RunLog, TensorBoardLog, WandbLog
from vclimb.training.run_metrics import MetricsDamagedError, RunMetrics
from vclimb.training.scenarios import find_scenario
from vclimb.training.start import StartClock
from vclimb.training.stopping import StopRequest
from vclimb.training.trainer import Trainer
from vclimb.training.training_data import RunData
from vclimb.training.warnings import run_warnings


def train(
    config: RunConfig,
    out: Path | str,
    resume: bool = False,
    run_log: RunLog | None = None,
    beginnings: Path | str | None = None,
    start: StartClock | None = None,
) -> RunMetrics:
    """Train over the tasks of a scenario, unless the run is complete; errors are those of `vclimb.train`.

    Rank 0 alone uses `run_log`, besides the folder's files. `start` has run since the call that trains.
    """
    start = StartClock() if start is None else start
    folder = RunFolder(out)
    dataset = cached_data(config)
    stop = StopRequest()
    with distributed(config.compute.device) as processes, ExitStack() as stack:
        stack.enter_context(memory_explained(processes.device))
        stack.enter_context(cudnn_search(config.compute.cudnn_search))
        with gpu_starting(processes.device):
            context = make_context(config, folder, dataset, processes, stop, start)
        trainer = Trainer(context, folder, None if beginnings is None else Beginnings(beginnings))
        if processes.is_first:
            stack.enter_context(folder.held())
            folder.begin(config, resume)
        processes.barrier()
        metrics, is_damaged = None, False
        try:
            metrics = folder.metrics()
        except MetricsDamagedError:
            if not checkpoints(folder.checkpoints):
                raise
            is_damaged = True
        if metrics is not None and metrics.complete:
            return metrics
        stack.enter_context(stop.listening())
        context.log = stack.enter_context(_logs(config, folder, processes, run_log))
        if is_damaged:
            text = f"{METRICS} is damaged; the run goes on from its checkpoint and writes it anew"
            context.log.event("warning", text=text)
        if (matched := context.data.matched).left_out:
            context.log.event("warning", text=f"left out of {matched.scenario.name}: {matched.losses}")
        for warning in run_warnings(config, context.method, dataset, matched.scenario):
            context.log.event("warning", text=warning)
        start.end("folder")
        stack.enter_context(kept_workers())  # a task has four streams and more, each a short pass over clips
        return trainer.train()


def cached_data(config: RunConfig) -> StoredDataset:
    """Open the data set of a run; shards of a bucket are read through copies on this machine."""
    compute = config.compute
    cache = CacheSettings.default(compute.cache_bytes)
    if compute.cache is not None:
        cache = CacheSettings(local_path(compute.cache), compute.cache_bytes)
    return StoredDataset.open(config.data).cached(cache, config.shard_group)


def make_method(config: RunConfig) -> Method:
    kind, method_config = parse_method(config.method)
    method = kind(method_config, config.resolved_differences, config.consistency.weight)
    method.label_smoothing = config.training.label_smoothing
    if "budget" in kind.memory_settings:  # others may share the first task's training across budgets
        budget = MemoryBudget.parse(config.memory.budget)
        method.budget_bytes = budget.amount if budget.kind == "bytes" else None
    return method


def make_context(
    config: RunConfig,
    folder: RunFolder,
    dataset: StoredDataset,
    processes: Processes,
    stop: StopRequest,
    start: StartClock | None = None,
) -> RunContext:
    """Make what the parts of a run share. Writes nothing."""
    start = StartClock() if start is None else start
    method, differences = make_method(config), config.resolved_differences
    data = RunData(
        dataset,
        match(find_scenario(config.scenario, dataset), dataset, config.scenario.allow_missing, config.least_frames),
        cache_bytes=parse_size(config.memory.cache),
    )
    start.end("data")
    learner = Learner(config.beginning(), processes, data.classes_per_task[0])
    start.end("network")
    joined = config.consistency.weight and differences.second_view_batch_norm == "joined"
    clips_per_step = config.training.batch_size * (2 if joined else 1)  # of a pass
    inference = InferenceSettings(
        n_frames=config.model.clip_frames,
        size=config.model.size,
        batch_size=max(1, (config.compute.eval_batch_size or clips_per_step) // processes.world_size),
        decoder=config.compute.decoder,
        workers=config.compute.workers,
        autocast=learner.autocast if differences.inference_precision == "as-training" else None,
        codec=data.codec,
    )
    memory = ReplayMemory(folder.memory, memory_settings(config, method, data.codec))
    predictor = Predictor(inference, processes)
    return RunContext(config, data, processes, RunLog(), stop, method, learner, predictor, memory, start)


@contextmanager
def _logs(config: RunConfig, folder: RunFolder, processes: Processes, run_log: RunLog | None) -> Iterator[RunLog]:
    """Open all logs of a run as one. Ranks other than 0 log nothing."""
    if not processes.is_first:
        yield RunLog()
        return
    logs: list[RunLog] = [EventFile(folder.path / EVENTS)]
    if config.log.tensorboard:
        logs.append(TensorBoardLog(folder.path / TENSORBOARD))
    if config.log.wandb:
        logs.append(WandbLog(config.log.wandb, folder.path, config.to_table()))
    if run_log is not None:
        logs.append(run_log)
    with closing(RunLog(*logs)) as all_logs:
        yield all_logs
