"""Weighted box fusion by hand, against a loop that is the paper's, and what holds of any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation.box_fusion import fuse_images, vote_masks, weighted_box_fusion
from deeplesion.evaluation.overlaps import paired_iou

# Corners and sides that are multiples of 1/2: many overlaps, ties and equal boxes among them.
halves = st.integers(0, 40).map(lambda n: n / 2)
box = st.tuples(halves, halves, halves, halves).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)
detector = st.lists(st.tuples(box, st.integers(0, 8).map(lambda n: n / 8)), max_size=6)
detectors = st.lists(detector, min_size=1, max_size=4)
Detector = list[tuple[list[float], float]]


def unzipped(found: list[Detector]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Boxes and scores of each detector."""
    boxes = [np.array([b for b, _ in one]).reshape(-1, 4) for one in found]
    return boxes, [np.array([s for _, s in one]) for one in found]


def papers_loop(
    boxes: list[np.ndarray], scores: list[np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The steps of section 3.2 of the paper, one after the other."""
    pairs = zip(np.concatenate(scores), np.concatenate(boxes), strict=True)
    every = [(score, list(box)) for score, box in pairs]
    clusters: list[list[tuple[float, list[float]]]] = []
    fused: list[list[float]] = []
    for score, candidate in sorted(every, key=lambda one: -one[0]):
        overlaps = [paired_iou([candidate], [f])[0] for f in fused]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] <= threshold:
            clusters.append([])
            fused.append([])
            best = len(fused) - 1
        clusters[best].append((score, candidate))
        weights = [s for s, _ in clusters[best]]
        fused[best] = np.average([b for _, b in clusters[best]], axis=0, weights=weights).tolist()
    counts = [len(c) for c in clusters]
    means = [np.mean([s for s, _ in c]) for c in clusters]
    final = np.array(means) * np.minimum(counts, len(boxes)) / len(boxes)
    order = np.argsort(-final)
    return np.array(fused)[order], final[order]


def test_two_detectors_by_hand() -> None:
    first = [[0, 0, 9, 9], [50, 50, 59, 59]]
    second = [[2, 0, 11, 9]]  # IoU 80 / 120
    fused = weighted_box_fusion([first, second], [[0.6, 0.5], [0.3]])
    np.testing.assert_allclose(fused.boxes, [[2 / 3, 0, 9 + 2 / 3, 9], [50, 50, 59, 59]])
    # (0.6 + 0.3) / 2 * 2 / 2, and 0.5 * 1 / 2, for only one of the two has it.
    np.testing.assert_allclose(fused.scores, [0.45, 0.25])
    assert fused.cluster.tolist() == [0, 1, 0]


def test_more_members_than_detectors_raise_no_score() -> None:
    boxes = [[0, 0, 99, 99], [0, 0, 99, 98], [0, 0, 98, 99]]
    fused = weighted_box_fusion([boxes], [[0.9, 0.6, 0.3]])
    np.testing.assert_allclose(fused.scores, [0.6])


def test_a_box_joins_the_cluster_that_it_overlaps_most() -> None:
    boxes = [[0, 0, 9, 9], [5, 0, 14, 9], [4, 0, 13, 9]]
    fused = weighted_box_fusion([boxes], [[0.9, 0.8, 0.1]], iou_threshold=0.4)
    assert fused.cluster.tolist() == [0, 1, 1]


def test_iou_must_exceed_the_threshold() -> None:
    boxes, scores = [[[0, 0, 9, 9]], [[0, 0, 9, 4]]], [[0.8], [0.4]]
    assert len(weighted_box_fusion(boxes, scores, iou_threshold=0.5).boxes) == 2
    assert len(weighted_box_fusion(boxes, scores, iou_threshold=0.49).boxes) == 1


def test_weights_draw_boxes_and_scores() -> None:
    boxes, scores = [[[0, 0, 9, 9]], [[2, 0, 11, 9]]], [[0.4], [0.4]]
    fused = weighted_box_fusion(boxes, scores, weights=[3, 1])
    np.testing.assert_allclose(fused.boxes, [[0.5, 0, 9.5, 9]])
    np.testing.assert_allclose(fused.scores, [0.4])
    alone = weighted_box_fusion([boxes[0], []], [[0.4], []], weights=[3, 1])
    np.testing.assert_allclose(alone.scores, [0.3])  # 0.4 * 3 / (3 + 1)
    both = weighted_box_fusion([[*boxes[0], *boxes[1]], []], [[0.4, 0.4], []], weights=[9, 1])
    assert both.scores.tolist() == [0.4]


def test_low_scores_are_left_out() -> None:
    fused = weighted_box_fusion([[[0, 0, 9, 9], [0, 0, 9, 8]]], [[0.05, 0.5]], skip_score=0.1)
    assert fused.boxes.tolist() == [[0, 0, 9, 8]]
    assert fused.cluster.tolist() == [-1, 0]


@pytest.mark.parametrize("boxes", [[[], []], [[]]])
def test_nothing_found_gives_nothing(boxes: list) -> None:
    fused = weighted_box_fusion(boxes, boxes)
    assert fused.boxes.shape == (0, 4)
    assert fused.scores.shape == fused.cluster.shape == (0,)


@pytest.mark.parametrize(
    ("boxes", "scores", "options", "message"),
    [
        ([], [], {}, "at least one detector"),
        ([[[0, 0, 1, 1]]], [[]], {}, "image 0 must have as many scores as boxes"),
        ([[[0, 0, 1, 1]]], [[0.5], [0.5]], {}, "boxes and scores of 1 detectors, got 1 and 2"),
        ([[[0, 0, 1, np.nan]]], [[0.5]], {}, "finite boxes and scores"),
        ([[[0, 0, 1, 1]]], [[-1.0]], {}, "scores >= 0"),
        ([[[5, 0, 1, 1]]], [[0.5]], {}, "x1 <= x2"),
        ([[[0, 0, 1, 1]]], [[0.5]], {"weights": [0.0]}, "weights must be 1 numbers > 0"),
        ([[[0, 0, 1, 1]]], [[0.5]], {"weights": [1, 2]}, "weights must be 1 numbers"),
        ([[[0, 0, 1, 1]]], [[0.5]], {"iou_threshold": 1.0}, r"in \[0, 1\), got 1.0"),
    ],
)
def test_malformed_input_is_named(boxes: list, scores: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted_box_fusion(boxes, scores, **options)


def test_many_images_are_fused_as_the_paper_does_one() -> None:
    rng = np.random.default_rng(0)
    images = []
    for number in range(40):
        corner = rng.uniform(0, 100, (number % 13, 2))
        true = np.concatenate([corner, corner + rng.uniform(12, 40, corner.shape)], axis=1)
        boxes = [true + rng.normal(0, 2, true.shape) for _ in range(3)]
        images.append((boxes, [rng.uniform(0, 1, len(true)) for _ in range(3)]))
    for image, fused in zip(images, fuse_images(images), strict=True):
        boxes, scores = papers_loop(*image, 0.55)
        np.testing.assert_allclose(fused.boxes, boxes.reshape(-1, 4), rtol=1e-12)
        np.testing.assert_allclose(fused.scores, scores, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(detectors, st.randoms())
def test_order_of_detectors_does_not_matter(found: list[Detector], random: object) -> None:
    shuffled = [list(one) for one in found]
    for part in (shuffled, *shuffled):
        random.shuffle(part)  # type: ignore[attr-defined]
    one, other = (weighted_box_fusion(*unzipped(part)) for part in (found, shuffled))
    np.testing.assert_array_equal(
        one.boxes[np.lexsort(one.boxes.T)], other.boxes[np.lexsort(other.boxes.T)]
    )
    np.testing.assert_array_equal(one.scores, other.scores)


@settings(max_examples=60, deadline=None)
@given(detectors)
def test_fused_boxes_lie_within_their_members(found: list[Detector]) -> None:
    boxes, scores = unzipped(found)
    fused = weighted_box_fusion(boxes, scores)
    every, score = np.concatenate(boxes), np.concatenate(scores)
    assert (np.diff(fused.scores) <= 0).all()
    for index in range(len(fused.boxes)):
        members = fused.cluster == index
        assert members.any()
        assert (fused.boxes[index] >= every[members].min(axis=0) - 1e-9).all()
        assert (fused.boxes[index] <= every[members].max(axis=0) + 1e-9).all()
        assert 0 <= fused.scores[index] <= score[members].max()


@settings(max_examples=40, deadline=None)
@given(detector)
def test_one_detector_without_overlaps_stays_as_it_is(found: Detector) -> None:
    apart = [([b[0] + 100 * n, *b[1:2], b[2] + 100 * n, b[3]], s) for n, (b, s) in enumerate(found)]
    boxes, scores = unzipped([apart])
    fused = weighted_box_fusion(boxes, scores)
    assert sorted(fused.boxes.tolist()) == sorted(boxes[0].tolist())
    np.testing.assert_array_equal(fused.boxes[fused.cluster], boxes[0])
    np.testing.assert_array_equal(fused.scores[fused.cluster], scores[0])


def test_mask_is_that_of_the_weightier_members() -> None:
    masks = np.array([[[1, 1, 0]], [[0, 1, 0]], [[0, 1, 1]]])
    assert vote_masks(masks, [0.9, 0.3, 0.3]).tolist() == [[True, True, False]]
    assert vote_masks(masks, [0.3, 0.3, 0.3]).tolist() == [[False, True, False]]
    assert vote_masks(masks[:2], [0.4, 0.5]).tolist() == [[False, True, False]]
    assert vote_masks(masks[1:], [0.0, 0.0]).tolist() == [[False, True, True]]
