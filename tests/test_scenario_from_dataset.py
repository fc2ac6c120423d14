"""Scenarios made from data sets: every class once, sizes as said, and splits that part no source."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_cases import PICKLES, Row, dataset_of, jhmdb, names, needs_manifest, needs_pickles

from vclimb.scenario import (
    Scenario,
    ScenarioError,
    ScenarioInstance,
    Seconds,
    TaskPlan,
    TaskSequence,
    locate,
    match,
)
from vclimb.scenario.from_dataset import class_order, deal_classes, tasks_of_dataset
from vclimb.scenario.group_split import split_by_group
from vclimb.scenario.leakage import measure_leakage
from vclimb.scenario.matching import MatchedScenario

plans = st.one_of(
    st.builds(TaskPlan, tasks=st.integers(1, 12), seed=st.integers(0, 5)),
    st.builds(TaskPlan, base=st.integers(1, 9), step=st.integers(1, 4), seed=st.integers(0, 5)),
)


@pytest.mark.parametrize(
    ("plan", "n_classes", "sizes"),
    [
        (TaskPlan(tasks=10), 101, [11] + [10] * 9),
        (TaskPlan(tasks=20), 101, [6] + [5] * 19),
        (TaskPlan(tasks=7), 21, [3] * 7),
        (TaskPlan(tasks=4), 7, [4, 1, 1, 1]),
        (TaskPlan(tasks=1), 5, [5]),
        (TaskPlan(base=51, step=10), 101, [51] + [10] * 5),
        (TaskPlan(base=51, step=5), 101, [51] + [5] * 10),
        (TaskPlan(base=51, step=2), 101, [51] + [2] * 25),
        (TaskPlan(base=26, step=5), 51, [26] + [5] * 5),
        (TaskPlan(base=5, step=3), 5, [5]),
    ],
)
def test_sizes(plan: TaskPlan, n_classes: int, sizes: list[int]) -> None:
    assert plan.sizes(n_classes) == sizes


def test_plans_that_do_not_fit_are_explained() -> None:
    for make, message in (
        (lambda: TaskPlan(), "give either the number of tasks, or a base and a step"),
        (lambda: TaskPlan(tasks=2, base=1, step=1), "give either the number of tasks, or a base and a step"),
        (lambda: TaskPlan(base=5), "base 5 needs a step too"),
        (lambda: TaskPlan(tasks=3, step=5), "step 5 needs a base too"),
        (lambda: TaskPlan(tasks=0), "tasks 0 is out of range; allowed: 1 or more"),
        (lambda: TaskPlan(base=0, step=1), "base 0 is out of range"),
        (lambda: TaskPlan(base=1, step=-1), "step -1 is out of range"),
        (lambda: TaskPlan(tasks=6).sizes(5), "6 tasks are more than the 5 classes; allowed: 1 to 5"),
        (lambda: TaskPlan(base=50, step=10).sizes(101), "add up to 101 classes; a base that does: 41 or 51"),
        (lambda: TaskPlan(base=30, step=5).sizes(21), "add up to 21 classes; a base that does: 16 or 21"),
        (lambda: TaskPlan(base=1, step=9).sizes(5), "add up to 5 classes; a base that does: 5"),
    ):
        with pytest.raises(ScenarioError, match=message):
            make()


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 120), plans)
def test_sizes_add_up(n_classes: int, plan: TaskPlan) -> None:
    try:
        sizes = plan.sizes(n_classes)
    except ScenarioError:
        assert plan.tasks is None or plan.tasks > n_classes
        assert plan.base is None or plan.base > n_classes or (n_classes - plan.base) % (plan.step or 1)
        return
    assert sum(sizes) == n_classes
    assert min(sizes) >= 1
    assert len(set(sizes[1:])) <= 1
    if plan.tasks is not None:
        assert len(sizes) == plan.tasks
        assert sizes[0] - sizes[-1] < plan.tasks or plan.tasks == 1
    else:
        assert sizes[0] == plan.base


@settings(deadline=None, max_examples=100)
@given(st.lists(names, min_size=1, max_size=8, unique=True), plans, st.integers(1, 3), st.randoms())
def test_every_class_is_in_exactly_one_task_whatever_the_order_of_the_input(
    classes: list[str], plan: TaskPlan, per_class: int, random: object
) -> None:
    rows = [ScenarioInstance(f"{name}/{n}", name) for name in classes for n in range(per_class)]
    try:
        sizes = plan.sizes(len(classes))
    except ScenarioError:
        with pytest.raises(ScenarioError):
            deal_classes("x", {"train": rows}, plan)
        return
    made = deal_classes("x", {"train": rows, "test": rows}, plan)
    assert [len(task.classes) for task in made] == sizes
    assert sorted(made.classes) == sorted(classes)
    for task in made:
        assert {one.label for one in task.train} == set(task.classes)
        assert list(task.train) == [one for one in rows if one.label in task.classes] == list(task.test)
    shuffled = rows[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert deal_classes("x", {"train": shuffled}, plan).classes == made.classes


def test_class_order_is_a_pure_function_of_seed_and_names() -> None:
    letters = [chr(ord("a") + n) for n in range(10)]
    expected = list("gdjhefabic")  # by `sha256sum` of 1/a to 1/j
    assert class_order(letters, 1) == class_order(letters[::-1], 1) == expected
    orders = {tuple(class_order(letters, seed)) for seed in range(50)}
    assert len(orders) == 50
    assert all(sorted(order) == letters for order in orders)
    fewer = class_order(letters[:-1], 1)
    assert fewer == [name for name in class_order(letters, 1) if name != "j"]
    firsts = Counter(class_order(letters, seed)[0] for seed in range(1000))
    assert min(firsts.values()) > 60  # each is first about 100 times of 1000
    assert len(firsts) == 10


@st.composite
def grouped(draw: st.DrawFn) -> list[ScenarioInstance]:
    """Some clips of some groups; a group may hold clips of several classes."""
    classes = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
    labels = st.one_of(st.just(classes[0]), st.sampled_from(classes))
    sizes = draw(st.lists(st.tuples(st.lists(labels, min_size=1, max_size=6)), min_size=2, max_size=12))
    clips = [(f"g{group}", label) for group, (of_group,) in enumerate(sizes) for label in of_group]
    return [ScenarioInstance(f"v{n}", label, group=group) for n, (group, label) in enumerate(clips)]


@settings(deadline=None, max_examples=80)
@given(grouped(), st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 3), st.randoms())
def test_a_group_split_is_disjoint_and_complete(
    clips: list[ScenarioInstance], share: float, seed: int, random: object
) -> None:
    try:
        train, test = split_by_group(clips, share, seed)
    except ScenarioError as caught:
        message = str(caught)
        assert "can't be split by source" in message
        # With classes of their own groups alone, only a class of one group can't be parted.
        labels_of = defaultdict(set)
        for one in clips:
            labels_of[one.group].add(one.label)
        per_class = Counter(next(iter(labels)) for labels in labels_of.values() if len(labels) == 1)
        assert any(count < 2 for count in (per_class[one.label] for one in clips))
        return
    assert not {one.group for one in train} & {one.group for one in test}
    assert sorted([*train, *test], key=lambda one: one.video) == sorted(clips, key=lambda one: one.video)
    assert {one.label for one in train} == {one.label for one in test} == {one.label for one in clips}
    shuffled = clips[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = split_by_group(shuffled, share, seed)
    assert {one.video for one in again[1]} == {one.video for one in test}


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 3))
def test_the_share_of_a_class_is_the_nearest_that_its_groups_allow(sizes: list[int], share: float, seed: int) -> None:
    clips = [ScenarioInstance(f"v{g}_{n}", "a", group=f"g{g}") for g, size in enumerate(sizes) for n in range(size)]
    _, test = split_by_group(clips, share, seed)
    wanted = share * len(clips)
    possible = [sum(some) for k in range(1, len(sizes)) for some in itertools.combinations(sizes, k)]
    assert abs(len(test) - wanted) == pytest.approx(min(abs(total - wanted) for total in possible))


def test_seeds_give_different_splits() -> None:
    clips = [ScenarioInstance(f"v{g}_{n}", "a", group=f"g{g:02}") for g in range(20) for n in range(4)]
    tests = {frozenset(one.group for one in split_by_group(clips, 0.3, seed)[1]) for seed in range(20)}
    assert {len(groups) for groups in tests} == {6}
    assert len(tests) > 10


ROWS: list[Row] = [
    (f"{name}/v{n}.avi", name, "test" if n == 2 else "train", f"{name}{n}") for name in "abcd" for n in range(3)
]


def test_the_data_sets_own_splits() -> None:
    made = tasks_of_dataset(dataset_of([*ROWS, ("e/x.avi", "e", None, None)]), TaskPlan(tasks=2, seed=3))
    assert (made.count("train"), made.count("val"), made.count("test")) == (8, 0, 4)
    assert sorted(made.classes) == ["a", "b", "c", "d"]  # e has no split
    assert made.name == "made_2tasks_seed3"
    assert "classes by seed 3, its own splits" in made.origin
    assert made.tasks[0].train[0].group is not None
    val = [(path, label, "val" if split == "test" else split, group) for path, label, split, group in ROWS]
    assert tasks_of_dataset(dataset_of(val), TaskPlan(base=2, step=1)).evaluation_split == "val"


def test_segments_are_named_by_their_seconds_which_hold_at_any_frame_rate() -> None:
    slow = dataset_of(ROWS, times={"a/v0.avi": (0.5, 2.0), "a/v2.avi": (1.0, None)})
    fast = dataset_of(ROWS, fps="30", n_frames=120)
    made = tasks_of_dataset(slow, TaskPlan(tasks=1))
    spans = {one.video: one.span for split in ("train", "test") for one in made.instances(split)}
    assert spans["a/v0"] == Seconds(0.5, 2.0)
    assert spans["a/v2"] == Seconds(1.0, None)
    assert spans["b/v0"] is None

    def frames(matched: MatchedScenario) -> dict[str, tuple[int, int]]:
        found = [*matched.tasks[0].train, *matched.tasks[0].test]
        return {one.key: (one.start_frame, one.end_frame) for one in found}

    assert [frames(match(made, slow))[key] for key in ("a/v0", "a/v2", "b/v0")] == [(5, 20), (10, 40), (0, 40)]
    assert [frames(match(made, fast))[key] for key in ("a/v0", "a/v2", "b/v0")] == [(15, 60), (30, 120), (0, 120)]


def test_data_sets_without_what_a_split_needs_are_explained() -> None:
    bare = [(path, label, None, group) for path, label, _, group in ROWS]
    with pytest.raises(ScenarioError, match=r"no train and test split of its own \(12 instances; none with a split\)"):
        tasks_of_dataset(dataset_of(bare), TaskPlan(tasks=2))
    only_train = [(path, label, "train", None) for path, label, _, _ in ROWS]
    with pytest.raises(ScenarioError, match=r"\(12 instances; 12 train\); --split group makes one"):
        tasks_of_dataset(dataset_of(only_train), TaskPlan(tasks=2))
    with pytest.raises(
        ScenarioError, match=r"12 of 12 instances of data set made have no known group \(video 'a/v0'\)"
    ):
        tasks_of_dataset(dataset_of(only_train), TaskPlan(tasks=2), "group")
    alone = [(path, label, None, "one" if label == "a" else group) for path, label, _, group in ROWS]
    with pytest.raises(ScenarioError, match="class 'a' can't be split by source: all 3 clips, of 1 group"):
        tasks_of_dataset(dataset_of(alone), TaskPlan(tasks=2), "group")
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ScenarioError, match=r"test share .* is out of range"):
            tasks_of_dataset(dataset_of(bare), TaskPlan(tasks=2), "group", share)
    with pytest.raises(ScenarioError, match="split 'mine' is not known; allowed: own, group"):
        tasks_of_dataset(dataset_of(bare), TaskPlan(tasks=2), "mine")
    with pytest.raises(ScenarioError, match="no train and test split of its own"):
        tasks_of_dataset(dataset_of([]), TaskPlan(tasks=2))
    with pytest.raises(ScenarioError, match="no labelled instances"):
        tasks_of_dataset(dataset_of([]), TaskPlan(tasks=2), "group")


def test_leakage_counts_groups_and_videos_where_none_is_known() -> None:
    made = tasks_of_dataset(dataset_of(ROWS), TaskPlan(tasks=2))
    assert measure_leakage(made, "test").overall.leaked == 0
    shared = [
        (path, label, split, "x" if path in ("a/v0.avi", "b/v2.avi") else group) for path, label, split, group in ROWS
    ]
    found = measure_leakage(tasks_of_dataset(dataset_of(shared), TaskPlan(tasks=4)), "test")
    assert (found.overall.clips, found.overall.leaked, found.overall.share, found.unknown) == (4, 1, 0.25, 0)
    assert sorted(task.leaked for task in found.tasks) == [0, 0, 0, 1]  # across classes and tasks
    videos = [("a/v.avi", "a", "train", None), ("a/v.avi", "a", "test", None), ("a/w.avi", "a", "test", None)]
    found = measure_leakage(tasks_of_dataset(dataset_of(videos), TaskPlan(tasks=1)), "test")
    assert (found.overall.clips, found.overall.leaked, found.unknown) == (2, 1, 3)
    assert measure_leakage(made, "val").overall.share is None


def leaked(scenario: TaskSequence) -> tuple[int, int]:
    found = measure_leakage(scenario, "test").overall
    return found.leaked, found.clips


@needs_manifest
def test_jhmdb_in_7_tasks_of_3() -> None:
    dataset = jhmdb()
    made = tasks_of_dataset(dataset, TaskPlan(tasks=7, seed=1))
    assert [len(task.classes) for task in made] == [3] * 7
    assert made.count("train") + made.count("test") == 928
    tests = Counter(one.label for one in made.instances("test"))
    assert len(tests) == 21
    assert (min(tests.values()), max(tests.values())) == (11, 16)
    assert locate(made, dataset).left_out == ()
    # Within a class, `src_split` parts no source; a film that has clips of several classes may be on both sides.
    assert leaked(made) == (55, 278)
    trained = {(one.label, one.group) for one in made.instances("train")}
    assert not [one for one in made.instances("test") if (one.label, one.group) in trained]
    halves = tasks_of_dataset(dataset, TaskPlan(base=11, step=5))
    assert [len(task.classes) for task in halves] == [11, 5, 5]


@needs_manifest
@pytest.mark.parametrize("seed", range(3))
def test_jhmdb_split_by_group_has_no_leakage_and_nearly_the_share(seed: int) -> None:
    made = tasks_of_dataset(jhmdb(), TaskPlan(tasks=7, seed=seed), "group")
    assert leaked(made)[0] == 0
    assert made.count("train") + made.count("test") == 928
    totals = Counter(one.label for split in ("train", "test") for one in made.instances(split))
    shares = [count / totals[label] for label, count in Counter(one.label for one in made.instances("test")).items()]
    assert len(shares) == 21
    assert min(shares) > 0.15
    assert max(shares) < 0.45


@needs_pickles
def test_ucf101_split_by_group_has_no_leakage_and_the_share() -> None:
    official = Scenario.open(PICKLES / "UCF101_data.pkl")
    clips = [one for split in ("train", "val", "test") for one in official.instances(split)]
    train, test = split_by_group(clips, 0.3, 0)
    made = deal_classes("ucf", {"train": train, "test": test}, TaskPlan(tasks=10))
    assert leaked(made) == (0, len(test))
    totals = Counter(one.label for one in clips)
    of_test = Counter(one.label for one in test)
    # Some classes have groups of 4 clips alone: no split comes nearer than 2.
    assert max(abs(of_test[label] - 0.3 * total) for label, total in totals.items()) <= 2
