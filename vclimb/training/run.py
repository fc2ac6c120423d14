"""A run from its settings to its metrics: what `vclimb train` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vclimb.memory.replay import ReplayMemory
from vclimb.methods.method import Method
from vclimb.methods.registry import parse_method
from vclimb.model.inference import InferenceSettings
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.workers import kept_workers
from vclimb.scenario import MatchedScenario, Scenario, match
from vclimb.training.checks import blur_warning
from vclimb.training.config import RunConfig, ScenarioConfig
from vclimb.training.learner import Learner
from vclimb.training.predictor import Inference
from vclimb.training.processes import Processes, joined
from vclimb.training.run_context import RunContext
from vclimb.training.run_folder import EVENTS, TENSORBOARD, RunFolder
from vclimb.training.run_log import EventFile, Logs, RunLog, TensorBoardLog, WandbLog
from vclimb.training.run_metrics import RunMetrics
from vclimb.training.stopping import StopRequest
from vclimb.training.trainer import Trainer


def train(config: RunConfig, out: Path | str, resume: bool = False, run_log: RunLog | None = None) -> RunMetrics:
    """Train over the tasks of a scenario; a run that is complete is left as it is.

    Args:
        config: all settings.
        out: the run's folder.
        resume: go on with the run that is there; where there is none, begin.
        run_log: is told what happens, besides the folder's own files; of the first process only.

    Raises:
        KeyboardInterrupt: it was asked to stop; it can be resumed.
        VclimbError: the settings, the data set or the scenario don't allow it, or it can't go on.
    """
    folder = RunFolder(out)
    dataset = StoredDataset.open(config.data)
    matched = match(find_scenario(config.scenario, dataset), dataset, config.scenario.allow_missing)
    stop = StopRequest()
    with joined(config.compute.device) as processes, ExitStack() as stack:
        context = make_context(config, folder, dataset, matched, processes, stop)
        trainer = Trainer(context, folder)
        if processes.is_first:
            stack.enter_context(folder.held())
            folder.begin(config, resume)
        processes.barrier()
        metrics = folder.metrics()
        if metrics is not None and metrics.complete:
            return metrics
        stack.enter_context(stop.listening())
        context.log = stack.enter_context(_logs(config, folder, processes, run_log))
        if matched.left_out:
            context.log.event("warning", text=f"left out of {matched.scenario.name}: {matched.losses}")
        if warning := blur_warning(config, context.method, dataset):
            context.log.event("warning", text=warning)
        stack.enter_context(kept_workers())  # a task has four streams and more, each a short pass over clips
        return trainer.train()


def find_scenario(config: ScenarioConfig, dataset: StoredDataset) -> Scenario:
    """The scenario that settings ask for.

    Raises:
        ScenarioError: it can't be read or made.
        SettingsError: neither a file nor a plan is given, or both.
    """
    plan = [name for name in ("tasks", "base", "step") if getattr(config, name) is not None]
    if config.file is not None:
        if plan:
            raise SettingsError(f"scenario.{plan[0]} is for a data set; scenario {config.file!r} has tasks of its own")
        return Scenario.open(config.file, untrimmed=config.untrimmed)
    if not plan:
        raise SettingsError("no scenario was given; name a file by --scenario, or deal classes out by --tasks 10")
    return Scenario.from_dataset(
        dataset,
        tasks=config.tasks,
        base=config.base,
        step=config.step,
        seed=config.seed,
        split=config.split,
        test_share=config.test_share if config.split == "group" else None,
    )


def make_method(config: RunConfig) -> Method:
    """Make the method of a run."""
    kind, method_config = parse_method(config.method)
    return kind(method_config, config.protocol == "released", config.consistency.weight)


def make_context(
    config: RunConfig,
    folder: RunFolder,
    dataset: StoredDataset,
    matched: MatchedScenario,
    processes: Processes,
    stop: StopRequest,
) -> RunContext:
    """All that the parts of a run share; nothing is written."""
    method = make_method(config)
    learner = Learner(config, processes, len(matched.scenario.tasks[0].classes))
    shown = config.training.batch_size * (2 if config.consistency.weight else 1)
    clips = config.compute.eval_batch_size or shown
    inference = InferenceSettings(
        n_frames=config.model.clip_frames,
        size=config.model.size,
        batch_size=max(1, clips // processes.world_size),
        decoder=config.compute.decoder,
        workers=config.compute.workers,
        bf16=learner.bf16,
    )
    return RunContext(
        config=config,
        dataset=dataset,
        matched=matched,
        processes=processes,
        log=RunLog(),
        stop=stop,
        method=method,
        learner=learner,
        inference=Inference(inference, dataset.settings.codec, processes),
        memory=ReplayMemory(folder.memory, config.memory.settings(method.video_choice, config.seed)),
    )


@contextmanager
def _logs(config: RunConfig, folder: RunFolder, processes: Processes, more: RunLog | None) -> Iterator[RunLog]:
    """All logs of a run as one; those of other processes than the first say nothing."""
    if not processes.is_first:
        yield RunLog()
        return
    logs: list[RunLog] = [EventFile(folder.path / EVENTS)]
    if config.log.tensorboard:
        logs.append(TensorBoardLog(folder.path / TENSORBOARD))
    if config.log.wandb:
        logs.append(WandbLog(config.log.wandb, folder.path, config.to_table()))
    if more is not None:
        logs.append(more)
    together = Logs(logs)
    try:
        yield together
    finally:
        together.close()
