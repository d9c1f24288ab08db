"""Lesions from boxes by hand, and what holds of any boxes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.lesions.lesion import Lesion, SliceDetections, SliceMask
from deeplesion.lesions.linking import (
    NMS_THRESHOLD,
    default_max_gap,
    key_stride,
    link_detections,
)
from deeplesion.lesions.suppression import tube_overlaps

ISOTROPIC = (1.0, 1.0, 1.0)
SQUARE = [10, 10, 19, 19]
BESIDE = [20, 10, 29, 19]


def in_slice(z: int, *rows: Sequence[float]) -> SliceDetections:
    """What was found in a slice, by rows x1, y1, x2, y2, score."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    return SliceDetections(z, table[:, :4], table[:, 4])


def slices_of(lesions: list[Lesion]) -> list[list[int]]:
    """The slices of each lesion."""
    return [lesion.slices.tolist() for lesion in lesions]


def test_nothing_gives_nothing() -> None:
    assert link_detections([], ISOTROPIC) == []
    assert link_detections([in_slice(0), in_slice(1)], ISOTROPIC) == []


def test_boxes_of_neighbors_become_one_lesion() -> None:
    rows = {3: [10, 10, 19, 19, 0.4], 4: [11, 10, 20, 19, 0.9], 5: [12, 10, 21, 19, 0.2]}
    (lesion,) = link_detections([in_slice(z, row) for z, row in rows.items()], ISOTROPIC)
    assert lesion.number == 1
    assert lesion.score == 0.9  # the highest of its boxes
    assert lesion.key_slice == 4
    assert lesion.slices.tolist() == [3, 4, 5]
    assert lesion.boxes.tolist() == [row[:4] for row in rows.values()]
    assert lesion.scores.tolist() == [0.4, 0.9, 0.2]
    assert lesion.box_3d == (10, 10, 3, 21, 19, 5)


def test_two_lesions_side_by_side_stay_two() -> None:
    found = [in_slice(z, [*SQUARE, 0.8], [*BESIDE, 0.7]) for z in range(4)]
    left, right = link_detections(found, ISOTROPIC)
    assert left.boxes.tolist() == [SQUARE] * 4
    assert right.boxes.tolist() == [BESIDE] * 4


def test_the_best_overlap_is_linked_though_another_would_do() -> None:
    # Both boxes of slice 0 reach the one of slice 1: IoU 0.43 and 0.82.
    found = [
        in_slice(0, [6, 10, 15, 19, 0.9], [11, 10, 20, 19, 0.5]),
        in_slice(1, [*SQUARE, 0.6]),
    ]
    lesions = link_detections(found, ISOTROPIC, nms_threshold=1)
    assert slices_of(lesions) == [[0], [0, 1]]
    assert [lesion.score for lesion in lesions] == [0.9, 0.6]


@pytest.mark.parametrize(
    ("missed", "max_gap", "expected"),
    [
        (1, 2.0, [[0, 2]]),
        (1, 1.9, [[0], [2]]),
        (2, 2.0, [[0], [3]]),
        (4, None, [[0, 5]]),  # at least 5 mm
        (5, None, [[0], [6]]),
    ],
)
def test_gap_of_missed_slices(missed: int, max_gap: float | None, expected: list) -> None:
    last = missed + 1
    found = [
        in_slice(z, [*SQUARE, 0.9]) if z in (0, last) else in_slice(z) for z in range(last + 1)
    ]
    assert slices_of(link_detections(found, ISOTROPIC, max_gap=max_gap)) == expected


def test_gap_goes_with_stride_and_slice_interval() -> None:
    found = [in_slice(0, [*SQUARE, 0.9]), in_slice(4), in_slice(8, [*SQUARE, 0.9])]
    assert key_stride(found) == 4
    assert default_max_gap(4, 2.5) == 20
    assert slices_of(link_detections(found, (1, 1, 2.5))) == [[0, 8]]
    # Slice 4 was looked at and had nothing; had it not been, 8 would be the neighbor of 0.
    assert slices_of(link_detections(found, (1, 1, 2.5), max_gap=19)) == [[0], [8]]


def test_nearest_slices_are_linked_before_gaps_are_leapt() -> None:
    # Slices 0 and 2 have the same box; that between overlaps them by 0.67 only.
    found = [in_slice(z, [*box, 0.9]) for z, box in enumerate([SQUARE, [12, 10, 21, 19], SQUARE])]
    assert slices_of(link_detections(found, ISOTROPIC)) == [[0, 1, 2]]


def test_thresholds_of_score() -> None:
    found = [
        in_slice(0, [*SQUARE, 0.12]),
        in_slice(1, [*SQUARE, 0.3]),
        in_slice(2, [*SQUARE, 0.09]),
    ]
    assert slices_of(link_detections(found, ISOTROPIC)) == [[0, 1]]
    assert slices_of(link_detections(found, ISOTROPIC, link_threshold=0.2)) == [[1]]
    assert slices_of(link_detections(found, ISOTROPIC, score_threshold=0.31)) == []
    assert slices_of(link_detections(found, ISOTROPIC, min_slices=3)) == []
    assert slices_of(link_detections(found, ISOTROPIC, min_slices=3, link_threshold=0)) == [
        [0, 1, 2]
    ]


def test_a_box_within_a_better_lesion_is_no_lesion() -> None:
    part = [12, 12, 15, 15]
    found = [in_slice(z, [*SQUARE, 0.9], [*part, 0.8]) for z in range(3)]
    assert [lesion.boxes[0].tolist() for lesion in link_detections(found, ISOTROPIC)] == [SQUARE]
    both = link_detections(found, ISOTROPIC, nms_threshold=1.01)
    assert [lesion.boxes[0].tolist() for lesion in both] == [SQUARE, part]
    assert [lesion.number for lesion in both] == [1, 2]


def test_a_box_about_a_part_does_not_break_a_lesion() -> None:
    # Linked by IoU alone, the part of slice 1 would go on as the smaller box of slice 2.
    part, smaller = [11, 11, 16, 16], [11, 11, 17, 17]
    found = [
        in_slice(0, [*SQUARE, 0.9]),
        in_slice(1, [*SQUARE, 0.8], [*part, 0.5]),
        in_slice(2, [*smaller, 0.7]),
    ]
    (lesion,) = link_detections(found, ISOTROPIC)
    assert lesion.boxes.tolist() == [SQUARE, SQUARE, smaller]
    apart = link_detections(found, ISOTROPIC, nms_threshold=1.01)
    assert [each.boxes.tolist() for each in apart] == [[SQUARE, SQUARE], [part, smaller]]


def test_of_equal_scores_the_longer_comes_first_and_the_larger_box_is_key() -> None:
    found = [
        in_slice(0, [*SQUARE, 1.0], [50, 50, 59, 59, 1.0]),
        in_slice(1, [50, 50, 60, 60, 1.0]),
    ]
    longer, shorter = link_detections(found, ISOTROPIC)
    assert longer.slices.tolist() == [0, 1]
    assert longer.key_slice == 1
    assert shorter.slices.tolist() == [0]


def test_masks_go_with_their_boxes() -> None:
    masks = [SliceMask(10, 10, np.full((2, 2), fill)) for fill in (True, False)]
    boxes, scores = np.array([BESIDE, SQUARE], float), np.array([0.5, 0.9])
    found = [SliceDetections(0, boxes, scores, tuple(masks))]
    first, second = link_detections(found, ISOTROPIC)
    assert first.masks == (masks[1],)
    assert second.masks == (masks[0],)


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        ([in_slice(5), in_slice(5)], {}, "slice 5 is there twice"),
        ([in_slice(5, [3, 0, 2, 9, 0.5])], {}, r"slice 5: boxes must have x1 <= x2 .* \[3.0, "),
        ([in_slice(5, [0, 0, np.nan, 9, 0.5])], {}, "slice 5: boxes must have"),
        ([in_slice(5, [0, 0, 9, 9, 50.0])], {}, r"slice 5: scores must be in \[0, 1\], got 50.0"),
        ([in_slice(5, [0, 0, 9, 9, np.nan])], {}, "slice 5: scores"),
        ([in_slice(-1)], {}, "slice -1: z must be an index"),
        ([in_slice(1.5)], {}, r"slice 1\.5: z must be an index"),  # type: ignore[arg-type]
        ([SliceDetections(2, np.zeros((2, 4)), np.zeros(1))], {}, "slice 2: boxes must be"),
        (
            [SliceDetections(2, np.zeros((1, 4)), np.zeros(1), (None, None))],  # type: ignore[arg-type]
            {},
            "slice 2: 2 masks for 1 boxes",
        ),
        ([], {"iou_threshold": 0}, "iou_threshold must be in"),
        ([], {"max_gap": -1}, "max_gap must be a distance >= 0 mm, got -1"),
        ([], {"min_slices": 0}, "min_slices must be at least 1"),
        ([], {"nms_threshold": 0}, "nms_threshold must be > 0"),
        ([], {"link_threshold": np.nan}, r"link_threshold must be in \[0, 1\], got nan"),
        ([], {"score_threshold": 50}, r"score_threshold must be in \[0, 1\], got 50"),
    ],
)
def test_what_cannot_be_is_named(found: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        link_detections(found, ISOTROPIC, **options)


def test_masks_for_some_boxes_only_are_refused() -> None:
    mask = SliceMask(0, 0, np.ones((1, 1), bool))
    whole = SliceDetections(0, np.zeros((1, 4)), np.ones(1), (mask,))
    with pytest.raises(ValueError, match="slice 1 has no masks, others have"):
        link_detections([whole, in_slice(1, [*SQUARE, 0.5]), in_slice(2)], ISOTROPIC)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, np.nan)])
def test_spacing_must_be_three_distances(spacing: tuple) -> None:
    with pytest.raises(ValueError, match="spacing must be three distances > 0 mm"):
        link_detections([], spacing)


coordinates = st.integers(0, 12)
sides = st.integers(3, 8)
scores = st.sampled_from([0.05, 0.2, 0.5, 0.5, 1.0])
rows = st.tuples(coordinates, coordinates, sides, sides, scores).map(
    lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3], r[4])
)
volumes = st.dictionaries(st.integers(0, 9), st.lists(rows, max_size=5, unique=True), max_size=6)


def summary(lesions: list[Lesion]) -> list:
    """All that tells lesions apart."""
    return [
        (each.number, each.score, each.key_slice, each.slices.tolist(), each.boxes.tolist())
        for each in lesions
    ]


@settings(max_examples=40)
@given(volumes, st.randoms(use_true_random=False))
def test_what_holds_of_any_boxes(volume: dict, random: Random) -> None:
    found = [in_slice(z, *there) for z, there in volume.items()]
    lesions = link_detections(found, ISOTROPIC, score_threshold=0.2)
    shuffled = [(z, random.sample(there, len(there))) for z, there in volume.items()]
    random.shuffle(shuffled)
    again = link_detections(
        [in_slice(z, *there) for z, there in shuffled], ISOTROPIC, score_threshold=0.2
    )
    assert summary(again) == summary(lesions)

    taken = [
        (z, *box, score)
        for lesion in lesions
        for z, box, score in zip(
            lesion.slices.tolist(), lesion.boxes.tolist(), lesion.scores.tolist(), strict=True
        )
    ]
    assert set(taken) <= {(z, *row) for z, there in volume.items() for row in there}
    assert len(set(taken)) == len(taken)
    tubes = [(lesion.slices, lesion.boxes) for lesion in lesions]
    *_, overlaps = tube_overlaps(tubes, np.array(sorted(volume), np.int64))
    assert (overlaps < NMS_THRESHOLD).all()
    for number, lesion in enumerate(lesions, start=1):
        assert lesion.number == number
        assert (np.diff(lesion.slices) > 0).all()
        assert lesion.score == lesion.scores.max() >= 0.2
        assert lesion.key_slice in lesion.slices[lesion.scores == lesion.score]
    assert sorted((lesion.score for lesion in lesions), reverse=True) == [
        lesion.score for lesion in lesions
    ]


@settings(max_examples=40)
@given(volumes)
def test_upside_down_gives_the_same_scores(volume: dict) -> None:
    """Without ties, chains do not depend on the direction in which slices are looked through."""
    rng = np.random.default_rng(0)
    jitter = {z: rng.uniform(0, 0.01, (len(there), 5)) for z, there in volume.items()}
    table = {
        z: np.array(there, float).reshape(-1, 5) * 0.9 + jitter[z] for z, there in volume.items()
    }
    down = link_detections([in_slice(z, *there) for z, there in table.items()], ISOTROPIC)
    up = link_detections([in_slice(9 - z, *there) for z, there in table.items()], ISOTROPIC)
    assert [(9 - each.slices[::-1]).tolist() for each in up] == slices_of(down)
