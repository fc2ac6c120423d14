"""Training of one task: epochs over a stream of clips, from the beginning or from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vclimb.methods.method import StepBatch
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ChosenItems
from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.clocks import IdleClock, RateClock
from vclimb.training.evaluation import selection_score
from vclimb.training.run_context import RunContext, TaskState
from vclimb.training.second_view import DOWN_SAMPLED, SecondView
from vclimb.training.training_clips import CLIP, make_mixing, training_stream, training_view
from vclimb.training.training_data import TrainingItems

_REPORT_SECONDS = 10.0
# Ranks agree on checkpoints and stops after so many steps, since asking costs a broadcast.
_STEPS_BETWEEN_BROADCASTS = 16


class TaskTraining:
    """Trains the network on a task: on the `chosen` items, or on all where that is None."""

    def __init__(
        self,
        run: RunContext,
        state: TaskState,
        items: TrainingItems,
        chosen: Indices | None,
        save: Callable[[ClipStream], None],
    ) -> None:
        self._run, self._state, self._save, self._logits = run, state, save, items.logits
        if chosen is not None:  # new items first
            chosen = chosen[np.argsort(items.is_replay[chosen], kind="stable")]
        self._chosen = np.arange(len(items)) if chosen is None else chosen
        self._provider = items.provider if chosen is None else ChosenItems(items.provider, chosen)
        self._mixing = make_mixing(run, items.is_replay[self._chosen])
        clip = training_view(run)
        self._second = SecondView(run, items, clip)
        self._views = (clip,) if self._second.view is None else (clip, self._second.view)
        self._n_epochs = run.config.training.epochs_of(state.info.number)
        self._saved_at = time.monotonic()
        self._rate = RateClock()

    def train(self, checkpoint: dict[str, Any] | None) -> None:
        """Train the epochs that are left; a checkpoint is the learner's state within the task's training."""
        run, state = self._run, self._state
        idle = state.idle = IdleClock(run.processes.device)
        settings = training_stream(run, self._views, run.seed(state.info.number))
        settings = replace(settings, mixing=self._mixing, across_epochs=True)
        stream, choice = run.open_stream(self._provider, settings)
        run.log.event("decoder", task=state.info.number, decoder=choice.decoder, reason=choice.reason)
        if run.processes.device.type == "cuda":
            run.log.event("kernels", task=state.info.number, text=run.learner.kernels)
        with stream:
            run.learner.begin_task(run.method, checkpoint, self._n_epochs, self._report_graph)
            if state.stream is not None:
                stream.load_state_dict({"epoch": state.stream["epoch"], "position": state.stream["position"]})
            while (epoch := stream.state_dict()["epoch"]) < self._n_epochs:
                start, saving = time.perf_counter(), state.clock.seconds.get("checkpoint", 0.0)
                losses = self._epoch(stream, idle)
                # Each rank gathered batch statistics from its share of the clips. Rank 0's are kept.
                run.processes.broadcast_tensors(run.learner.model.buffers())
                seconds = time.perf_counter() - start - (state.clock.seconds.get("checkpoint", 0.0) - saving)
                idle.end_epoch(seconds)
                state.clock.add("train", seconds)
                self._log_epoch(epoch, losses, seconds)
                with self._rate.paused():
                    self._select(epoch)
                    self._pause(stream, at_end=True)
            self._report_rate()
            state.skipped += stream.skipped
        run.learner.end_task()
        if state.best is not None:
            run.learner.model.restore(state.best["network"]["model"])

    def _epoch(self, stream: ClipStream, idle: IdleClock) -> dict[str, float]:
        """Train the rest of an epoch, and return the mean of each term of the loss."""
        run, size = self._run, self._run.config.training.batch_size
        n_batches, n_clips = len(stream), stream.n_clips
        totals: dict[str, Tensor] = {}
        seen = 0
        if run.start.is_running:
            run.start.end("task")
        waiting = time.perf_counter()
        for batch in stream:
            idle.wait_seconds += time.perf_counter() - waiting
            if run.start.is_running:
                run.start.end("clips")
            if not self._state.steps:
                run.log.event("first_step", task=self._state.info.number)
            plan = batch.plan
            down = batch.views.get(DOWN_SAMPLED)
            shown = self._chosen[plan.items]
            device = batch.labels.device
            items = torch.from_numpy(shown).to(device, non_blocking=True)
            stored = None if self._logits is None else torch.from_numpy(self._logits.of(shown))
            logits = None if stored is None else stored.to(device, non_blocking=True)
            n_global = min(size, n_clips - plan.position * size)
            with idle.step():
                terms = run.learner.step(
                    run.method,
                    StepBatch(batch.views[CLIP], batch.labels, items, logits),
                    None if down is None else self._second.shown(down, shown),
                    n_global=n_global,
                    progress=(plan.epoch + plan.position / n_batches) / self._n_epochs,
                )
            if run.start.is_running:
                self._end_start()
            for name, value in terms.items():
                totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value * len(batch.keys)
            seen += len(batch.keys)
            self._state.steps += 1
            self._rate.step(n_global)
            if self._rate.seconds >= _REPORT_SECONDS:
                self._report_rate()
            run.log.advance("training", plan.epoch * n_batches + plan.position + 1, self._n_epochs * n_batches)
            if plan.position + 1 < n_batches:  # at the end of an epoch, selection comes before the checkpoint
                with self._rate.paused():
                    self._pause(stream)
            waiting = time.perf_counter()
        return self._means(totals, seen)

    def _report_rate(self) -> None:
        clips, seconds = self._rate.report()
        if clips:
            self._run.log.event("trained", task=self._state.info.number, clips=clips, seconds=seconds)

    def _report_graph(self, replayed: bool, reason: str) -> None:
        self._run.log.event("step_graph", task=self._state.info.number, replayed=replayed, reason=reason)

    def _end_start(self) -> None:
        """Log what the time up to the end of the first step was spent on."""
        if self._run.processes.device.type == "cuda":
            torch.cuda.synchronize(self._run.processes.device)
        self._run.start.end("first_step")
        self._run.start.stop()
        self._run.log.event("started", seconds=self._run.start.seconds)

    def _pause(self, stream: ClipStream, at_end: bool = False) -> None:
        """Write a checkpoint if one is due, and stop if the run was asked to stop.

        Clocks of processes differ, and a signal may reach them a step apart. So rank 0 decides, and broadcasts its
        decision every few steps.
        """
        run = self._run
        if run.processes.world_size > 1 and not at_end and self._state.steps % _STEPS_BETWEEN_BROADCASTS:
            return
        due = time.monotonic() - self._saved_at > run.config.compute.checkpoint_seconds
        is_due, is_stopped = run.processes.broadcast((due, run.stop.is_set))
        if is_due or is_stopped:
            with self._state.clock.phase("checkpoint"):
                self._save(stream)
            self._saved_at = time.monotonic()
        if is_stopped:
            raise KeyboardInterrupt

    def _means(self, totals: dict[str, Tensor], seen: int) -> dict[str, float]:
        """Compute the means of the terms over the clips of all ranks."""
        device = self._run.processes.device
        sums = torch.stack([torch.tensor(float(seen), device=device), *(value.float() for value in totals.values())])
        n_clips, *values = self._run.processes.sum(sums).tolist()
        means = {name: value / max(n_clips, 1) for name, value in zip(totals, values, strict=True)}
        if bad := [name for name, mean in means.items() if not np.isfinite(mean)]:
            raise VclimbError(
                f"the loss ({bad[0]}) is {means[bad[0]]}: training has diverged; take a lower training.learning_rate "
                f"than {self._run.config.training.learning_rate:g}, or a weaker penalty"
            )
        return means

    def _select(self, epoch: int) -> None:
        """Keep the network if this epoch is the best so far and the best one is to be selected."""
        run, state = self._run, self._state
        if not run.config.training.measures(epoch, state.info.number):
            return
        with state.clock.phase("select"):
            score, split, takes_equal = selection_score(run, state.info.number)
        run.log.event("measured", task=state.info.number, epoch=epoch, split=split, score=score)
        if state.best is None or score > state.best["score"] or (takes_equal and score == state.best["score"]):
            network = run.learner.state_dict(with_optimizer=False)
            network["model"] = {name: value.clone() for name, value in network["model"].items()}
            state.best = {"score": score, "epoch": epoch, "network": network}

    def _log_epoch(self, epoch: int, losses: dict[str, float], seconds: float) -> None:
        info, training = self._state.info, self._run.config.training
        self._run.log.event(
            "epoch",
            task=info.number,
            n_tasks=len(info.classes_per_task),
            epoch=epoch,
            epochs=self._n_epochs,
            epochs_before=sum(self._run.epochs_of(task) for task in range(info.number)),
            losses=losses,
            learning_rate=training.rate((epoch + 1) / self._n_epochs, self._n_epochs),
            seconds=seconds,
        )
