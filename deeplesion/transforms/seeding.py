"""The seed of what is drawn of an image after it has been loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

SEED_LIMIT = 2**31


@TRANSFORMS.register_module()
class SeedSampling(BaseTransform):
    """Give an image the seed by which ``SeededRandomSampler`` draws anchors and RoIs.

    The last step of a training pipeline, behind ``PackDetInputs``: the seed is drawn from NumPy's
    generator, as flips and shifts are, and lies with the lesions, all that a sampler gets to see.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set the seed.

        Args:
            results: What ``PackDetInputs`` made.

        Raises:
            ValueError: The image has not been packed.
        """
        if "data_samples" not in results:
            raise ValueError("SeedSampling must come behind PackDetInputs in the train_pipeline")
        seed = int(np.random.randint(SEED_LIMIT))
        results["data_samples"].gt_instances.set_metainfo({"sampling_seed": seed})
        return results

    def __repr__(self) -> str:
        """Its name: it has no settings."""
        return f"{type(self).__name__}()"
