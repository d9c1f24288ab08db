"""Tests of resizing stacks of slices."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet")

from deeplesion.mmdet_parts import Resize
from deeplesion.transforms.resizing import RandomStepResize, ResizeCT
from tests.deeplesion.transforms.test_geometric import noisy

#: Of standard normal noise; where all slices go together, OpenCV rounds weights otherwise.
TOLERANCE = 1e-4


@pytest.mark.parametrize("depth", [1, 3, 7])
@pytest.mark.parametrize("arguments", [
    {"scale": (100, 80), "keep_ratio": True},
    {"scale": (100, 80)},
    {"scale": (50, 50), "keep_ratio": True},
    {"scale": (120, 90)},
    {"scale_factor": 1.5},
])  # fmt: skip
def test_resize_is_the_stock_one(arguments: dict, depth: int) -> None:
    ours, stock = ResizeCT(**arguments)(noisy(depth)), Resize(**arguments)(noisy(depth))
    # The stock one drops the depth of a single slice, and OpenCV rounds by number of channels.
    mine, other = np.squeeze(ours.pop("img")), np.squeeze(stock.pop("img"))
    np.testing.assert_allclose(mine, other, rtol=0, atol=TOLERANCE)
    for key in ("gt_bboxes", "gt_masks"):
        mine, other = ours.pop(key), stock.pop(key)
        for name in ("tensor",) if key == "gt_bboxes" else ("masks", "height", "width"):
            assert np.array_equal(getattr(mine, name), getattr(other, name))
    assert ours.keys() == stock.keys()
    assert ours["img_shape"] == stock["img_shape"]
    assert ours["scale_factor"] == pytest.approx(stock["scale_factor"])


def test_resize_of_what_has_the_size_already_copies_nothing() -> None:
    data = noisy(7)
    results = ResizeCT(scale=(100, 80), keep_ratio=True)(dict(data))
    assert results["img"] is data["img"]
    assert results["gt_masks"] is data["gt_masks"]
    assert results["scale_factor"] == (1, 1)


SIDES = (40, 60, 80, 100, 120)


def side_of(**keys: int) -> int:
    """The side in px that a sample of 80 x 100 px gets by chance."""
    resize = RandomStepResize(scales=[(s, s) for s in SIDES], resize_type="mmdet.ResizeCT")
    results = resize({**noisy(3), **keys})
    assert results["img"].shape == (*results["img_shape"], 3)
    assert SIDES[results["scale_idx"]] == results["img_shape"][0]
    return results["img_shape"][0]


def test_samples_of_a_step_have_one_size() -> None:
    sides = {seed: {side_of(step_seed=seed) for _ in range(2)} for seed in range(40)}
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == set(SIDES)


def test_the_size_of_a_step_leaves_other_random_numbers_alone() -> None:
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    side_of(step_seed=7)
    assert np.random.rand() == expected


def test_samples_of_unknown_steps_have_sizes_of_their_own() -> None:
    np.random.seed(0)
    assert len({side_of() for _ in range(20)}) > 1
