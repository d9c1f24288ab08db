"""3D boxes, lesions marked on one slice, and boxes followed over slices, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation.froc import curve_from_matches, mean_sensitivity, sensitivity_at
from deeplesion.evaluation.matching import MISSED, match_detections
from deeplesion.evaluation.volumes import (
    VOLUME_FPS,
    Tracklet,
    link_slices,
    match_tracklets,
    match_volumes,
    tracklet_boxes,
)

LESION = [0, 0, 10, 9, 9, 19]  # 10 x 10 px on 10 slices
MARKED = [0, 0, 15, 9, 9, 15]
SQUARE = [0, 0, 9, 9]
FAR = [50, 50, 10, 59, 59, 19]

small = st.integers(0, 5)
ranges = st.tuples(small, small).map(sorted)
box_3d = st.tuples(ranges, ranges, ranges).map(lambda r: [low for low, _ in r] + [h for _, h in r])
scored = st.tuples(box_3d, st.sampled_from([0.1, 0.5, 0.9])).map(lambda p: [*p[0], p[1]])
volumes = st.lists(
    st.tuples(st.lists(scored, max_size=5), st.lists(box_3d, max_size=3)), min_size=1, max_size=4
)


def hit(box: list, lesion: list, **options: object) -> bool:
    """Whether one box hits one lesion."""
    matches = match_volumes([[[*box, 0.9]]], [[lesion]], **options)  # type: ignore[arg-type]
    return matches.first_hit.tolist() == [0]


@pytest.mark.parametrize(
    ("box", "iou", "iobb"),
    [
        (LESION, 1.0, 1.0),
        ([0, 0, 10, 9, 9, 14], 0.5, 1.0),  # half of its slices
        ([0, 0, 5, 9, 9, 14], 1 / 3, 0.5),
        ([0, 0, 0, 9, 9, 9], 0.0, 0.0),  # the slices before it
        ([0, 0, 19, 9, 9, 28], 1 / 19, 0.1),  # one slice in common
    ],
)
def test_overlaps_in_3d(box: list, iou: float, iobb: float) -> None:
    for criterion, overlap in (("iou", iou), ("iobb", iobb)):
        for threshold in (0.04, 0.06, 0.2, 0.4, 0.6, 1.0):
            reached = overlap >= threshold
            assert hit(box, LESION, criterion=criterion, threshold=threshold) == reached


def test_iobb_of_0_3_is_the_default() -> None:
    assert hit([0, 0, 13, 9, 9, 32], LESION)  # 7 of its 20 slices
    assert not hit([0, 0, 15, 9, 9, 34], LESION)  # 5 of 20


def test_center_in_3d() -> None:
    assert hit([0, 0, 0, 9, 9, 30], LESION, criterion="center")  # 15
    assert not hit([0, 0, 0, 9, 9, 18], LESION, criterion="center")  # 9, and 9.5 is the edge


def test_rules_are_those_of_the_2d_protocol() -> None:
    detections = [[[*LESION, 0.9], [*LESION, 0.8], [*FAR, 0.7]], [[*LESION, 0.6]]]
    matches = match_volumes(detections, [[LESION], []])
    assert matches.false_positive.tolist() == [False, False, True, True]
    assert matches.first_hit.tolist() == [0]
    assert matches.num_images == 2
    strict = match_volumes(detections, [[LESION], []], one_to_one=True)
    assert strict.false_positive.tolist() == [False, True, True, True]


def test_figures_are_given_per_volume() -> None:
    assert VOLUME_FPS == (0.125, 0.25, 0.5, 1, 2, 4, 8)
    # Four volumes: a false positive, a hit, another false positive, and the other hit.
    detections = [
        [[*FAR, 0.9], [*LESION, 0.8]],
        [[*FAR, 0.7], [*LESION, 0.6]],
        [],
        [],
    ]
    curve = curve_from_matches(match_volumes(detections, [[LESION], [LESION], [], []]))
    at = sensitivity_at(curve.sensitivity, curve.fps_per_image, VOLUME_FPS)
    np.testing.assert_array_equal(at, [0, 0.5, 1, 1, 1, 1, 1])
    assert mean_sensitivity(curve, VOLUME_FPS) == pytest.approx(5.5 / 7)


def test_p3d_compares_in_the_plane_of_the_marked_slice() -> None:
    deep = [0, 0, 0, 9, 9, 99]
    # In 3D the box is too deep; in the plane it is the lesion's.
    assert not hit(deep, MARKED, criterion="iou", threshold=0.5)
    assert hit(deep, MARKED, criterion="iou", threshold=1.0, pseudo_3d=True)
    assert hit([0, 0, 15, 9, 9, 15], MARKED, criterion="iou", threshold=1.0, pseudo_3d=True)
    half = [0, 0, 10, 9, 4, 19]
    assert hit(half, MARKED, criterion="iou", threshold=0.5, pseudo_3d=True)
    assert not hit(half, MARKED, criterion="iou", threshold=0.51, pseudo_3d=True)


@pytest.mark.parametrize(("first", "last"), [(0, 14), (16, 20), (15.5, 20), (20, 10)])
@pytest.mark.parametrize("criterion", ["iou", "iobb", "center"])
def test_p3d_needs_a_box_that_covers_the_slice(first: float, last: float, criterion: str) -> None:
    box = [0, 0, first, 9, 9, last]
    assert not hit(box, MARKED, criterion=criterion, threshold=0.1, pseudo_3d=True)


@settings(max_examples=100, deadline=None)
@given(data=volumes)
def test_p3d_of_one_slice_volumes_is_2d(data: list[tuple[list, list]]) -> None:
    detections, lesions = [d for d, _ in data], [g for _, g in data]
    flat = [
        [[*b[:2], 3, *b[3:5], 3, *b[6:]] for b in rows]
        for part in (detections, lesions)
        for rows in part
    ]
    found, there = flat[: len(data)], flat[len(data) :]
    plane = match_detections(
        [[[*b[:2], *b[3:5], b[6]] for b in rows] for rows in detections],
        [[[*b[:2], *b[3:5]] for b in rows] for rows in lesions],
        one_to_one=True,
    )
    for options in ({"pseudo_3d": True}, {}):
        got = match_volumes(found, there, "iou", 0.5, one_to_one=True, **options)
        for values, expected in zip(got, plane, strict=True):
            np.testing.assert_array_equal(values, expected)


@settings(max_examples=100, deadline=None)
@given(data=volumes, criterion=st.sampled_from(["iou", "iobb", "center"]))
def test_a_false_positive_more_never_raises_sensitivity(
    data: list[tuple[list, list]], criterion: str
) -> None:
    detections, lesions = [d for d, _ in data], [g for _, g in data]
    before = curve_from_matches(match_volumes(detections, lesions, criterion))
    detections[0] = [*detections[0], [90, 90, 90, 95, 95, 95, 0.4]]
    after = curve_from_matches(match_volumes(detections, lesions, criterion))
    low, high = (sensitivity_at(*curve[:2], VOLUME_FPS) for curve in (after, before))
    assert np.all((low <= high + 1e-12) | np.isnan(high) | np.isnan(low))


def test_tracklets_are_compared_by_their_box_on_the_slice() -> None:
    drifting = Tracklet({14: [0, 0, 9, 4], 15: SQUARE, 16: FAR[:2] + FAR[3:5]}, 0.9)
    for z, first_hit in ((13, MISSED), (14, 0), (15, 0), (16, MISSED), (17, MISSED)):
        matches = match_tracklets([[drifting]], [[[0, 0, z, 9, 9, z]]])
        assert matches.first_hit.tolist() == [first_hit]
        assert matches.false_positive.tolist() == [first_hit == MISSED]


def test_a_tracklet_with_a_gap_has_no_box_there() -> None:
    leaping = Tracklet({14: SQUARE, 16: SQUARE}, 0.9)
    assert match_tracklets([[leaping]], [[MARKED]]).first_hit.tolist() == [MISSED]


def test_tracklets_of_several_volumes_keep_to_their_own() -> None:
    first = [Tracklet({2: SQUARE}, 0.3), Tracklet({15: SQUARE, 3: SQUARE}, 0.9)]
    second = [Tracklet({15: [0, 0, 9, 8]}, 0.5), Tracklet({-4: SQUARE, 15: SQUARE}, 0.4)]
    lesions = [[MARKED], [[0, 0, 2, 9, 9, 2], MARKED, [0, 0, -4, 9, 9, -4]], [MARKED]]
    matches = match_tracklets([first, second, []], lesions)
    assert matches.scores.tolist() == [0.9, 0.5, 0.4, 0.3]
    assert matches.first_hit.tolist() == [0, MISSED, 1, 2, MISSED]
    assert matches.false_positive.tolist() == [False, False, False, True]
    strict = match_tracklets([first, second, []], lesions, one_to_one=True)
    assert strict.first_hit.tolist() == [0, MISSED, 1, 2, MISSED]


def test_no_tracklets_at_all() -> None:
    matches = match_tracklets([[], []], [[MARKED], []])
    assert (matches.scores.size, matches.first_hit.tolist()) == (0, [MISSED])


@settings(max_examples=100, deadline=None)
@given(data=volumes, z=st.integers(0, 5))
def test_tracklets_of_equal_boxes_are_extruded_boxes(data: list[tuple[list, list]], z: int) -> None:
    lesions = [[[*b[:2], z, *b[3:5], z] for b in there] for _, there in data]
    detections = [found for found, _ in data]
    tracklets = [
        [Tracklet({k: [*b[:2], *b[3:5]] for k in range(b[2], b[5] + 1)}, b[6]) for b in found]
        for found in detections
    ]
    hulls = [tracklet_boxes(there) for there in tracklets]
    for hull, found in zip(hulls, detections, strict=True):
        np.testing.assert_array_equal(hull, np.array(found).reshape(-1, 7))
    expected = match_volumes(detections, lesions, "iou", 0.5, pseudo_3d=True)
    for values, wanted in zip(match_tracklets(tracklets, lesions), expected, strict=True):
        np.testing.assert_array_equal(values, wanted)


def test_tracklets_are_enclosed() -> None:
    tracklet = Tracklet({7: [3, 4, 9, 9], 5: [0, 5, 8, 12]}, 0.5)
    assert tracklet_boxes([tracklet]).tolist() == [[0, 4, 5, 9, 12, 7, 0.5]]
    assert tracklet_boxes([]).shape == (0, 7)


def test_slices_are_linked_by_the_overlap_of_neighbors() -> None:
    boxes = {
        4: [[*SQUARE, 0.5], [50, 50, 59, 59, 0.4]],
        5: [[0, 0, 9, 8, 0.9]],
        6: [[0, 0, 9, 7, 0.7], [50, 50, 59, 59, 0.2]],
        9: [[0, 0, 9, 7, 0.1]],
    }
    linked = link_slices(boxes)
    assert [sorted(t.boxes) for t in linked] == [[4, 5, 6], [4], [6], [9]]
    assert [t.score for t in linked] == [0.9, 0.4, 0.2, 0.1]
    assert np.array(linked[0].boxes[6]).tolist() == [0, 0, 9, 7]
    assert [sorted(t.boxes) for t in link_slices(boxes, gap=1)] == [[4, 5, 6], [4, 6], [9]]
    assert [sorted(t.boxes) for t in link_slices(boxes, gap=2)] == [[4, 5, 6, 9], [4, 6]]
    assert len(link_slices(boxes, iou=0.95)) == 6


def test_the_box_of_higher_score_goes_on_and_the_other_begins() -> None:
    linked = link_slices({1: [[*SQUARE, 0.5]], 2: [[*SQUARE, 0.6], [0, 0, 9, 8, 0.7]]})
    assert [sorted(t.boxes) for t in linked] == [[1, 2], [2]]
    assert np.array(linked[0].boxes[2]).tolist() == [0, 0, 9, 8]


def test_linked_boxes_can_be_scored() -> None:
    linked = link_slices({14: [[*SQUARE, 0.5]], 15: [[*SQUARE, 0.6]], 16: []})
    assert match_volumes([tracklet_boxes(linked)], [[MARKED]], pseudo_3d=True).first_hit == [0]
    assert match_tracklets([linked], [[MARKED]]).first_hit.tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gap": -1}, "gap must be >= 0 slices, got -1"),
        ({"iou": 0}, r"iou must be in \(0, 1\], got 0"),
        ({"boxes_by_slice": {3: [SQUARE]}}, r"boxes of slice 3 must be \(n, 5\), got \(1, 4\)"),
        ({"boxes_by_slice": {3: [[9, 0, 0, 9, 0.5]]}}, "box of slice 3 must be finite, with x1 <="),
        ({"boxes_by_slice": {3: [[*SQUARE, math.nan]]}}, "box of slice 3 must be finite"),
    ],
)
def test_links_that_cannot_be(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        link_slices(**{"boxes_by_slice": {}, **arguments})


@pytest.mark.parametrize(
    ("detections", "lesions", "message"),
    [
        ([[]], [[], []], "one array per volume each, got 1 and 2"),
        (
            [[], [[*SQUARE, 0.9]]],
            [[], []],
            r"detections of volume 1 must be \(n, 7\), got \(1, 5\)",
        ),
        ([[]], [[SQUARE]], r"ground_truths of volume 0 must be \(n, 6\), got \(1, 4\)"),
        ([[[*LESION, math.nan]]], [[]], "detections of volume 0: score must not be NaN"),
        ([[[*LESION[:5], math.inf, 1]]], [[]], "detections of volume 0: box must be finite"),
        ([[], []], [[], [[0, 0, 9, 9, 9, 1]]], "ground_truths of volume 1: box must .* z1 <= z2"),
    ],
)
def test_bad_input_is_named(detections: list, lesions: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_volumes(detections, lesions)


@pytest.mark.parametrize("lesion", [LESION, [0, 0, 1.5, 9, 9, 1.5]])
def test_p3d_refuses_lesions_of_several_slices(lesion: list) -> None:
    message = r"ground_truths of volume 1: lesion must lie on one slice, z1 = z2, got \[0"
    with pytest.raises(ValueError, match=message):
        match_volumes([[], []], [[MARKED], [lesion]], pseudo_3d=True)
    with pytest.raises(ValueError, match=message):
        match_tracklets([[], []], [[MARKED], [lesion]])


@pytest.mark.parametrize(
    "boxes", [{}, {1: [0, 0, 9]}, {1: SQUARE, 2: [SQUARE]}, {1.5: SQUARE}, {"1": SQUARE}]
)
def test_tracklets_that_are_none(boxes: dict) -> None:
    with pytest.raises(ValueError, match="tracklet 1 must have x1, y1, x2, y2 by number of the"):
        tracklet_boxes([Tracklet({1: SQUARE}, 0.5), Tracklet(boxes, 0.5)])


def test_bad_thresholds() -> None:
    for function in (match_volumes, match_tracklets):
        with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\], got 0"):
            function([], [], "iou", 0)
