"""Acc, BWF and counts of predictions, held against sums done by hand and against slow loops."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vclimb.metrics import AccuracyMatrix, PredictionCounts
from vclimb.pipeline.errors import VclimbError

quickly = settings(deadline=None, max_examples=60)
Doubles = npt.NDArray[np.float64]
NAN = math.nan

# Three tasks of 2, 1 and 1 classes.
BY_HAND = AccuracyMatrix(np.array([[0.8, NAN, NAN], [0.5, 0.9, NAN], [0.2, 0.7, 1.0]]), (2, 1, 1))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@st.composite
def matrices(draw: st.DrawFn) -> AccuracyMatrix:
    """All tasks learned, each evaluated from then on."""
    n_classes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=6))
    accuracies = st.floats(0, 1)
    matrix = AccuracyMatrix.empty(n_classes)
    for task in range(len(n_classes)):
        matrix = matrix.grown(draw(st.lists(accuracies, min_size=task + 1, max_size=task + 1)))
    return matrix


def test_accuracy_after_each_task() -> None:
    assert BY_HAND.acc() == pytest.approx([0.8, (0.5 + 0.9) / 2, (0.2 + 0.7 + 1.0) / 3])
    assert BY_HAND.acc("classes") == pytest.approx([0.8, (2 * 0.5 + 0.9) / 3, (2 * 0.2 + 0.7 + 1.0) / 4])


def test_backward_forgetting_after_each_task() -> None:
    assert BY_HAND.bwf() == pytest.approx([0, 0.8 - 0.5, ((0.8 - 0.2) + (0.9 - 0.7)) / 2])
    assert BY_HAND.bwf("classes") == pytest.approx([0, 0.3, (2 * (0.8 - 0.2) + (0.9 - 0.7)) / 3])


def test_average_incremental_accuracy() -> None:
    assert BY_HAND.average_incremental() == pytest.approx((0.8 + 0.7 + 1.9 / 3) / 3)
    assert BY_HAND.average_incremental("classes") == pytest.approx((0.8 + 1.9 / 3 + 2.1 / 4) / 3)
    assert math.isnan(AccuracyMatrix.empty((1, 2)).average_incremental())


def test_it_grows_task_by_task_and_the_one_before_stays() -> None:
    empty = AccuracyMatrix.empty((2, 1, 1))
    one = empty.grown([0.8])
    two = one.grown([0.5, 0.9])
    assert (empty.n_learned, one.n_learned, two.n_learned, two.n_tasks) == (0, 1, 2, 3)
    np.testing.assert_array_equal(two.grown([0.2, 0.7, 1.0]).values, BY_HAND.values)
    assert one.values.tolist()[0][0] == 0.8
    with pytest.raises(ValueError, match="read-only"):
        one.values[0, 0] = 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 accuracies after task 1; needs 2 .* to 3"):
        AccuracyMatrix.empty((1, 1, 1)).grown([0.5]).grown([0.5])
    with pytest.raises(ValueError, match=r"4 accuracies after task 0"):
        AccuracyMatrix.empty((1, 1, 1)).grown([0.5] * 4)
    with pytest.raises(ValueError, match="all 3 tasks are learned"):
        BY_HAND.grown([0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match=r"shape \(2, 2\) doesn't fit 3 tasks"):
        AccuracyMatrix(np.zeros((2, 2)), (1, 1, 1))
    with pytest.raises(ValueError, match=r"shape \(3, 2\) doesn't fit 2 tasks"):
        AccuracyMatrix(np.zeros((3, 2)), (1, 1))
    with pytest.raises(ValueError, match=r"accuracy 80\.0 is out of range; allowed: fractions"):
        AccuracyMatrix(np.array([[80.0]]), (1,))
    with pytest.raises(ValueError, match="1 class or more"):
        AccuracyMatrix.empty((1, 0))
    with pytest.raises(ValueError, match="weighting 'videos' is not known; allowed: tasks, classes"):
        BY_HAND.acc("videos")  # type: ignore[arg-type]


def test_what_was_not_measured_is_not_made_up() -> None:
    matrix = AccuracyMatrix(np.array([[0.8, NAN], [NAN, 0.9]]), (1, 1))
    assert np.isnan(matrix.acc()).tolist() == [False, True]
    assert np.isnan(matrix.bwf()).tolist() == [False, True]
    assert matrix.summary()["acc"] is None


@quickly
@given(matrices())
def test_json_keeps_every_bit(matrix: AccuracyMatrix) -> None:
    again = AccuracyMatrix.from_json(json.loads(json.dumps(matrix.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.values, matrix.values)
    assert again.n_classes == matrix.n_classes


def test_json_of_no_task_and_of_damage() -> None:
    assert AccuracyMatrix.from_json(AccuracyMatrix.empty((3, 2)).to_json()).values.shape == (0, 2)
    for damaged in (
        {},
        {"R": [[0.5], [0.5, 0.5]], "classes_per_task": [1, 1]},
        {"R": [["x"]], "classes_per_task": [1]},
    ):
        with pytest.raises(VclimbError, match="the stored accuracies are damaged"):
            AccuracyMatrix.from_json(damaged)


def test_the_summary_has_it_all() -> None:
    summary = json.loads(json.dumps(BY_HAND.summary(), allow_nan=False))
    assert summary["R"] == [[0.8, None, None], [0.5, 0.9, None], [0.2, 0.7, 1.0]]
    assert summary["classes_per_task"] == [2, 1, 1]
    assert summary["acc"] == pytest.approx(1.9 / 3)
    assert summary["acc_by_class"] == pytest.approx(2.1 / 4)
    assert summary["bwf"] == pytest.approx(0.4)
    assert summary["bwf_by_class"] == pytest.approx(1.4 / 3)
    assert summary["acc_after_each_task"] == pytest.approx([0.8, 0.7, 1.9 / 3])
    assert summary["bwf_by_class_after_each_task"] == pytest.approx([0, 0.3, 1.4 / 3])
    assert summary["average_incremental_accuracy"] == pytest.approx((0.8 + 0.7 + 1.9 / 3) / 3)
    assert AccuracyMatrix.empty((1,)).summary()["acc"] is None


@quickly
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(0, 1))
def test_nothing_is_forgotten_where_nothing_changes(n_classes: list[int], accuracy: float) -> None:
    matrix = AccuracyMatrix(np.full((len(n_classes),) * 2, accuracy), tuple(n_classes))
    for values in (matrix.bwf(), matrix.bwf("classes")):
        assert values.tolist() == [0.0] * len(n_classes)
    assert matrix.acc("classes") == pytest.approx([accuracy] * len(n_classes))


@quickly
@given(matrices())
def test_acc_lies_between_the_worst_and_the_best_task(matrix: AccuracyMatrix) -> None:
    for values in (matrix.acc(), matrix.acc("classes")):
        for task, value in enumerate(values):
            row = matrix.values[task, : task + 1]
            assert row.min() - 1e-12 <= value <= row.max() + 1e-12
    assert (np.abs(matrix.bwf()) <= 1).all()


@quickly
@given(matrices())
def test_tasks_of_one_size_need_no_weights(matrix: AccuracyMatrix) -> None:
    alike = AccuracyMatrix(matrix.values, (7,) * matrix.n_tasks)
    np.testing.assert_allclose(alike.acc("classes"), alike.acc())
    np.testing.assert_allclose(alike.bwf("classes"), alike.bwf())


class TestCounts:
    def test_by_hand(self) -> None:
        counts = PredictionCounts(3, 2)
        counts.update(torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1]))
        assert counts.confusion().tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
        assert counts.accuracy_per_class() == pytest.approx([1 / 2, 1, 1 / 2])
        assert counts.accuracy_per_task() == pytest.approx([2 / 3, 1 / 2])
        assert counts.accuracy() == pytest.approx(3 / 5)

    def test_nothing_counted_is_no_accuracy(self) -> None:
        counts = PredictionCounts(3, 2)
        counts.update(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), 0)
        assert math.isnan(counts.accuracy())
        assert np.isnan(counts.accuracy_per_class()).all()
        counts.update(torch.tensor([1]), torch.tensor([1]), 1)
        np.testing.assert_array_equal(counts.accuracy_per_task(), [NAN, 1])
        np.testing.assert_array_equal(counts.accuracy_per_class(), [NAN, 1, NAN])

    def test_of_scores_the_highest_and_of_equal_ones_the_first(self) -> None:
        scores = torch.tensor([[0.1, 0.5, 0.5], [-math.inf, -3.0, -9.0], [2.0, 1.0, 0.0]], dtype=torch.bfloat16)
        counts = PredictionCounts(5, 1)  # of classes 3 and 4 there are no scores yet
        counts.update(scores, torch.tensor([1, 1, 1]), 0)
        assert counts.confusion()[1].tolist() == [1, 2, 0, 0, 0]

    @quickly
    @given(st.data())
    def test_batches_and_processes_change_nothing(self, data: st.DataObject) -> None:
        """The counts of a slow loop, whichever way the samples are split and in whichever order they come."""
        n_classes, n_tasks = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
        ids = st.tuples(st.integers(0, n_classes - 1), st.integers(0, n_classes - 1), st.integers(0, n_tasks - 1))
        samples = data.draw(st.lists(ids, max_size=20))
        confusion = np.zeros((n_classes, n_classes), np.int64)
        right, total = [0] * n_tasks, [0] * n_tasks
        for predicted, label, task in samples:
            confusion[label, predicted] += 1
            right[task] += predicted == label
            total[task] += 1
        processes = [PredictionCounts(n_classes, n_tasks) for _ in range(2)]
        shuffled = data.draw(st.permutations(samples))
        start = 0
        while start < len(shuffled):
            stop = start + data.draw(st.integers(1, 6))
            columns = torch.tensor(shuffled[start:stop]).T
            processes[data.draw(st.integers(0, 1))].update(columns[0], columns[1], columns[2])
            start = stop
        merged = PredictionCounts(n_classes, n_tasks)
        merged.state.copy_(torch.stack([process.state for process in processes]).sum(0))
        np.testing.assert_array_equal(merged.confusion(), confusion)
        expected = [hits / count if count else NAN for hits, count in zip(right, total, strict=True)]
        np.testing.assert_array_equal(merged.accuracy_per_task(), expected)

    def test_a_diverged_model_is_told(self) -> None:
        with pytest.raises(VclimbError, match="scores hold NaN"):
            PredictionCounts(2, 1).update(torch.tensor([[0.0, NAN]]), torch.tensor([0]), 0)

    def test_what_does_not_fit_is_refused_and_counts_nothing(self) -> None:
        counts = PredictionCounts(3, 2)
        one = torch.tensor([0])
        with pytest.raises(ValueError, match="label 3 is out of range; allowed: 0 to 2"):
            counts.update(one, torch.tensor([3]), 0)
        with pytest.raises(ValueError, match="prediction -1 is out of range"):
            counts.update(torch.tensor([-1]), one, 0)
        with pytest.raises(ValueError, match="task 2 is out of range; allowed: 0 to 1"):
            counts.update(one, one, 2)
        with pytest.raises(ValueError, match=r"scores \(1, 4\) don't fit; needs \(B, 1 to 3\)"):
            counts.update(torch.zeros(1, 4), one, 0)
        with pytest.raises(ValueError, match=r"predictions of \(2,\) and tasks \(\) don't fit labels \(1,\)"):
            counts.update(torch.tensor([0, 1]), one, 0)
        with pytest.raises(ValueError, match=r"predictions of \(1,\) and tasks \(3,\) don't fit labels \(1,\)"):
            counts.update(one, one, torch.tensor([0, 0, 0]))
        assert not counts.state.any()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_on_a_gpu(self) -> None:
        generator = torch.Generator().manual_seed(0)
        scores, labels = torch.randn(1000, 7, generator=generator), torch.randint(7, (1000,), generator=generator)
        here, there = PredictionCounts(7, 3), PredictionCounts(7, 3, "cuda")
        here.update(scores, labels, labels % 3)
        there.update(scores.cuda(), labels.cuda(), labels.cuda() % 3)
        assert torch.equal(there.state.cpu(), here.state)
