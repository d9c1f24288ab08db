"""Selection of detections and their masks as in mmdetection 1.x."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.modules.utils import _pair

from deeplesion.models.joint_losses import JointFCNMaskHead, JointShared2FCBBoxHead
from deeplesion.models.legacy.masks import crop_mask_targets, paste_masks
from deeplesion.models.legacy.nms import iou_threshold_of, multiclass_nms


@MODELS.register_module()
class V1StandardRoIHead(StandardRoIHead):
    """RoI head that suppresses boxes in px of the image that it answers in.

    mmdetection 3.x with a mask head suppresses them in the resized image, where the +1 pixel has
    another size. The settings are those of :class:`mmdet.models.StandardRoIHead`.
    """

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample],
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Detections of a batch.

        Args:
            x: Maps ``(N, C, H, W)`` of each level.
            rpn_results_list: Proposals of each image.
            batch_data_samples: Their meta information.
            rescale: Answer in px of the original image, not of the resized one.

        Returns:
            Boxes in px, scores, labels and masks of each image.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        results = self.predict_bbox(x, metas, rpn_results_list, self.test_cfg, rescale=rescale)
        if not self.with_mask:
            return results
        boxes = [result.bboxes for result in results]
        if rescale:
            for result, meta in zip(results, metas, strict=True):
                result.bboxes = scale_boxes(result.bboxes.clone(), meta["scale_factor"])
        results = self.predict_mask(x, metas, results, rescale=rescale)
        for result, answered in zip(results, boxes, strict=True):
            result.bboxes = answered
        return results


@MODELS.register_module()
class V1Shared2FCBBoxHead(JointShared2FCBBoxHead):
    """Box head that chooses its detections by :func:`~.nms.multiclass_nms`.

    The settings are those of :class:`mmdet.models.Shared2FCBBoxHead`.
    """

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict,
        rescale: bool = False,
        rcnn_test_cfg: ConfigDict | None = None,
    ) -> InstanceData:
        """Detections of one image from its ``(n, 5)`` RoIs."""
        if rcnn_test_cfg is None or len(roi) == 0:
            return super()._predict_by_feat_single(
                roi, cls_score, bbox_pred, img_meta, rescale, rcnn_test_cfg
            )
        # Without settings it gives all boxes and the scores of all classes.
        every = super()._predict_by_feat_single(roi, cls_score, bbox_pred, img_meta, rescale, None)
        dets, labels = multiclass_nms(
            every.bboxes,
            every.scores,
            rcnn_test_cfg.score_thr,
            iou_threshold_of(rcnn_test_cfg.nms),
            rcnn_test_cfg.max_per_img,
        )
        return InstanceData(bboxes=dets[:, :4], scores=dets[:, 4], labels=labels)


@MODELS.register_module()
class V1FCNMaskHead(JointFCNMaskHead):
    """Mask head whose targets and results are cut and pasted in whole pixels.

    Targets have soft edges under ``soft_mask_target=True`` in the training settings of the RoI
    head, as the published detectors had. The other settings are those of
    :class:`mmdet.models.FCNMaskHead`.
    """

    def get_targets(
        self,
        sampling_results: list[SamplingResult],
        batch_gt_instances: list[InstanceData],
        rcnn_train_cfg: ConfigDict,
    ) -> Tensor:
        """Mask targets of the positive RoIs of a batch, ``(n, h, w)`` in 0..1.

        Args:
            sampling_results: Positive RoIs of each image and the lesions they were given to.
            batch_gt_instances: Lesions of each image, with ``masks``.
            rcnn_train_cfg: Its ``mask_size`` is h and w.
        """
        dtype = np.float32 if rcnn_train_cfg.get("soft_mask_target", False) else np.uint8
        size = _pair(rcnn_train_cfg.mask_size)
        device = sampling_results[0].pos_priors.device
        targets = [
            crop_mask_targets(
                lesions.masks.to_ndarray().astype(dtype)[
                    sampled.pos_assigned_gt_inds.cpu().numpy()
                ],
                sampled.pos_priors.float().cpu().numpy(),
                size,
            )
            for sampled, lesions in zip(sampling_results, batch_gt_instances, strict=True)
        ]
        return torch.from_numpy(np.concatenate(targets)).to(device)

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Tensor:
        """Masks ``(n, H, W)`` of one image; boxes are in px of the resized image."""
        shape = img_meta["ori_shape"][:2]
        across, down = img_meta["scale_factor"]
        if rescale:
            bboxes = bboxes / bboxes.new_tensor([across, down, across, down])
        else:
            shape = tuple(np.round([shape[0] * down, shape[1] * across]).astype(int))
        preds = mask_preds if activate_map else mask_preds.sigmoid()
        chosen = preds[:, 0] if self.class_agnostic else preds[range(len(preds)), labels]
        masks = paste_masks(
            chosen.float().cpu().numpy(),
            bboxes.float().cpu().numpy(),
            shape,
            rcnn_test_cfg.mask_thr_binary,
        )
        return torch.from_numpy(masks).to(bboxes.device)
