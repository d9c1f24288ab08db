from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms, nms, soft_nms

SCORES = [0.1, 0.3, 0.5, 0.7, 0.9]
# Shares that whole-pixel boxes meet exactly, not all of them representable in binary.
THRESHOLDS = ["0.1", "0.2", "0.25", "0.3", "0.4", "0.5", "0.6", "0.7", "0.75", "0.8"]
METHODS = ("naive", "linear", "gaussian")


@st.composite
def whole_pixel_boxes(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Up to 12 crowded boxes, some of them without area."""
    corner, side = st.integers(-3, 6), st.integers(0, 9)
    boxes = draw(st.lists(st.tuples(corner, corner, side, side), max_size=12))
    return [(x, y, x + w, y + h) for x, y, w, h in boxes]


def exact_iou(a: tuple[int, ...], b: tuple[int, ...], offset: int) -> Fraction:
    """IoU in whole numbers; 0 where both boxes have no area."""

    def area(box: tuple[int, ...]) -> int:
        return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)

    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    overlap = max(width, 0) * max(height, 0)
    union = area(a) + area(b) - overlap
    return Fraction(overlap, union) if union else Fraction(0)


def plain_nms(boxes: list, scores: list[float], threshold: Fraction, offset: int) -> list[int]:
    """Greedy suppression, box by box."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(exact_iou(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0, 1])
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_nms_equals_exact_arithmetic(data: st.DataObject, offset: int, dtype: torch.dtype) -> None:
    boxes = data.draw(whole_pixel_boxes())
    scores = data.draw(st.lists(st.sampled_from(SCORES), min_size=len(boxes), max_size=len(boxes)))
    threshold = data.draw(st.sampled_from(THRESHOLDS))
    given_boxes = torch.tensor(boxes, dtype=dtype).reshape(-1, 4)
    before = given_boxes.clone()
    dets, kept = nms(given_boxes, torch.tensor(scores, dtype=dtype), float(threshold), offset)
    assert kept.tolist() == plain_nms(boxes, scores, Fraction(threshold), offset)
    assert torch.equal(given_boxes, before)
    assert torch.equal(dets[:, :4], given_boxes[kept])


def test_nms_offset_decides_between_two_boxes(device: str) -> None:
    # 10 x 10 px each, 5 px apart: IoU 50 / 150 with +1, 36 / 126 without.
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9]], device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert exact_iou((0, 0, 9, 9), (5, 0, 14, 9), 1) == Fraction(1, 3)
    assert len(nms(boxes, scores, 0.3, offset=1)[1]) == 1
    assert len(nms(boxes, scores, 0.3, offset=0)[1]) == 2


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_keeps_an_iou_equal_to_the_threshold(device: str, offset: int) -> None:
    # 10 px by 3 px of 10 px: the IoU is 0.3 or 0.7, which binary fractions miss on either side.
    for share in (3, 7):
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, share]], device=device)
        boxes[:, 2:] -= offset
        scores = torch.tensor([0.9, 0.8], device=device)
        assert len(nms(boxes, scores, share / 10, offset)[1]) == 2
        assert len(nms(boxes, scores, share / 10 - 1e-3, offset)[1]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nms_in_half_precision(device: str, dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0, 0, 8, 8], [1, 0, 9, 8], [20, 20, 30, 30]], dtype=dtype, device=device)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=dtype, device=device)
    dets, kept = nms(boxes, scores, 0.5)
    assert kept.tolist() == [1, 2]
    assert dets.dtype == dtype


def test_nms_takes_score_threshold_and_max_num() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4], [30, 0, 34, 4]])
    scores = torch.tensor([0.1, 0.6, 0.9, 0.7])
    assert nms(boxes, scores, 0.5, score_threshold=0.2)[1].tolist() == [2, 3, 1]
    assert nms(boxes, scores, 0.5, max_num=2)[1].tolist() == [2, 3]


def test_nms_of_numpy_and_of_nothing() -> None:
    dets, kept = nms(np.array([[0, 0, 4, 4]], np.float32), np.array([0.5], np.float32), 0.5)
    assert kept.tolist() == [0]
    np.testing.assert_allclose(dets, [[0, 0, 4, 4, 0.5]])
    for offset in (0, 1):
        assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5, offset)[1].shape == (0,)


def test_batched_nms_keeps_classes_apart() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1])
    cfg = {"type": "nms", "iou_threshold": 0.5, "offset": 1}
    assert batched_nms(boxes, scores, labels, cfg)[1].tolist() == [0, 2]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_equals_the_published_code(goldens: Path, threshold: float) -> None:
    with np.load(goldens / "legacy_ops.npz") as cases:
        dets, expected = torch.from_numpy(cases["nms_dets"]), cases[f"nms_keep_{threshold}"]
    _, kept = nms(dets[:, :4], dets[:, 4], threshold, offset=1)
    np.testing.assert_array_equal(kept.sort().values, expected)


def plain_soft_nms(
    boxes: list, scores: list[float], method: str, offset: int, threshold: float, minimum: float
) -> list[tuple[int, float]]:
    """Soft-NMS by the loop of mmcv, which drops a box by putting the last one in its place."""
    left, done = list(enumerate(scores)), []
    while left:
        best = max(range(len(left)), key=lambda i: left[i][1])
        left[0], left[best] = left[best], left[0]
        done.append(left.pop(0))
        position = 0
        while position < len(left):
            index, score = left[position]
            iou = float(exact_iou(boxes[done[-1][0]], boxes[index], offset))
            if method == "gaussian":
                score *= math.exp(-(iou**2) / 0.5)
            elif iou >= threshold:
                score *= 1 - iou if method == "linear" else 0
            if score >= minimum:
                left[position] = (index, score)
                position += 1
            elif position == len(left) - 1:
                left.pop()
            else:
                left[position] = left.pop()
    return done


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset", [0, 1])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_soft_nms_equals_a_plain_loop(data: st.DataObject, method: str, offset: int) -> None:
    boxes = data.draw(whole_pixel_boxes())
    scores = data.draw(st.lists(st.sampled_from(SCORES), min_size=len(boxes), max_size=len(boxes)))
    dets, kept = soft_nms(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float64),
        iou_threshold=0.3,
        min_score=0.15,
        method=method,
        offset=offset,
    )
    expected = plain_soft_nms(boxes, scores, method, offset, 0.3, 0.15)
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(dets[:, 4], [score for _, score in expected], rtol=1e-12)
    np.testing.assert_array_equal(dets[:, :4], np.reshape([boxes[i] for i in kept], (-1, 4)))


def test_soft_nms_by_hand(device: str) -> None:
    # IoU of the first two boxes 1/3, the third box is alone.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [40, 40, 50, 50]], device=device)
    scores = torch.tensor([0.9, 0.8, 0.6], device=device)
    dets, kept = soft_nms(boxes, scores, iou_threshold=0.3, method="linear")
    assert kept.tolist() == [0, 2, 1]
    assert dets.device == boxes.device
    torch.testing.assert_close(dets[:, 4].cpu(), torch.tensor([0.9, 0.6, 0.8 * 2 / 3]))
    dets, _ = soft_nms(boxes, scores, sigma=0.5, method="gaussian")
    expected = [0.9, 0.8 * math.exp(-1 / 9 / 0.5), 0.6]
    torch.testing.assert_close(dets[:, 4].cpu(), torch.tensor(expected))


def test_soft_nms_leaves_its_inputs_alone() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3]]), torch.tensor([0.3, 0.9])
    soft_nms(boxes, scores)
    assert boxes.tolist() == [[0, 0, 4, 4], [0, 0, 4, 3]]
    torch.testing.assert_close(scores, torch.tensor([0.3, 0.9]))
