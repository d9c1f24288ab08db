"""FROC against the published scorers, and against their protocol written plainly."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.evaluation.froc import (
    REPORT_FPS,
    curve_corners,
    curve_from_matches,
    froc_curve,
    sensitivity_at,
)
from deeplesion.evaluation.matching import match_detections, select_images

TOLERANCE = 1e-9
TEST_IMAGES = 4817
TEST_LESIONS = 4912
BOXES_PER_IMAGE = 50
HIT = [10.0, 10.0, 29.0, 29.0]
FAR = [100.0, 300.0, 120.0, 320.0]

Boxes = list[list[list[float]]]


@pytest.fixture(scope="module")
def cases(goldens: Path) -> dict[str, dict[str, Any]]:
    """Boxes, lesions and what the published scorers give, by the name of the case."""
    return json.loads((goldens / "froc" / "cases.json").read_text())


def figures(detections: Any, lesions: Any) -> np.ndarray:
    """Our sensitivities at the reported numbers of false positives per image."""
    curve = froc_curve(detections, lesions)
    return sensitivity_at(curve.sensitivity, curve.fps_per_image)


def assert_near(actual: Any, expected: Any, name: str) -> None:
    """Equal to 1e-9, not-a-number included."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE, err_msg=name)


def test_figures_of_every_case(cases: dict[str, dict[str, Any]]) -> None:
    compared = 0
    for name, case in cases.items():
        for scorer in ("published", "second_scorer"):
            if "value" in case[scorer]:  # else it failed
                assert_near(figures(case["boxes"], case["gts"]), case[scorer]["value"], name)
                compared += 1
    assert compared >= len(cases)


def test_curves_of_every_case(cases: dict[str, dict[str, Any]]) -> None:
    for name, case in cases.items():
        if "sens" in case["published_curve"]:
            curve = froc_curve(case["boxes"], case["gts"])
            assert_near(curve.sensitivity, case["published_curve"]["sens"], name)
            assert_near(curve.fps_per_image, case["published_curve"]["fp_per_img"], name)


def plain_iou(box: list[float], lesion: list[float]) -> float:
    """Intersection over union of two boxes, widths counted as x2 - x1 + 1."""
    width = min(box[2], lesion[2]) - max(box[0], lesion[0]) + 1
    height = min(box[3], lesion[3]) - max(box[1], lesion[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, lesion)]
    return width * height / (sum(areas) - width * height)


def plain_curve(detections: Boxes, lesions: Boxes) -> list[tuple[float, float]]:
    """(false positives per image, sensitivity) after each box, by the published protocol."""
    ascending = [(box[4], image, box) for image, found in enumerate(detections) for box in found]
    ascending.sort(key=lambda entry: entry[0])
    total = sum(len(there) for there in lesions)
    hit: set[tuple[int, int]] = set()
    points, false_positives = [], 0
    for _, image, box in reversed(ascending):
        overlaps = [plain_iou(box, lesion) for lesion in lesions[image]]
        if not overlaps or max(overlaps) < 0.5:
            false_positives += 1
        hit |= {(image, k) for k, overlap in enumerate(overlaps) if overlap >= 0.5}
        points.append((false_positives / len(detections), len(hit) / total))
    return points


def plain_sensitivity(points: list[tuple[float, float]], fps: float) -> float:
    """Linear interpolation between consecutive points, of several at ``fps`` the last."""
    if fps < points[0][0]:
        return 0.0
    value = points[-1][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= fps < x1:
            value = y0 + (fps - x0) / (x1 - x0) * (y1 - y0)
    return value


def plain_figures(detections: Boxes, lesions: Boxes) -> list[float]:
    """Sensitivities at the reported numbers of false positives per image."""
    points = plain_curve(detections, lesions)
    return [plain_sensitivity(points, fps) for fps in REPORT_FPS]


def random_box(rng: np.random.Generator) -> list[float]:
    """A box of DeepLesion's size range in a 512 px slice."""
    x, y = rng.uniform(20, 400, 2)
    width, height = rng.uniform(12, 90, 2)
    return [x, y, x + width, y + height]


def prediction_set(seed: int = 0) -> tuple[Boxes, Boxes]:
    """Lesions and predictions as many as those of DeepLesion's test split."""
    rng = np.random.default_rng(seed)
    twice = set(rng.choice(TEST_IMAGES, TEST_LESIONS - TEST_IMAGES, replace=False).tolist())
    lesions = [
        [random_box(rng) for _ in range(1 + (image in twice))] for image in range(TEST_IMAGES)
    ]
    detections: Boxes = []
    for there in lesions:
        found = []
        for _ in range(rng.integers(0, BOXES_PER_IMAGE + 1)):
            near = rng.random() < 0.1
            box = there[rng.integers(len(there))] if near else random_box(rng)
            box = (np.array(box) + rng.normal(0, 5, 4)).tolist() if near else box
            found.append([*box, float(rng.beta(2, 2) if near else rng.beta(1, 6))])
        detections.append(found)
    return detections, lesions


@pytest.mark.parametrize("decimals", [None, 2], ids=["distinct scores", "ties"])
def test_the_full_test_split(decimals: int | None) -> None:
    detections, lesions = prediction_set()
    if decimals is not None:
        detections = [[[*b[:4], round(b[4], decimals)] for b in found] for found in detections]
    ours = froc_curve(detections, lesions)
    points = plain_curve(detections, lesions)
    assert len(points) > 100_000
    assert_near(ours.fps_per_image, [x for x, _ in points], "false positives per image")
    assert_near(ours.sensitivity, [y for _, y in points], "sensitivity")
    expected = [plain_sensitivity(points, fps) for fps in REPORT_FPS]
    assert 0.3 < expected[0] < expected[3] < 1
    assert_near(figures(detections, lesions), expected, "figures")
    corners = curve_corners(ours)
    assert_near(sensitivity_at(*corners[:2]), expected, "figures by the corners alone")


@pytest.mark.parametrize("stratum", ["thin", "thick"])
def test_strata_of_the_full_test_split_as_sets_of_their_own(stratum: str) -> None:
    detections, lesions = prediction_set(seed=1)
    interval = np.random.default_rng(2).choice([1.0, 2.0, 2.5, 5.0], TEST_IMAGES)
    chosen = interval <= 2 if stratum == "thin" else interval == 5
    curve = curve_from_matches(select_images(match_detections(detections, lesions), chosen))
    images = np.flatnonzero(chosen)
    expected = plain_figures([detections[i] for i in images], [lesions[i] for i in images])
    assert_near(sensitivity_at(curve.sensitivity, curve.fps_per_image), expected, stratum)


def test_between_two_numbers_of_false_positives_the_curve_is_level() -> None:
    """Three images: 0.5 per image lies between one and two false positives, a hit follows."""
    detections = [[[*FAR, 0.9], [*HIT, 0.6]], [[*FAR, 0.8], [*HIT, 0.7]], []]
    lesions = [[HIT], [HIT], [HIT]]
    expected = [0.0, *[2 / 3] * 5]
    assert_near(plain_figures(detections, lesions), expected, "protocol")
    assert_near(figures(detections, lesions), expected, "ours")


# Where the published scorer fails or depends on its sort; docs/evaluation.md lists these.


def test_no_detection_at_all_is_0() -> None:
    assert figures([[], []], [[HIT], []]).tolist() == [0.0] * 6
    assert figures([np.zeros((0, 5))], [np.zeros((1, 4))]).tolist() == [0.0] * 6


def test_before_the_first_rate_sensitivity_is_0() -> None:
    assert figures([[[*FAR, 0.9], [*HIT, 0.8]]], [[HIT]]).tolist() == [0, 1, 1, 1, 1, 1]


def test_no_image_at_all_is_0() -> None:
    assert figures([], []).tolist() == [0.0] * 6


def test_no_lesion_is_not_a_number() -> None:
    assert np.isnan(figures([[[*FAR, 0.9]]], [[]])).all()


def test_ties_are_taken_from_the_last_given_to_the_first() -> None:
    tied = [[*HIT, 0.5], *([*FAR, 0.5] for _ in range(40))]
    assert figures([tied], [[HIT]]).tolist() == [0.0] * 6
    assert figures([tied[::-1]], [[HIT]]).tolist() == [1.0] * 6
    # Always alike, however many there are: the sort is stable.
    for count in (2, 17, 200):
        tied = [*([*FAR, 0.5] for _ in range(count)), [*HIT, 0.5]]
        assert froc_curve([tied], [[HIT]]).fps_per_image.tolist() == list(range(count + 1))


@pytest.mark.parametrize("score", [math.inf, -math.inf])
def test_infinite_scores_are_scores(score: float) -> None:
    detections = [[[*HIT, score], [*FAR, 0.0]]]
    assert_near(figures(detections, [[HIT]]), plain_figures(detections, [[HIT]]), str(score))


def test_what_has_no_place_in_the_order_is_refused() -> None:
    with pytest.raises(ValueError, match="detections of image 0: score must not be NaN"):
        figures([[[*HIT, math.nan]]], [[HIT]])
    with pytest.raises(ValueError, match="detections of image 0: box must be finite"):
        figures([[[math.nan, 0, 9, 9, 0.5]]], [[HIT]])


def test_boxes_inside_out_reach_nothing_and_such_lesions_are_refused() -> None:
    inside_out = [29.0, 29.0, 10.0, 10.0]
    detections = [[[*inside_out, 0.9], [*HIT, 0.8]], [], []]
    lesions = [[HIT], [], []]
    assert_near(figures(detections, lesions), plain_figures(detections, lesions), "inside out")
    with pytest.raises(ValueError, match="ground_truths of image 0: box must have x1 <= x2"):
        figures([[]], [[inside_out]])
