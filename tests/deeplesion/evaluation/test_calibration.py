"""Reliability by hand, and of scores that are honest by making."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deeplesion.evaluation.calibration import Reliability, reliability, repeated
from deeplesion.evaluation.matching import match_detections

HIT = [0, 0, 9, 9]
NEAR = [0, 0, 9, 8]
FAR = [50, 50, 59, 59]


def test_by_hand() -> None:
    matches = match_detections(
        [[[*HIT, 0.9], [*NEAR, 0.8], [*FAR, 0.6]], [[*FAR, 0.2], [*FAR, 0.1], [*HIT, 0.3]]],
        [[HIT], [HIT]],
    )
    assert repeated(matches).tolist() == [False, True, False, False, False, False]
    result = reliability(matches, ["a", "b"], bins=2)
    np.testing.assert_allclose(result.score, [0.2, 2.3 / 3])
    np.testing.assert_allclose(result.share, [1 / 3, 2 / 3])
    assert result.boxes.tolist() == [3, 3]
    assert result.error == pytest.approx((1 / 3 - 0.2 + 2.3 / 3 - 2 / 3) / 2)
    # All boxes of a bin are of one patient.
    assert np.isnan([result.low, result.high]).all()
    without = reliability(matches, ["a", "b"], bins=1, repeats=False)
    np.testing.assert_allclose(without.score, [2.1 / 5])
    np.testing.assert_allclose(without.share, [2 / 5])
    # Draws hold the first patient twice, both, or the second twice, by 1 : 2 : 1.
    assert (without.low[0], without.high[0]) == (1 / 3, 1 / 2)
    assert (without.repeats, without.seed, without.replicates) == (False, 0, 1000)


def test_boxes_of_one_score_are_not_parted() -> None:
    scores = [0.1, 0.5, 0.5, 0.5, 0.5, 0.9]
    matches = match_detections([[[*FAR, score] for score in scores]], [[]])
    result = reliability(matches, ["a"], bins=3)
    np.testing.assert_allclose(result.score, [0.1, 2.9 / 5])
    assert result.boxes.tolist() == [1, 5]
    assert reliability(matches, ["a"], bins=100).boxes.tolist() == [1, 4, 1]


def honest(power: float) -> Reliability:
    """Boxes that are right with a probability whose root is their score."""
    rng = np.random.default_rng(0)
    chance = rng.random((100, 20))
    right = rng.random(chance.shape) < chance
    detections = [
        [[*(HIT if hit else FAR), c**power] for hit, c in zip(*row, strict=True)]
        for row in zip(right, chance, strict=True)
    ]
    matches = match_detections(detections, [[HIT]] * len(chance))
    return reliability(matches, [i // 2 for i in range(len(chance))])


def test_honest_scores_are_calibrated_and_others_are_not() -> None:
    result = honest(1.0)
    assert result.error < 0.04
    inside = (result.low <= result.score) & (result.score <= result.high)
    assert inside.sum() >= 7
    assert np.all(result.low <= result.share)
    assert np.all(result.share <= result.high)
    assert honest(0.3).error > 0.2


def test_scores_that_are_no_probabilities_have_no_error() -> None:
    matches = match_detections([[[*HIT, 3.0], [*FAR, 0.5]]], [[HIT]])
    result = reliability(matches, ["a"], bins=2)
    assert math.isnan(result.error)
    assert result.share.tolist() == [0, 1]


def test_no_boxes() -> None:
    for images in (0, 2):
        matches = match_detections([[]] * images, [[HIT]] * images)
        result = reliability(matches, list(range(images)))
        assert [len(values) for values in result[:5]] == [0] * 5
        assert math.isnan(result.error)


def test_bad_settings_are_named() -> None:
    matches = match_detections([[]], [[]])
    with pytest.raises(ValueError, match="bins must be 1 or more, got 0"):
        reliability(matches, ["a"], bins=0)
    with pytest.raises(ValueError, match="patients must name one for each of 1 images, got 2"):
        reliability(matches, ["a", "b"])
