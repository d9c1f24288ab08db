"""Matching of predictions to lesions for detectors with transformers."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, HungarianAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData


@TASK_UTILS.register_module()
class FiniteHungarianAssigner(HungarianAssigner):
    """mmdetection's ``HungarianAssigner`` for predictions that may not be finite.

    SciPy refuses to match by costs that are NaN, and the process ends, with the others waiting for
    it. Here such predictions are matched as if they were 0. They make a loss that is not finite,
    and the step is skipped. Arguments are :class:`mmdet.models.task_modules.HungarianAssigner`'s.
    """

    def assign(self, pred_instances: InstanceData, *args: Any, **kwargs: Any) -> AssignResult:
        """Match predictions to ground truth one to one.

        Args:
            pred_instances: ``bboxes`` ``(n, 4)`` and ``scores`` ``(n, classes)``.
            *args: See :meth:`mmdet.models.task_modules.HungarianAssigner.assign`.
            **kwargs: See :meth:`mmdet.models.task_modules.HungarianAssigner.assign`.
        """
        finite = InstanceData(metainfo=pred_instances.metainfo)
        for name, value in pred_instances.items():
            is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
            # Infinite ones, too: their differences are NaN.
            finite[name] = torch.nan_to_num(value, 0.0, 0.0, 0.0) if is_float else value
        return super().assign(finite, *args, **kwargs)
