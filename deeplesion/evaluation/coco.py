"""Average precision (AP) as COCO defines it, by pycocotools, on the arrays that FROC takes.

A box is given to pycocotools as ``x1, y1, x2 - x1 + 1, y2 - y1 + 1``, so that an IoU is the same as
in FROC and a lesion one pixel wide has an area. Tools that write ``x2 - x1`` get IoUs that differ a
little, the more the smaller the lesion.

T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deeplesion.evaluation.matching import Ints, flatten_pair
from deeplesion.evaluation.overlaps import PIXEL, Floats

#: Boxes of an image that COCO counts, those of highest score.
MAX_DETECTIONS = 100
_LESION = 1
_EVERY_SIZE = (0.0, float("inf"))


def coco_ap(
    detections: Sequence[ArrayLike],
    ground_truths: Sequence[ArrayLike],
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, float]:
    """AP over the IoUs 0.5, 0.55, ... 0.95, and AP50 at 0.5 alone.

    Nothing is printed. Boxes of equal score count in the order given.

    Args:
        detections: For each image ``(n, 5)``: x1, y1, x2, y2 in px and score. May be empty.
        ground_truths: For each image ``(m, 4)``: x1, y1, x2, y2 of its lesions. May be empty.
        max_detections: Boxes of an image that count, those of highest score.

    Returns:
        ``AP`` and ``AP50`` in [0, 1]; NaN where there are no lesions.

    Raises:
        ValueError: As :func:`deeplesion.evaluation.matching.match_detections`.

    Example:
        >>> found = coco_ap([[[0, 0, 9, 6, 0.9]]], [[[0, 0, 9, 9]]])
        >>> round(found["AP"], 6), round(found["AP50"], 6)
        (0.5, 1.0)
    """
    boxes, box_counts, lesions, lesion_counts = flatten_pair(detections, ground_truths, axes=2)
    if not len(lesions):
        return {"AP": float("nan"), "AP50": float("nan")}
    # pycocotools tells its progress on the standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _as_coco(lesions, lesion_counts)
        evaluation = COCOeval(truth, _as_coco(boxes, box_counts), "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(_EVERY_SIZE)], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoUs, recalls, categories, sizes, numbers of boxes), of which the last three are one each.
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    return {"AP": float(precision.mean()), "AP50": float(precision[0].mean())}


def _as_coco(rows: Floats, counts: Ints) -> COCO:
    """Boxes, with a score or without, as pycocotools has them in memory."""
    sides = np.maximum(rows[:, 2:4] - rows[:, :2] + PIXEL, 0)
    bboxes = np.concatenate([rows[:, :2], sides], axis=1).tolist()
    areas, scores = sides.prod(axis=1).tolist(), rows[:, 4:].ravel().tolist() or [0.0] * len(rows)
    images = np.repeat(np.arange(len(counts)), counts).tolist()
    columns = zip(images, bboxes, areas, scores, strict=True)
    # 0 would mean "no match" to pycocotools.
    annotations: list[dict[str, Any]] = [
        {
            "id": number,
            "image_id": image,
            "category_id": _LESION,
            "bbox": bbox,
            "area": area,
            "score": score,
            "iscrowd": 0,
        }
        for number, (image, bbox, area, score) in enumerate(columns, start=1)
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(counts))],
        "categories": [{"id": _LESION, "name": "lesion"}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
