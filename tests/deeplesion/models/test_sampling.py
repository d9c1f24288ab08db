"""Samples of anchors and RoIs follow from the image."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmengine.structures import InstanceData

from deeplesion.models.sampling import SeededRandomSampler

BOXES = 200
POSITIVES = 40


def draw(seed: int | None) -> tuple[list[int], list[int]]:
    """Positive and negative boxes of an image."""
    gt_inds = torch.zeros(BOXES, dtype=torch.long)
    gt_inds[:POSITIVES] = 1
    assigned = AssignResult(1, gt_inds, torch.zeros(BOXES), torch.zeros(BOXES, dtype=torch.long))
    lesions = InstanceData(bboxes=torch.ones(1, 4), labels=torch.zeros(1, dtype=torch.long))
    if seed is not None:
        lesions.set_metainfo({"sampling_seed": seed})
    sampler = SeededRandomSampler(num=32, pos_fraction=0.5, add_gt_as_proposals=False)
    result = sampler.sample(assigned, InstanceData(priors=torch.rand(BOXES, 4)), lesions)
    return result.pos_inds.tolist(), result.neg_inds.tolist()


def test_draws_follow_from_the_seed_of_the_image_alone() -> None:
    torch.manual_seed(0)
    first = draw(7)
    torch.manual_seed(1)
    draw(8)
    assert draw(7) == first
    assert draw(8) != first


def test_draws_are_as_many_as_asked_and_of_the_right_kind() -> None:
    positive, negative = draw(7)
    assert len(positive) == len(negative) == 16
    assert max(positive) < POSITIVES <= min(negative)
    # Not the first ones.
    assert max(positive) > 16


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_seed_the_process_draws(seed: int) -> None:
    torch.manual_seed(seed)
    first = draw(None)
    assert draw(None) != first
    torch.manual_seed(seed)
    assert draw(None) == first
