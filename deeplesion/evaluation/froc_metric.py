"""FROC as a metric of mmdetection."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmdet.registry import METRICS
from mmdet.structures.mask import encode_mask_results
from mmengine.dist import broadcast_object_list, gather_object, is_distributed
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from deeplesion.evaluation.coco import coco_ap
from deeplesion.evaluation.froc import REPORT_FPS
from deeplesion.evaluation.overlaps import check_criterion, describe_rule
from deeplesion.evaluation.plots import plot_froc
from deeplesion.evaluation.report import (
    FROCReport,
    ScoredImage,
    build_report,
    flat_metrics,
    format_table,
    report_as_json,
)
from deeplesion.io import write_json

META_KEYS = ("img_id", "file_name", "slice_interval", "instances")


@METRICS.register_module()
class FROCMetric(BaseMetric):
    """Free-response ROC, by the official protocol (:mod:`deeplesion.evaluation.froc`) or another.

    Data samples must carry the meta keys ``img_id``, ``file_name``, ``slice_interval`` and
    ``instances`` (the lesions, in px of the original image as predictions are). Prints a table and
    gives, after the prefix ``froc``, ``sens@0.5`` ... ``sens@16``, ``mean`` (over 0.5, 1, 2 and 4
    false positives per image) and, where there are such images, ``thin_mean`` (slice interval
    <= 2 mm), ``thick_mean`` (5 mm) and ``other_mean``, each scored as a set of its own. Without
    lesions they are NaN.

    An image that came twice, for the sampler of a distributed run fills up its last batch, is
    counted once. Files are written by the main process, which the others send their results; no
    folder that all nodes see is needed for that, unless ``collect_dir`` names one.

    Args:
        iou_threshold: Least IoU at which a box reaches a lesion.
        fps: False positives per image at which sensitivities are given.
        criterion, threshold, one_to_one: Another protocol than the official one, see
            :func:`deeplesion.evaluation.matching.match_detections`.
        coco_ap: Whether to give COCO's ``AP`` and ``AP50`` too, see
            :mod:`deeplesion.evaluation.coco`.
        predictions_file: JSON of all boxes: ``{"meta": {...}, "images": [{"img_id", "file_name",
            "bboxes": [[x1, y1, x2, y2, score], ...]}, ...]}``. None: not written.
        save_masks: Whether that file gets the masks too, as COCO's RLE: ``"masks"`` of an image.
        froc_file: JSON of the figures, strata and curves, see
            :func:`deeplesion.evaluation.report.report_as_json`. None: not written.
        plot_file: PNG of the curves. None: not drawn.
        provenance: Whatever tells later what was evaluated (config, checkpoint, split); recorded
            in both JSON files.
        **kwargs: Those of ``BaseMetric``: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: If the criterion is unknown or the threshold not in (0, 1].
    """

    default_prefix = "froc"

    def __init__(
        self,
        iou_threshold: float = 0.5,
        fps: Sequence[float] = REPORT_FPS,
        predictions_file: str | os.PathLike[str] | None = None,
        save_masks: bool = False,
        froc_file: str | os.PathLike[str] | None = None,
        plot_file: str | os.PathLike[str] | None = None,
        provenance: dict[str, Any] | None = None,
        criterion: str = "iou",
        threshold: float | None = None,
        one_to_one: bool = False,
        coco_ap: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._group: Any = None
        self.criterion = criterion
        self.threshold = iou_threshold if threshold is None else threshold
        check_criterion(criterion, self.threshold)
        self.one_to_one = one_to_one
        self.coco_ap = coco_ap
        self.fps = tuple(float(value) for value in fps)
        self.predictions_file = predictions_file
        self.save_masks = save_masks
        self.froc_file = froc_file
        self.plot_file = plot_file
        self.provenance = dict(provenance or {})

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what scoring needs of a batch.

        Args:
            data_batch: Not used.
            data_samples: Of the model, as dicts.

        Raises:
            KeyError: If a meta key is missing; it says which line of the config to change.
            ValueError: If a box or score is not finite, or masks are to be saved and there are
                none.
        """
        for sample in data_samples:
            check_meta_keys(sample)
            result = {key: sample[key] for key in META_KEYS}
            result["bboxes"] = boxes_with_scores(sample["pred_instances"])
            _check_finite(result["bboxes"], sample["file_name"])
            if self.save_masks and self.predictions_file is not None:
                result["masks"] = _encoded_masks(sample["pred_instances"])
            self.results.append(result)

    def evaluate(self, size: int) -> dict[str, float]:
        """Score what all processes have found; each must call this.

        mmengine's way leads over files in a folder of the working directory, which it leaves there.

        Args:
            size: Number of images of the data set; here what came twice is known by its name.

        Returns:
            Figures by name, the same in all processes.
        """
        if self.collect_dir is not None or self.collect_device != "cpu" or not is_distributed():
            return super().evaluate(size)
        group = self._gloo_group()
        parts = gather_object(self.results, group=group)
        metrics: list[dict[str, float] | None] = [None]
        if parts is not None:
            figures = self.compute_metrics([result for part in parts for result in part])
            metrics = [{f"{self.prefix}/{name}": value for name, value in figures.items()}]
        broadcast_object_list(metrics, group=group)
        self.results.clear()
        return metrics[0] or {}

    def _gloo_group(self) -> Any:
        """Processes that exchange objects from main memory, whatever their gradients go by."""
        if dist.get_backend() == "gloo":
            return None  # the default one
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        return self._group

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Score, print the table and write the files.

        Args:
            results: Of all processes.

        Returns:
            Figures by name, without the prefix.
        """
        unique = {(result["img_id"], result["file_name"]): result for result in reversed(results)}
        # Boxes of equal score count in the order of images, which processes must not change.
        results = sorted(unique.values(), key=lambda r: (r["file_name"], str(r["img_id"])))
        images = [_scored(r) for r in results]
        report = build_report(images, fps=self.fps, **self._protocol())
        precision = self._average_precision(images)
        title = f"FROC: sensitivity at {describe_rule(**self._protocol())}"
        lines = [title, format_table(report), *(f"{k}: {v:.3f}" for k, v in precision.items())]
        print_log("\n".join(lines), logger="current")
        self._write_files(report, results, precision)
        return {**flat_metrics(report), **precision}

    def _protocol(self) -> dict[str, Any]:
        return {
            "criterion": self.criterion,
            "threshold": self.threshold,
            "one_to_one": self.one_to_one,
        }

    def _average_precision(self, images: Sequence[ScoredImage]) -> dict[str, float]:
        if not self.coco_ap:
            return {}
        return coco_ap([i.detections for i in images], [i.lesions for i in images])

    def _write_files(
        self, report: FROCReport, results: list[dict[str, Any]], precision: dict[str, float]
    ) -> None:
        if self.predictions_file is not None:
            keys = ("img_id", "file_name", "bboxes", "masks")
            images = [{key: r[key] for key in keys if key in r} for r in results]
            meta = {
                **self.provenance,
                "classes": list((self.dataset_meta or {}).get("classes", ("lesion",))),
                "bboxes": "x1, y1, x2, y2 in px of the original image, score",
            }
            write_json(self.predictions_file, {"meta": meta, "images": images})
        if self.froc_file is not None:
            settings = {**self.provenance, **self._protocol(), "fps": self.fps}
            if self.criterion == "iou":
                settings["iou_threshold"] = self.threshold
            content = report_as_json(report, settings, precision)
            write_json(self.froc_file, content, indent=1)
        if self.plot_file is not None:
            plot_froc(report.curves, self.plot_file)


def check_meta_keys(sample: dict, keys: Sequence[str] = META_KEYS) -> None:
    """Raise KeyError, naming the line of the config to change, if a meta key is missing."""
    missing = [key for key in keys if key not in sample]
    if missing:
        raise KeyError(
            f"data samples lack {', '.join(missing)}: add to PackDetInputs in the config's "
            f"test_pipeline meta_keys=(..., {', '.join(map(repr, missing))})"
        )


def boxes_with_scores(predicted: dict[str, Any]) -> np.ndarray:
    """Boxes and scores of predicted instances.

    Args:
        predicted: ``bboxes`` ``(n, 4)`` and ``scores`` ``(n,)``, of any floating type.

    Returns:
        ``(n, 5)`` float64: x1, y1, x2, y2 in px and score.
    """
    bboxes = predicted["bboxes"]
    tensor = bboxes if isinstance(bboxes, Tensor) else bboxes.tensor
    corners = tensor.detach().cpu().double().reshape(-1, 4)
    # Decoders of the old convention, and bf16, turn boxes narrower than a pixel inside out.
    corners = torch.cat([corners[:, :2], corners[:, 2:].maximum(corners[:, :2])], dim=1)
    scores = predicted["scores"].detach().cpu().double().reshape(-1, 1)
    return torch.cat([corners, scores], dim=1).numpy()


def _check_finite(boxes: np.ndarray, file_name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if bad.size:
        raise ValueError(
            f"predicted boxes and scores must be finite, got {boxes[bad[0]].tolist()} "
            f"(x1, y1, x2, y2, score) for {file_name}: has the training diverged?"
        )


def _encoded_masks(predicted: dict[str, Any]) -> list[dict[str, Any]]:
    if "masks" not in predicted:
        raise ValueError("save_masks=True needs a detector that predicts masks, this one does not")
    masks = predicted["masks"]
    encoded = encode_mask_results(
        masks.detach().cpu().numpy() if isinstance(masks, Tensor) else masks
    )
    return [{"size": m["size"], "counts": m["counts"].decode("ascii")} for m in encoded]


def _scored(result: dict[str, Any]) -> ScoredImage:
    lesions = result["instances"]
    interval = result["slice_interval"]
    return ScoredImage(
        detections=result["bboxes"],
        lesions=np.array([lesion["bbox"] for lesion in lesions], np.float64).reshape(-1, 4),
        slice_interval=math.nan if interval is None else float(interval),
        long_axes=[float(lesion.get("diameters_mm", (math.nan,))[0]) for lesion in lesions],
        coarse_types=[int(lesion.get("coarse_type", -1)) for lesion in lesions],
    )
