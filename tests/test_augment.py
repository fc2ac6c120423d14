"""Crop boxes and flips: inside the frame for every size, as in temporal segment networks and the benchmark."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.errors import SettingsError

quickly = settings(deadline=None, max_examples=150)
sides = st.integers(1, 40) | st.integers(1, 4096)
frame_sizes = st.lists(st.tuples(sides, sides), min_size=1, max_size=6)
scale_lists = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5).map(tuple)


@st.composite
def augmentations(draw: st.DrawFn) -> Augmentation:
    size = draw(st.integers(8, 1024))
    return Augmentation(
        size=size,
        crop=draw(st.sampled_from(["multiscale", "random", "centre"])),
        scales=draw(scale_lists),
        resize_to=draw(st.integers(size, 2 * size)),
        flip=draw(st.booleans()),
    )


def boxes_of(
    augmentation: Augmentation, frames: list[tuple[int, int]], seed: int = 0, epoch: int = 0
) -> npt.NDArray[np.int64]:
    widths, heights = np.array(frames).T
    return augmentation.boxes(seed, epoch, np.arange(len(frames)), widths, heights)


@quickly
@given(augmentations(), frame_sizes, st.integers(0, 2**63), st.integers(0, 99))
@example(Augmentation(), [(1, 1), (1, 4096), (4096, 1)], 0, 0)
@example(Augmentation.evaluation(), [(1, 1), (1, 4096), (4096, 1)], 0, 0)
def test_boxes_hold_pixels_and_lie_inside_the_frame(
    augmentation: Augmentation, frames: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    boxes = boxes_of(augmentation, frames, seed, epoch)
    assert boxes.shape == (len(frames), 4)
    assert boxes.dtype == np.int64
    left, top, width, height = boxes.T
    frame_width, frame_height = np.array(frames).T
    assert ((width >= 1) & (height >= 1) & (left >= 0) & (top >= 0)).all()
    assert ((left + width <= frame_width) & (top + height <= frame_height)).all()


@quickly
@given(augmentations(), frame_sizes, st.integers(0, 2**63), st.integers(0, 99))
def test_a_box_and_a_flip_depend_on_seed_epoch_and_item_alone(
    augmentation: Augmentation, frames: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    items = np.arange(len(frames)) * 17
    widths, heights = np.array(frames).T
    boxes, flips = augmentation.boxes(seed, epoch, items, widths, heights), augmentation.flips(seed, epoch, items)
    for number in range(len(frames)):
        at = slice(number, number + 1)
        np.testing.assert_array_equal(augmentation.boxes(seed, epoch, items[at], widths[at], heights[at]), boxes[at])
        np.testing.assert_array_equal(augmentation.flips(seed, epoch, items[at]), flips[at])


# Multi-scale crop


@quickly
@given(scale_lists, sides, sides)
def test_multiscale_sides_come_from_the_scales_at_most_one_step_apart(
    scales: tuple[float, ...], width: int, height: int
) -> None:
    boxes = boxes_of(Augmentation(scales=scales), [(width, height)] * 40)
    allowed = [max(1, int(min(width, height) * scale)) for scale in scales]
    near = {(a, b) for i, a in enumerate(allowed) for b in allowed[max(0, i - 1) : i + 2]}
    assert set(map(tuple, boxes[:, 2:].tolist())) <= near


def test_multiscale_uses_all_pairs_of_neighbouring_scales_alike() -> None:
    boxes = boxes_of(Augmentation(), [(320, 240)] * 10_000)
    pairs, seen = np.unique(boxes[:, 2:], axis=0, return_counts=True)
    scaled = [240, 210, 180, 158]
    expected = {(side, side) for side in scaled} | {p for a, b in pairwise(scaled) for p in ((a, b), (b, a))}
    assert set(map(tuple, pairs.tolist())) == expected
    assert np.abs(seen - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (240, 320), (321, 243)])
def test_multiscale_has_the_13_fixed_places(width: int, height: int) -> None:
    """Four corners, four edges, the centre, and the four points half-way between it and the corners."""
    boxes = boxes_of(Augmentation(scales=(0.5,)), [(width, height)] * 2600)
    places, seen = np.unique(boxes[:, :2], axis=0, return_counts=True)
    free_width, free_height = width - boxes[0, 2], height - boxes[0, 3]
    quarters = [(x, y) for x in range(5) for y in range(5)]
    grid = [(x, y) for x, y in quarters if x % 2 == y % 2 == 0 or (x % 2 == y % 2 == 1)]
    assert len(grid) == 13
    assert set(map(tuple, places.tolist())) == {(x * free_width // 4, y * free_height // 4) for x, y in grid}
    assert np.abs(seen - 200).max() < 5 * np.sqrt(200)


# Random and centre crop


@quickly
@given(sides, sides)
def test_the_evaluation_crop_is_centred_and_square_at_224_of_256(width: int, height: int) -> None:
    ((left, top, crop_width, crop_height),) = boxes_of(Augmentation.evaluation(), [(width, height)]).tolist()
    assert crop_width == crop_height
    assert abs(crop_width - min(width, height) * 224 / 256) <= 0.5 or crop_width == 1
    assert abs((width - crop_width) - 2 * left) <= 1
    assert abs((height - crop_height) - 2 * top) <= 1


@pytest.mark.parametrize("size", [8, 112, 224, 300])
def test_evaluation_keeps_the_ratio_at_other_sizes(size: int) -> None:
    augmentation = Augmentation.evaluation(size)
    assert augmentation.size == size
    assert augmentation.resize_to == round(size * 256 / 224)
    assert not augmentation.flips(0, 0, np.arange(1000)).any()
    np.testing.assert_array_equal(boxes_of(augmentation, [(320, 256)], 0), boxes_of(augmentation, [(320, 256)], 1, 9))


def test_the_random_crop_reaches_every_place_alike() -> None:
    boxes = boxes_of(Augmentation(size=224, crop="random", resize_to=256), [(10, 8)] * 6000)
    assert set(map(tuple, boxes[:, 2:].tolist())) == {(7, 7)}
    places, seen = np.unique(boxes[:, :2], axis=0, return_counts=True)
    assert places.tolist() == [[x, y] for x in range(4) for y in range(2)]
    assert np.abs(seen - 750).max() < 5 * np.sqrt(750)


# Flips


def test_half_of_the_clips_are_mirrored_and_others_in_each_epoch() -> None:
    items = np.arange(10_000)
    first, second = (Augmentation().flips(0, epoch, items) for epoch in (0, 1))
    assert abs(first.mean() - 0.5) < 0.025  # 5 deviations
    assert abs((first == second).mean() - 0.5) < 0.025
    assert not Augmentation(flip=False).flips(0, 0, items).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop": "five"}, "crop 'five' is not known; allowed: multiscale, random, centre"),
        ({"size": 7}, "size 7 is out of range; allowed: 8 to 1024 px"),
        ({"size": 1025, "resize_to": 2000}, "size 1025 is out of range; allowed: 8 to 1024 px"),
        ({"scales": ()}, "scales () are out of range; allowed: above 0, up to 1"),
        ({"scales": (1.0, 0.0)}, "scales (1.0, 0.0) are out of range; allowed: above 0, up to 1"),
        ({"scales": (1.1,)}, "scales (1.1,) are out of range; allowed: above 0, up to 1"),
        (
            {"size": 224, "resize_to": 223, "crop": "random"},
            "resize to 223 px can't hold a crop of 224 px; allowed: 224 up",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Augmentation(**wrong)  # type: ignore[arg-type]
    assert str(caught.value) == message
