"""Training over the tasks of a scenario, killed and resumed at any moment.

A task is trained; then the method does what it does after a task; then a checkpoint is written, the task's classes
join the replay memory, and all tasks so far are evaluated; then the next checkpoint is written. So a run that goes on
meets the memory that its checkpoint was made with, or the one after an update that it makes again to no effect.
Everything that draws is a function of the seed and the task, or its state is in the checkpoint.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from vclimb.memory.replay import UpdateReport
from vclimb.methods.method import TaskInfo
from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.sizes import parse_size
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.checkpoint import CheckpointError, newest_checkpoint, save_checkpoint
from vclimb.training.checks import check_settings
from vclimb.training.evaluation import evaluate, forward_accuracies
from vclimb.training.measurements import Measurements, memory_facts
from vclimb.training.rng import rng_state, seed_all, set_rng_state
from vclimb.training.run_context import RunContext, TaskState
from vclimb.training.run_folder import RunFolder
from vclimb.training.run_metrics import RunMetrics, TaskRecord
from vclimb.training.task_data import RunTaskData
from vclimb.training.task_training import TaskTraining
from vclimb.training.training_data import TrainingItems, training_items

TRAIN, MEMORY, COMPLETE = "train", "memory", "complete"
_STEPS_OF_A_TASK = 10**9  # more than any has


class Trainer:
    """Trains and evaluates over the tasks of a scenario.

    Args:
        run: all that is shared.
        folder: of the run, held by rank 0.

    Raises:
        SettingsError: settings don't go together.
    """

    def __init__(self, run: RunContext, folder: RunFolder) -> None:
        self._run, self._folder = run, folder
        self._measured = Measurements(run.sizes)
        self._loaded: dict[str, Any] | None = None
        check_settings(run.config, run.method, run.scenario, run.processes.world_size)

    def train(self) -> RunMetrics:
        """Train the tasks that are left.

        Raises:
            KeyboardInterrupt: the run was asked to stop; it can be resumed.
            VclimbError: it can't go on.
        """
        state = self._begin()
        while state is not None:
            state = self._task(state)
        metrics = self._metrics()
        self._run.log.event("complete", acc=metrics.acc, bwf=metrics.bwf)
        return metrics

    def _metrics(self) -> RunMetrics:
        run, device = self._run, self._run.processes.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        return self._measured.to_metrics(run.config, run.matched, run.dataset.name, run.method.classifier, name)

    def _task(self, state: TaskState) -> TaskState | None:
        """A task, or what is left of it; then the next one."""
        run, info = self._run, state.info
        classes = list(run.scenario.tasks[info.number].classes)
        run.log.event("task", task=info.number, n_tasks=len(run.sizes), classes=classes)
        with self._phase(state, "items"):
            items = self._items(state)
        try:
            if state.phase == TRAIN:
                self._train(state, items)
                self._save(state, MEMORY)
            update = self._update_memory(state, items)
        finally:
            items.close()
        with self._phase(state, "evaluate"):
            counted = evaluate(run, info.number)
        record = TaskRecord(
            task=info.number,
            classes=tuple(classes),
            train_instances=len(items.new.items),
            replay_exemplars=state.replayed,
            epochs=run.config.training.epochs_of(info.number),
            selected_epoch=None if state.best is None else state.best["epoch"],
            steps=state.steps,
            skipped_clips=state.skipped,
            memory=memory_facts(None if update is None else update.usage),
            seconds=state.clock.seconds,
            loader_wait_share=state.idle.loader_wait_share if state.idle else None,
            gpu_idle_share=state.idle.gpu_idle_share if state.idle else None,
        )
        self._measured.add(counted, record)
        return self._end(state)

    def _items(self, state: TaskState) -> TrainingItems:
        """What the task is trained on; after its training, when the memory may have its classes, without exemplars."""
        run, number = self._run, state.info.number
        memory = run.stored_memory() if number and state.phase == TRAIN else None
        cache_bytes = parse_size(run.config.memory.cache)
        items = training_items(run.dataset, run.matched, number, memory, run.method.all_data, cache_bytes)
        if state.phase == TRAIN:
            if (items.labels[items.is_replay] >= state.info.n_old).any():  # its newest checkpoint can't be read
                items.close()
                raise CheckpointError(
                    f"the memory in {self._folder.path} holds classes of task {number + 1} already, and the checkpoint "
                    "that can be read is from before that task's end: going on would train the task on its own "
                    "exemplars; restore the newest checkpoint from a copy, or begin the run anew in another folder"
                )
            state.replayed = int(items.is_replay.sum())
        return items

    def _train(self, state: TaskState, items: TrainingItems) -> None:
        run, info = self._run, state.info
        data = RunTaskData(run, items, info)
        if items.decoding is not None:
            run.log.event("decoded_ahead", cost=str(items.decoding), seconds=items.decoding.seconds)
        if state.stream is None:
            if run.config.compute.forward_transfer:
                with self._phase(state, "forward_transfer"):
                    accuracies = forward_accuracies(run, info.number)
                self._measured.forward = [*self._measured.forward[: info.number], list(accuracies)]
            run.method.begin_task(info, run.learner.model)
            if run.method.restarts:
                run.learner.restart(info.n_classes)
            elif info.number:
                run.learner.grow(info.n_classes, run.seed(info.number))
            seed_all(run.seed(info.number, 1, run.processes.rank))
        chosen = run.method.training_items(info, data)
        loaded, self._loaded = self._loaded, None  # as large as network and optimiser: not kept beyond its use
        TaskTraining(run, state, items, chosen, lambda stream: self._save(state, TRAIN, stream)).train(loaded)
        with self._phase(state, "consolidate"):
            run.method.end_task(info, run.learner.model, data)

    def _update_memory(self, state: TaskState, items: TrainingItems) -> UpdateReport | None:
        """Let the task's classes join the memory; None where the method keeps none."""
        run, info = self._run, state.info
        if not run.method.replays:
            return None
        with self._phase(state, "memory"):
            candidates = items.candidates(range(info.n_old, info.n_classes), run.scenario.classes)
            if run.memory.settings.needs_features:
                tell = run.progress("features", len(items.new.items))
                found = run.inference.readable(run.learner.model, items.new, tell)
                candidates = [one.of_readable(found.items, found.features.numpy()) for one in candidates]
                for item in np.setdiff1d(np.arange(len(items.new.items)), found.items).tolist():
                    name = str(items.new.items.keys[item])
                    run.log.event("warning", text=f"passed over as an exemplar: {name!r} has frames that can't be read")
            report: UpdateReport | None = None
            error: VclimbError | None = None
            if run.processes.is_first:
                try:
                    report = run.memory.update(items.new, candidates, range(info.n_classes), run.stop.check)
                except VclimbError as failed:
                    error = failed
            report, error = run.processes.from_first((report, error))
        if error is not None or report is None:
            raise error or AssertionError("rank 0 sends a report or an error")
        for reason in report.skipped:
            run.log.event("warning", text=f"passed over as an exemplar: {reason}")
        return report

    def _end(self, state: TaskState) -> TaskState | None:
        """Write down what is known, and the checkpoint that the next task begins with."""
        run, number = self._run, state.info.number
        is_last = number + 1 == len(run.sizes)
        following = TaskState(state.info if is_last else TaskInfo(number + 1, run.sizes))
        with self._phase(state, "checkpoint"):
            self._save(following, COMPLETE if is_last else TRAIN)
        metrics = self._metrics()
        if run.processes.is_first:  # after the checkpoint: what is complete is never begun again
            self._folder.write_metrics(metrics)
        run.log.event(
            "evaluated",
            task=number,
            n_tasks=len(run.sizes),
            acc=metrics.acc,
            bwf=metrics.bwf,
            average_incremental_accuracy=metrics.average_incremental_accuracy,
            accuracies=metrics.R[-1][: number + 1],
            memory=metrics.memory and asdict(metrics.memory),
            seconds=state.clock.seconds,
        )
        run.processes.barrier()
        return None if is_last else following

    def _begin(self) -> TaskState | None:
        """Where to start or go on; None after the last task."""
        run = self._run
        tree = newest_checkpoint(self._folder.checkpoints)
        run.log.event(
            "run",
            resumed=tree is not None,
            method=run.method.name,
            n_tasks=len(run.sizes),
            n_classes=run.n_classes,
            processes=run.processes.world_size,
            device=str(run.processes.device),
        )
        if tree is None:
            return TaskState(TaskInfo(0, run.sizes))
        if tree.get("content", run.content) != run.content:
            raise CheckpointError(
                f"the run in {self._folder.path} was begun on other data than {run.config.data} holds now: its videos, "
                "or the classes and instances of its tasks, are not the same; go on with the data that it was begun on"
            )
        self._measured = Measurements.from_state(run.sizes, tree["records"])
        if tree["phase"] == COMPLETE:
            if run.processes.is_first:  # it may have been killed before they were written
                self._folder.write_metrics(self._metrics())
            return None
        run.learner.load_model(tree)
        run.method.load_state_dict(tree["method"], run.learner.model)
        state = TaskState(
            TaskInfo(tree["task"], run.sizes),
            tree["phase"],
            tree["stream"],
            tree["replayed"],
            tree["steps"],
            tree["skipped"],
        )
        state.best, state.clock.seconds = tree["best"], tree["seconds"]
        if state.stream is not None:
            self._loaded = tree
            ranks = tree["rng"]
            if run.processes.rank < len(ranks):
                set_rng_state(ranks[run.processes.rank], run.processes.device)
            else:  # more processes than there were
                seed_all(run.seed(tree["task"], 1, run.processes.rank))
        return state

    def _save(self, state: TaskState, phase: str, stream: ClipStream | None = None) -> None:
        """Write where the run stands. All processes take part."""
        run = self._run
        ranks = run.processes.gather(rng_state(run.processes.device))
        if not run.processes.is_first:
            return
        at = None if stream is None else stream.state_dict()
        tree = {
            "content": run.content,
            "task": state.info.number,
            "phase": phase,
            "stream": None if at is None else {"epoch": at["epoch"], "position": at["position"]},
            "replayed": state.replayed,
            "steps": state.steps,
            "skipped": state.skipped + (0 if stream is None else stream.skipped),
            "seconds": state.clock.seconds,
            "best": state.best,
            "rng": ranks,
            "method": {} if phase == COMPLETE else run.method.state_dict(),
            "records": self._measured.state_dict(),
            **run.learner.state_dict(with_optimizer=stream is not None),
        }
        place = {TRAIN: state.steps, MEMORY: _STEPS_OF_A_TASK - 2, COMPLETE: _STEPS_OF_A_TASK - 1}[phase]
        kept = 1 if phase == COMPLETE else None
        save_checkpoint(self._folder.checkpoints, state.info.number * _STEPS_OF_A_TASK + place, tree, kept)

    def _phase(self, state: TaskState, name: str) -> AbstractContextManager[None]:
        """Count what happens within to a phase; ends here if the run was asked to stop."""
        self._run.stop.check()
        return state.clock.phase(name)
