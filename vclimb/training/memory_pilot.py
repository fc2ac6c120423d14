"""A pilot after the first task chooses how the memory encodes exemplars: codec, quality and number of frames.

The run's own network has learned the first task, so that it knows what tells these classes apart, and reads each
candidate's exemplars as it will in replay. Nothing is trained. No test video is read: the sample is of training
videos, which the network has fitted, so that agreement is higher than on others, for all candidates alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.replay import ClassInstances, ReplayMemory
from vclimb.memory.sample import CLASS_BYTES, ROOT_BYTES
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.reader import MemoryStore
from vclimb.methods.method import TaskInfo
from vclimb.pipeline.clips.provider import ChosenItems
from vclimb.pipeline.errors import VclimbError
from vclimb.training.clocks import PhaseClock
from vclimb.training.expected_memory import LOGIT_BYTES
from vclimb.training.ledger import kept_bytes
from vclimb.training.measurements import Measurements
from vclimb.training.memory_settings import candidate_settings
from vclimb.training.pilot_facts import CandidateFacts, PilotFacts, ranked
from vclimb.training.replay_probe import old_recall, video_folds
from vclimb.training.run_context import RunContext
from vclimb.training.training_data import TrainingItems, exemplar_items, exemplar_names

_MOST_VIDEOS, _LEAST_OF_CLASS = 192, 4
_LEAST_ACCURACY = 0.5  # of the way from chance to all
_FOLDER = "pilot.zarr"


def choose_memory(run: RunContext, measured: Measurements, clock: PhaseClock, items: TrainingItems) -> bool:
    """Let a pilot choose the encoding of exemplars, where the settings ask for it. All ranks take part.

    Returns:
        whether the pilot has just run.
    """
    if measured.pilot is not None or not run.method.replays or not run.config.memory.is_piloted:
        return False
    run.stop.check()
    with clock.phase("pilot"):
        measured.pilot = compare_encodings(run, items, candidate_settings(run.config, run.method, run.data.codec))
    follow_pilot(run, measured.pilot)
    for text in _doubts(run, measured.pilot):
        run.log.event("warning", text=text)
    run.log.event("pilot", text=measured.pilot.reason)
    return True


def follow_pilot(run: RunContext, pilot: PilotFacts | None) -> None:
    """Set the memory to what a pilot has chosen; nothing where none has."""
    if pilot is not None:
        chosen = pilot.chosen
        run.memory.settings = run.memory.settings.replaced(codec=chosen.codec, frames=chosen.frames)


def compare_encodings(run: RunContext, items: TrainingItems, encodings: Sequence[MemorySettings]) -> PilotFacts:
    """Measure encodings of the first task's training videos by the network that has learned the task.

    Args:
        items: Items of the first task.
        encodings: Settings of a memory, each with another codec or number of frames.

    Raises:
        VclimbError: videos can't be encoded, or no exemplar can be read.
    """
    sample = _sample(items.candidates(range(run.data.classes_per_task[0]), run.data.scenario.classes))
    chosen = np.sort(np.concatenate([instances.items for instances in sample]))
    on_clips = run.progress("pilot", len(chosen) * (1 + len(encodings)))
    originals = run.predictor.readable_outputs(run.learner.model, ChosenItems(items.new, chosen), on_clips)
    all_names = items.instance_names()
    places = {all_names[item]: row for row, item in enumerate(chosen[originals.items].tolist())}
    groups = [items.groups[item] for item in chosen[originals.items].tolist()]
    predicted, features = originals.logits.argmax(1).numpy(), originals.features.double().numpy()
    folds = video_folds(originals.labels, groups)
    reference = old_recall(features, features, originals.labels, folds)
    candidates = []
    for settings in encodings:
        with _stored(run, settings, items, sample) as (store, exemplar_bytes):
            with exemplar_items(store, run.data.cache_bytes) as exemplars:
                outputs = run.predictor.readable_outputs(run.learner.model, exemplars, on_clips)
            kept_names = exemplar_names(store, np.unique(exemplars.items.labels).tolist())
        pairs = [
            (places[kept_names[item]], row)
            for row, item in enumerate(outputs.items.tolist())
            if kept_names[item] in places
        ]
        if not pairs:
            raise VclimbError(f"the pilot can read no exemplar as {settings.codec}; give memory.codec another codec")
        before, after = (np.array(column) for column in zip(*sorted(pairs), strict=True))
        recall = old_recall(
            features[before], outputs.features.double().numpy()[after], originals.labels[before], folds[before]
        )
        candidates.append(
            CandidateFacts(
                codec=settings.encoding,
                frames=settings.frames,
                video_bytes=exemplar_bytes,
                videos_per_class=videos_per_class(run, settings, exemplar_bytes),
                agreement=float((outputs.logits.argmax(1).numpy()[after] == predicted[before]).mean()),
                recall=min(1.0, recall / reference) if reference else 1.0,
            )
        )
    return PilotFacts(len(predicted), float((predicted == originals.labels).mean()), ranked(candidates))


def _sample(classes: list[ClassInstances]) -> list[ClassInstances]:
    """Choose classes that are spread over the first task, and videos that are spread over each."""
    known = [instances for instances in classes if len(instances.items)]
    spread = known[:: -(-len(known) * _LEAST_OF_CLASS // _MOST_VIDEOS)]
    most = _MOST_VIDEOS // len(spread)
    chosen = []
    for instances in spread:
        places = np.unique(np.linspace(0, len(instances.items) - 1, most).astype(np.int64))
        chosen.append(ClassInstances(instances.label, instances.name, instances.items[places]))
    return chosen


@contextmanager
def _stored(
    run: RunContext, settings: MemorySettings, items: TrainingItems, sample: list[ClassInstances]
) -> Iterator[tuple[MemoryStore, float]]:
    """Store a sample as a memory of its own, for all ranks; yield it with the mean bytes of an exemplar."""
    folder = run.memory.path.with_name(_FOLDER)
    memory = ReplayMemory(folder, settings.replaced(budget=MemoryBudget("all"), video_choice="random"))
    n_bytes, error = 0.0, None
    try:
        if run.processes.is_first:
            _remove(folder)  # a killed run may have left it
            try:
                labels = [instances.label for instances in sample]
                usage = memory.update(items.new, sample, labels, run.stop.check).usage
                in_classes = usage.files.apparent - ROOT_BYTES - len(usage.classes) * CLASS_BYTES
                n_bytes = max(1.0, in_classes / max(1, usage.videos))
            except VclimbError as failure:
                error = failure
        n_bytes, error = run.processes.broadcast((n_bytes, error))
        if error is not None:
            raise error
        yield memory.open(), n_bytes
        run.processes.barrier()
    finally:
        if run.processes.is_first:
            _remove(folder)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def videos_per_class(run: RunContext, settings: MemorySettings, exemplar_bytes: float) -> float:
    """Estimate the number of videos of a class that the budget holds after the last task."""
    classes_per_task = run.data.classes_per_task
    n_classes, last = sum(classes_per_task), TaskInfo(len(classes_per_task) - 1, classes_per_task)
    kept = kept_bytes(run.method, last, run.config.model, run.config.training.frozen)
    share = (settings.budget.amount - ROOT_BYTES - sum(kept.values())) / n_classes - CLASS_BYTES
    row = LOGIT_BYTES * n_classes if run.method.keeps_logits else 0
    n_videos = sum(len(task.train) for task in run.data.matched.tasks) / n_classes
    return min(n_videos, max(0.0, share) / (exemplar_bytes + row))


def _doubts(run: RunContext, pilot: PilotFacts) -> list[str]:
    """List the reasons why the choice may be a poor one, each a sentence."""
    chance = 1 / run.data.classes_per_task[0]
    if pilot.accuracy >= chance + _LEAST_ACCURACY * (1 - chance):
        return []
    return [
        f"the network knows {100 * pilot.accuracy:.0f} % of the first task's own videos, so the pilot's comparison of "
        "encodings says little; train longer (--epochs), or give memory.codec and memory.frames values"
    ]
