"""What a config's test pipeline does to a key slice, done to one slice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from numpy.typing import NDArray

from deeplesion.datasets.ct import resample_positions, thickness_after
from deeplesion.engine.config import UsageError, datasets_of
from deeplesion.transforms.loading import LoadCTSlices

#: Steps that do the same to every slice of a stack, whatever the others are.
SLICEWISE_STEPS = ("WindowCT", "Resize", "ResizeCT", "PadCT")
PACKING_STEPS = ("PackDetInputs", "LoadLesionAnnotations", "LoadAnnotations")
#: Side in px of DeepLesion's slices (all but a few), from which the networks learn.
TRAINED_SIZE = 512
LOADERS = ("test_dataloader", "val_dataloader")


@dataclass(frozen=True, eq=False)
class PreparedSlice:
    """A slice as the network sees it.

    Attributes:
        image: ``(H', W')`` float32, windowed and resized.
        meta: ``img_shape``, ``ori_shape`` (h, w in px), ``scale_factor`` (w, h) and what else
            the steps left, as heads want them.
    """

    image: NDArray[np.float32]
    meta: dict[str, Any]

    def flipped(self, axes: Sequence[int]) -> PreparedSlice:
        """The same slice, its rows (0) or columns (1) reversed; itself where there is no axis."""
        if not axes:
            return self
        return PreparedSlice(np.ascontiguousarray(np.flip(self.image, axes)), self.meta)


class SlicePipeline:
    """The steps of a test pipeline, slice by slice.

    Args:
        steps: Configs of the pipeline: ``LoadCTSlices``, steps that act on each slice alone, and
            packing.

    Attributes:
        load: The built ``LoadCTSlices``, for its settings.

    Raises:
        UsageError: It does not begin with ``LoadCTSlices``, or a step is not known to act on each
            slice alone.
    """

    def __init__(self, steps: Sequence[dict[str, Any]]) -> None:
        first, *others = steps or [{"type": None}]
        if first["type"] != "LoadCTSlices":
            raise UsageError(
                f"the test pipeline must begin with LoadCTSlices, got {first['type']}: "
                "take a config of this project"
            )
        others = [step for step in others if step["type"] not in PACKING_STEPS]
        for step in others:
            if step["type"] not in SLICEWISE_STEPS:
                raise UsageError(
                    f"step {step['type']} of the test pipeline is not known to act on each slice "
                    f"alone: a whole scan can be prepared by {', '.join(SLICEWISE_STEPS)} only"
                )
        self.load: LoadCTSlices = TRANSFORMS.build(first)
        self.steps = [TRANSFORMS.build(step) for step in others]

    @classmethod
    def from_config(cls, cfg: Config) -> SlicePipeline:
        """The pipeline of a config's test dataloader, or of its validation dataloader.

        Args:
            cfg: A whole config.

        Raises:
            UsageError: There is none, or it is not one for whole scans.
        """
        return cls(pipeline_steps(cfg))

    def offsets(self, interval: float) -> NDArray[np.float64]:
        """Where to take the slices of a stack, see :func:`~.ct.resample_positions`.

        Args:
            interval: Distance of the scan's slices in mm.
        """
        load = self.load
        return resample_positions(
            load.num_slices, interval, load.slice_interval, load.interpolate, load.legacy
        )

    def thickness(self, interval: float) -> float:
        """Distance in mm of the slices that the network sees.

        Args:
            interval: Distance of the scan's slices in mm.
        """
        load = self.load
        return thickness_after(interval, load.slice_interval, load.interpolate, load.legacy)

    def prepare(self, hu: NDArray[np.float32]) -> PreparedSlice:
        """Window, resize and pad one slice.

        Args:
            hu: ``(H, W)`` in HU.
        """
        results: dict[str, Any] = {
            "img": hu,
            "img_shape": hu.shape,
            "ori_shape": hu.shape,
            "scale_factor": (1.0, 1.0),
        }
        for step in self.steps:
            results = step(results)
        image = results.pop("img")
        return PreparedSlice(image.reshape(image.shape[:2]), results)

    def box_shift(self, prepared: PreparedSlice) -> NDArray[np.float64]:
        """What is to be added to boxes that were divided by the scale factor.

        Resizing by s takes the center of pixel i to ``(i + 0.5) s - 0.5``, but boxes are multiplied
        by s alone. From slices that training resizes by t, a network thus learns to answer
        ``(t - 1) / 2`` px beside what it sees. Where a scan is resized by s = t both cancel out;
        elsewhere boxes come back ``(1 - t / s) / 2`` px too far right and down, 0.4 px in a slice
        of 100 px. Masks are pasted by the edges of pixels, which s alone scales rightly.

        Args:
            prepared: A slice of the scan.

        Returns:
            ``(4,)`` in px of the scan's slices, for x1, y1, x2, y2; 0 for slices as in training.
        """
        trained = self.prepare(np.zeros((TRAINED_SIZE, TRAINED_SIZE), np.float32))
        factors = (trained.meta["scale_factor"], prepared.meta["scale_factor"])
        at_training, here = (np.asarray(factor, np.float64) for factor in factors)
        return np.tile((at_training / here - 1) / 2, 2)


def pipeline_steps(cfg: Config) -> list[dict[str, Any]]:
    """Configs of the steps of a test pipeline.

    Args:
        cfg: A whole config.

    Raises:
        UsageError: There is no pipeline in it.
    """
    for loader in LOADERS:
        for name, dataset in datasets_of(cfg):
            if name == loader and dataset.get("pipeline"):
                return list(dataset["pipeline"])
    raise UsageError(
        f"the config has no pipeline in {' or '.join(LOADERS)}: take a whole config, as "
        "tools/test.py takes it"
    )
