"""What a detector found on a CT slice, what is there, and what it missed, as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.registry import HOOKS
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from numpy.typing import ArrayLike, NDArray

from deeplesion.canvas import Image, Item, draw_items, draw_masks, draw_recist, legend
from deeplesion.datasets.ct import read_slice, window_to_uint8
from deeplesion.evaluation.froc_metric import boxes_with_scores, check_meta_keys
from deeplesion.evaluation.matching import MISSED, match_detections
from deeplesion.evaluation.outcomes import Method, box_kinds
from deeplesion.pictures import save_image


def draw_overlay(
    hu_slice: ArrayLike,
    window: tuple[float, float],
    gt_boxes: ArrayLike,
    pred_boxes: ArrayLike,
    scores: ArrayLike,
    gt_recist: ArrayLike | None = None,
    masks: ArrayLike | None = None,
    caption: str = "",
    iou_threshold: float = 0.5,
    min_side: int = 768,
) -> Image:
    """Draw predictions and ground truth on a windowed slice, a legend below.

    Predicted boxes are drawn solid with their score, lesions dashed, in the colors of
    :data:`deeplesion.canvas.STYLES`. Hit, duplicate and false positive are those of the FROC
    protocol among the boxes given, so leave out those below a score of interest first.

    Args:
        hu_slice: ``(H, W)`` in HU.
        window: HU that become black and white.
        gt_boxes: ``(m, 4)`` x1, y1, x2, y2 of lesions in px.
        pred_boxes: ``(n, 4)`` likewise.
        scores: ``(n,)``.
        gt_recist: ``(m, 4, 2)`` x, y of the ends of long and short axis in px.
        masks: ``(n, H, W)`` bool, of the predictions.
        caption: Line of text below the legend.
        iou_threshold: Least IoU at which a box reaches a lesion.
        min_side: Slices whose longer side is less px are enlarged by a whole number.

    Returns:
        ``(s * H + legend, s * W, 3)`` RGB, s being the enlargement.

    Raises:
        ValueError: If the window is empty, or an array is of a wrong shape.
    """
    hu = np.asarray(hu_slice, np.float32)
    if hu.ndim != 2:
        raise ValueError(f"hu_slice must be (H, W), got {hu.shape}")
    gray = window_to_uint8(hu, window)
    lesions = np.asarray(gt_boxes, np.float64).reshape(-1, 4)
    detections = _detections(pred_boxes, scores)
    kinds, missed = _outcomes(detections, lesions, iou_threshold)
    scale = max(1, ceil(min_side / max(gray.shape)))
    size = (gray.shape[1] * scale, gray.shape[0] * scale)
    enlarged = cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC)
    picture = cv2.cvtColor(enlarged, cv2.COLOR_GRAY2RGB)
    if masks is not None:
        draw_masks(picture, _checked_masks(masks, len(detections), gray.shape), kinds)
    if gt_recist is not None:
        draw_recist(picture, np.asarray(gt_recist, np.float64).reshape(-1, 4, 2), scale)

    items = [
        Item(kind, box[:4], f"{box[4]:.2f}") for kind, box in zip(kinds, detections, strict=True)
    ]
    items = [items[index] for index in np.argsort(detections[:, 4], kind="stable")]
    for box, is_missed in zip(lesions, missed, strict=True):
        items.append(
            Item("lesion missed", box, "missed") if is_missed else Item("lesion found", box)
        )
    draw_items(picture, items, scale)
    return np.concatenate([picture, legend([item.kind for item in items], caption, size[0])])


class SampleHook(Hook):
    """Looks at each data sample that a detector gives, in testing or in validation.

    Attributes:
        mode: ``test`` or ``val``.
    """

    mode = "test"

    def look_at(self, runner: Any, sample: Any) -> None:
        """Do what is to be done with a data sample.

        Args:
            runner: The runner.
            sample: Of mmdetection, with predictions.
        """
        raise NotImplementedError

    def _after_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
        mode: str = "train",
    ) -> None:
        # Where mmengine's after_val_iter and after_test_iter lead to.
        for sample in (outputs or ()) if mode == self.mode else ():
            self.look_at(runner, sample)


@HOOKS.register_module()
class CTVisualizationHook(SampleHook):
    """Writes an overlay of each key slice in testing, see :func:`draw_overlay`.

    mmdetection's own hook reads images as 8 bit, which CT slices are not. Data samples must carry
    the meta keys ``img_path``, ``file_name``, ``instances`` and, unless ``window`` is given,
    ``window``. In a distributed run each process writes its share.

    Args:
        out_dir: Folder of the PNG files, named as the key slices.
        score_threshold: Boxes below it are left out.
        max_images: At most this many; None: all.
        window: HU that become black and white; None: the window of each sample.
        iou_threshold: Least IoU at which a box reaches a lesion.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str],
        score_threshold: float = 0.3,
        max_images: int | None = None,
        window: tuple[float, float] | None = None,
        iou_threshold: float = 0.5,
    ) -> None:
        self.out_dir = Path(out_dir)
        self.score_threshold = score_threshold
        self.max_images = max_images
        self.window = window
        self.iou_threshold = iou_threshold
        self._written = 0

    def before_test(self, runner: Any) -> None:
        """Start counting anew."""
        self._written = 0

    def look_at(self, runner: Any, sample: Any) -> None:
        """Write the overlay of a sample, while there are not enough."""
        if self.max_images is not None and self._written >= _share(self.max_images):
            return
        picture = self.draw(sample)
        name = Path(sample.metainfo["file_name"]).stem
        save_image(self.out_dir / f"{name}.png", picture)
        self._written += 1

    def draw(self, sample: Any) -> Image:
        """The overlay of one data sample of mmdetection.

        Raises:
            KeyError: If a meta key is missing; it says which line of the config to change.
        """
        meta = sample.metainfo
        keys = ["img_path", "file_name", "instances"]
        check_meta_keys(meta, keys if self.window else [*keys, "window"])
        low, high = self.window or meta["window"]
        predicted = sample.pred_instances
        boxes = boxes_with_scores({"bboxes": predicted.bboxes, "scores": predicted.scores})
        shown = boxes[:, 4] >= self.score_threshold
        lesions = meta["instances"]
        parts = [meta["file_name"], _interval_text(meta.get("slice_interval"))]
        return draw_overlay(
            read_slice(meta["img_path"]),
            (low, high),
            np.array([lesion["bbox"] for lesion in lesions]).reshape(-1, 4),
            boxes[shown, :4],
            boxes[shown, 4],
            gt_recist=[lesion["recist"] for lesion in lesions if "recist" in lesion],
            masks=np.asarray(predicted.masks.cpu())[shown] if "masks" in predicted else None,
            caption="   ".join([*parts, f"window {low:g} to {high:g} HU"]),
            iou_threshold=self.iou_threshold,
        )


def _interval_text(interval: float | None) -> str:
    return f"{interval:g} mm" if interval is not None and interval > 0 else "unknown interval"


def _share(total: int) -> int:
    """This process's part of a number of images."""
    rank, processes = get_dist_info()
    return total // processes + (rank < total % processes)


def _detections(boxes: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    corners, values = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64)
    if values.shape != (len(corners),):
        raise ValueError(f"scores must be ({len(corners)},), as pred_boxes, got {values.shape}")
    return np.column_stack([corners, values])


def _outcomes(
    detections: NDArray[np.float64], lesions: NDArray[np.float64], iou_threshold: float
) -> tuple[list[str], NDArray[np.bool_]]:
    """Kind of each detection, a key of STYLES, and whether each lesion is missed."""
    matches = match_detections([detections], [lesions], iou_threshold)
    (kinds,) = box_kinds(Method("", [detections], matches))
    return kinds, matches.first_hit == MISSED


def _checked_masks(masks: ArrayLike, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = np.asarray(masks, np.float32)
    if array.shape != (count, *shape):
        raise ValueError(f"masks must be {(count, *shape)}, as pred_boxes, got {array.shape}")
    return array
