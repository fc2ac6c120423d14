"""Training over the tasks of a scenario, killed and resumed at any moment.

Each task is trained; the method does its work at the end of the task; a checkpoint is written; the task's classes join
the replay memory; all tasks so far are evaluated; and the next checkpoint is written. So a resumed run meets either the
memory that its checkpoint was made with, or the memory after the next update, and repeating that update changes
nothing. With `Method.memory_first`, the update comes before a task's training too. Every random draw is a function of
the seed and the task, or its state is in the checkpoint.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from dataclasses import asdict
from typing import Any

import torch

from vclimb.memory.replay import UpdateReport
from vclimb.methods.method import TaskInfo
from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.beginnings import Beginnings
from vclimb.training.candidates import memory_candidates
from vclimb.training.checkpoint import (
    CheckpointError,
    keep_newest,
    newest_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from vclimb.training.checks import check_settings
from vclimb.training.evaluation import evaluate, forward_accuracies
from vclimb.training.measurements import Measurements, memory_facts
from vclimb.training.memory_pilot import choose_memory, follow_pilot
from vclimb.training.run_context import RunContext, TaskState
from vclimb.training.run_folder import RunFolder
from vclimb.training.run_metrics import RunMetrics, TaskRecord
from vclimb.training.stored_state import (
    COMPLETE,
    MEMORY,
    TRAIN,
    StoredState,
    check_optimizer,
    restoring,
    state_tree,
)
from vclimb.training.task_data import RunTaskData
from vclimb.training.task_training import TaskTraining
from vclimb.training.training_data import TrainingItems

_MAX_STEPS = 10**9  # more than any task has; checkpoints are numbered by task and step


class Trainer:
    """Trains and evaluates over tasks, in a folder that rank 0 has locked; `beginnings` may give the first training."""

    def __init__(self, run: RunContext, folder: RunFolder, beginnings: Beginnings | None = None) -> None:
        self._run, self._folder, self._beginnings = run, folder, beginnings
        self._measured = Measurements(run.data.classes_per_task)
        self._loaded: dict[str, Any] | None = None
        check_settings(run.config, run.method, run.data.scenario, run.processes.world_size)

    def train(self) -> RunMetrics:
        state = self._begin()
        while state is not None:
            state = self._task(state)
        metrics = self._measured.to_metrics(self._run)
        self._run.log.event("complete", acc=metrics.acc, bwf=metrics.bwf)
        return metrics

    def _task(self, state: TaskState) -> TaskState | None:
        """Train a task, or the rest of it, and return the state of the next one."""
        run, info = self._run, state.info
        classes = tuple(run.data.scenario.tasks[info.number].classes)
        run.log.event("task", task=info.number, n_tasks=len(info.classes_per_task), classes=classes)
        if run.method.memory_first and state.phase == TRAIN and state.stream is None:
            with closing(run.data.training_items(info.number)) as candidates:
                self._update_memory(state, candidates)
        with self._phase(state, "items"):
            items = self._items(state)
        try:
            if state.phase == TRAIN:
                with run.training(info.number):
                    self._train(state, items)
                self._save(state, MEMORY)
            if choose_memory(run, self._measured, state.clock, items):
                self._save(state, MEMORY)  # so that a resumed run has the same choice
            update = self._update_memory(state, items)
        finally:
            items.close()
        with self._phase(state, "evaluate"):
            counted = evaluate(run, info.number)
        record = TaskRecord(
            task=info.number,
            classes=classes,
            train_instances=len(items.new.items),
            replay_exemplars=state.replayed,
            epochs=run.epochs_of(info.number),
            selected_epoch=None if state.best is None else state.best["epoch"],
            steps=state.steps,
            skipped_clips=state.skipped,
            memory=None if update is None else memory_facts(update.usage),
            taken_from=state.taken_from,
            seconds=state.clock.seconds,
            loader_wait_share=state.idle.loader_wait_share if state.idle else None,
            gpu_idle_share=state.idle.gpu_idle_share if state.idle else None,
        )
        self._measured.add(counted, record)
        return self._end(state)

    def _items(self, state: TaskState) -> TrainingItems:
        """Collect the task's items; without exemplars after its training, when the memory may hold its classes."""
        run, number, first = self._run, state.info.number, self._run.method.memory_first
        memory = run.stored_memory() if (number or first) and state.phase == TRAIN else None
        items = run.data.training_items(number, memory, run.method.all_data)
        if state.phase == TRAIN:
            n_known = state.info.n_classes if first else state.info.n_old
            if (items.replayed_labels >= n_known).any():  # the newest checkpoint can't be read
                items.close()
                raise CheckpointError(
                    f"the memory in {self._folder.path} holds classes of task {number + 1} already, and the checkpoint "
                    "that can be read is from before that task's end: going on would train the task on its own "
                    "exemplars; restore the newest checkpoint from a copy, or begin the run anew in another folder"
                )
            state.replayed = len(items.replayed_labels)
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
                self._measured.forward = [*self._measured.forward[: info.number], accuracies]
            run.method.begin_task(info, run.learner.model)
            if run.method.restarts:
                run.learner.restart(info.n_classes)
            elif info.number:
                run.learner.grow(info.n_classes, run.seed(info.number))
            torch.manual_seed(run.seed(info.number, 1, run.processes.rank))
        chosen = run.method.training_items(info, data)
        if state.stream is None:
            with self._phase(state, "targets"):
                run.method.before_training(info, data, chosen)
        loaded, self._loaded = self._loaded, None  # as large as network and optimiser, so it is freed after use
        if run.method.trains(info):
            TaskTraining(run, state, items, chosen, lambda stream: self._save(state, TRAIN, stream)).train(loaded)
        else:
            run.learner.model.eval()
        with self._phase(state, "consolidate"):
            run.method.end_task(info, run.learner.model, data)

    def _update_memory(self, state: TaskState, items: TrainingItems) -> UpdateReport | None:
        """Add the task's classes to the memory, and what the method keeps besides; None where it keeps nothing."""
        run, info = self._run, state.info
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in run.method.kept().items()}
        replays = run.method.replays
        if not replays and not arrays and not run.memory.path.exists():
            return None
        with self._phase(state, "memory"):
            seen = range(info.n_classes if replays else 0)
            candidates = memory_candidates(run, info, items) if replays else []
            report: UpdateReport | None = None
            error: VclimbError | None = None
            if run.processes.is_first:
                try:
                    report = run.memory.update(items.new, candidates, seen, run.stop.check, arrays)
                except VclimbError as failure:
                    error = failure
            report, error = run.processes.broadcast((report, error))
        if error is not None or report is None:
            raise error or AssertionError("rank 0 sends a report or an error")
        for reason in report.skipped:
            run.log.event("warning", text=f"passed over as an exemplar: {reason}")
        return report

    def _end(self, state: TaskState) -> TaskState | None:
        """Write the metrics, and the checkpoint that the next task begins with."""
        run, number = self._run, state.info.number
        is_last = state.info.following is None
        following = TaskState(state.info.following or state.info)
        with self._phase(state, "checkpoint"):
            self._save(following, COMPLETE if is_last else TRAIN)
        metrics = self._measured.to_metrics(run)
        if run.processes.is_first:  # after the checkpoint, so that a complete run is never begun again
            self._folder.write_metrics(metrics)
        run.log.event(
            "evaluated",
            task=number,
            n_tasks=len(state.info.classes_per_task),
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
        """Find the state to begin or resume with; None after the last task."""
        run, classes_per_task = self._run, self._run.data.classes_per_task
        tree = newest_checkpoint(self._folder.checkpoints)
        run.log.event(
            "run",
            resumed=tree is not None,
            method=run.method.name,
            n_tasks=len(classes_per_task),
            n_classes=sum(classes_per_task),
            processes=run.processes.world_size,
            device=str(run.processes.device),
        )
        if tree is None:
            return self._from_beginning() or TaskState(TaskInfo(0, classes_per_task))
        with restoring(self._folder.checkpoints):
            state = self._restored(tree)
        if state is None and run.processes.is_first:  # a kill may have come before this was done
            keep_newest(self._folder.checkpoints, 1)
            self._folder.write_metrics(self._measured.to_metrics(run))
        return state

    def _from_beginning(self) -> TaskState | None:
        """Take the training of the first task from the beginning that fits the run; None where there is none."""
        taken = None if self._beginnings is None else self._beginnings.take(self._run)
        if taken is None:
            return None
        with restoring(taken.path):
            state = self._restored(taken.tree)
        if state is not None:
            self._save(state, MEMORY)  # so that the run needs the beginning no longer
        return state

    def _restored(self, tree: dict[str, Any]) -> TaskState | None:
        """Restore the state of a checkpoint; None after the last task."""
        run, classes_per_task = self._run, self._run.data.classes_per_task
        stored = StoredState.model_validate(tree)
        if stored.data != run.data.digest:
            raise CheckpointError(
                f"run {self._folder.path} was started on different data: the videos, classes or instances in "
                f"{run.config.data} have changed. Resume with the original data"
            )
        self._measured = Measurements.from_state(classes_per_task, tree["measured"])
        follow_pilot(run, self._measured.pilot)
        n_learned = len(self._measured.tasks)
        if n_learned != (len(classes_per_task) if stored.phase == COMPLETE else stored.task):
            raise ValueError(f"it has measured {n_learned} tasks, and task {stored.task + 1} is under way")
        if stored.phase == COMPLETE:
            return None
        best = tree["best"]
        if best is not None:
            run.learner.model.restore(best["network"]["model"])
            float(best["score"]), int(best["epoch"])
        run.learner.model.restore(tree["model"])
        run.method.load_state_dict(tree["method"], run.learner.model)
        state = TaskState(
            TaskInfo(stored.task, classes_per_task),
            stored.phase,
            None if stored.stream is None else stored.stream.model_dump(),
            stored.replayed,
            stored.steps,
            stored.skipped,
            best=best,
            taken_from=stored.taken_from,
        )
        state.clock.seconds = dict(stored.seconds)
        if state.stream is not None:
            check_optimizer(tree["optimizer"], run.learner.trained_parameters())
            run.learner.begin_task(run.method, tree)
            run.learner.end_task()
            self._loaded = tree
            ranks = tree["rng"]
            if run.processes.rank < len(ranks):
                set_rng_state(ranks[run.processes.rank], run.processes.device)
            else:  # there are more processes than before
                torch.manual_seed(run.seed(stored.task, 1, run.processes.rank))
        return state

    def _save(self, state: TaskState, phase: str, stream: ClipStream | None = None) -> None:
        """Write a checkpoint. All ranks take part."""
        run = self._run
        ranks = run.processes.gather(rng_state(run.processes.device))
        if not run.processes.is_first:
            return
        tree = {**state_tree(run, state, phase, stream), "rng": ranks, "measured": self._measured.state_dict()}
        step = {TRAIN: state.steps, MEMORY: _MAX_STEPS - 2, COMPLETE: _MAX_STEPS - 1}[phase]
        number = state.info.number * _MAX_STEPS + step
        save_checkpoint(self._folder.checkpoints, number, tree, kept=1 if phase == COMPLETE else 2)
        is_beginning = phase == MEMORY and not state.info.number and self._measured.pilot is None
        if self._beginnings is not None and is_beginning and state.taken_from is None:
            self._beginnings.keep(run, tree, self._folder.path)

    def _phase(self, state: TaskState, name: str) -> AbstractContextManager[None]:
        """Measure a block as part of a phase. Stops before the block if the run was asked to stop."""
        self._run.stop.check()
        return state.clock.phase(name)
