"""Random samples of anchors and RoIs that follow from the image, wherever it is trained on."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

# Meta information of the lesions of an image, set by the transform SeedSampling.
SEED_KEY = "sampling_seed"


@TASK_UTILS.register_module()
class SeededRandomSampler(RandomSampler):
    """Random sampler that draws by the seed of the image, not by that of the process.

    Which anchors and RoIs of an image are learned from then does not depend on which images come
    before it, and so on how many processes there are. The seed comes with the image, by the
    transform ``SeedSampling``; without one the draws are those of mmdetection's ``RandomSampler``,
    whose settings this one has.
    """

    _generator: torch.Generator | None = None

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        **kwargs: Any,
    ) -> SamplingResult:
        """Draw positive and negative boxes of an image.

        Args:
            assign_result: Which lesion each box is assigned to.
            pred_instances: Anchors or RoIs, ``priors``.
            gt_instances: Lesions, with the seed of the image as meta information.
            **kwargs: See :class:`mmdet.models.task_modules.RandomSampler`.
        """
        seed = gt_instances.get(SEED_KEY)
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        return super().sample(assign_result, pred_instances, gt_instances, **kwargs)

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        """Draw some of several indices.

        Args:
            gallery: ``(n,)`` indices.
            num: How many of them.

        Returns:
            ``(num,)``.
        """
        order = torch.randperm(len(gallery), generator=self._generator)[:num]
        return gallery[order.to(gallery.device)]
