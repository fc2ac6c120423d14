"""What a run's network is measured by: after each task, to select an epoch, and before a task is learned."""

from __future__ import annotations

from vclimb.methods.prototypes import NearestMean
from vclimb.metrics import PredictionCounts
from vclimb.pipeline.sizes import parse_size
from vclimb.training.learner import make_model
from vclimb.training.predictor import LINEAR, NEAREST_MEAN
from vclimb.training.run_context import RunContext
from vclimb.training.training_data import evaluation_items, exemplar_items, training_items


def evaluate(run: RunContext, task: int) -> dict[str, PredictionCounts]:
    """Predictions on all tasks so far: of the linear head, and of the nearest mean of the memory's exemplars."""
    model, store = run.learner.model, run.stored_memory()
    nearest: NearestMean | None = None
    if store is not None:
        with exemplar_items(store, parse_size(run.config.memory.cache)) as exemplars:
            tell = run.progress("exemplars", len(exemplars.provider.items))
            nearest = run.inference.class_means(model, exemplars.provider, model.head.out_features, tell)
    split = run.scenario.evaluation_split
    items, tasks = evaluation_items(run.dataset, run.matched, range(task + 1), split, run.least_frames)
    return run.inference.counts(
        model,
        items,
        tasks,
        run.method.scores,
        nearest,
        run.n_classes,
        len(run.sizes),
        run.progress("evaluation", len(tasks)),
    )


def selection_score(run: RunContext, task: int) -> float:
    """The linear head's accuracy on the split that an epoch is selected by."""
    split = "val" if run.config.training.select == "best" else run.scenario.evaluation_split
    items, tasks = evaluation_items(run.dataset, run.matched, range(task + 1), split, run.least_frames)
    counts = run.inference.counts(
        run.learner.model, items, tasks, run.method.scores, None, run.n_classes, len(run.sizes)
    )
    return counts[LINEAR].accuracy()


def forward_accuracies(run: RunContext, task: int) -> tuple[float, float]:
    """How well the network tells a task's classes apart before it learns them, and how well as it was initialised.

    The head has no outputs for them, so R[i - 1, i] of Lopez-Paz and Ranzato (NIPS 2017) is 0 by construction; the
    nearest class mean of the task's own training clips takes its place.
    """
    first = make_model(run.config.model, run.sizes[0], run.config.seed).to(run.processes.device)
    own = training_items(run.dataset, run.matched, task, None, False, 0)
    split = run.scenario.evaluation_split
    items, tasks = evaluation_items(run.dataset, run.matched, [task], split, run.least_frames)
    accuracies = []
    for network in (run.learner.model, first):
        nearest = run.inference.class_means(network, own.new, sum(run.sizes[: task + 1]), on_bad_frame="skip")
        counts = run.inference.counts(
            network, items, tasks, lambda logits: logits, nearest, run.n_classes, len(run.sizes)
        )
        accuracies.append(counts[NEAREST_MEAN].accuracy())
    return accuracies[0], accuracies[1]
