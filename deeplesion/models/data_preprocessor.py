"""From a list of samples to one batch of slice stacks."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

from deeplesion.models.inputs import CTInputs

THICKNESS_REMEDY = (
    "load it with LoadCTSlices and add 'thickness' to meta_keys of PackDetInputs, e.g. "
    "dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', "
    "'scale_factor', 'thickness'))"
)


@MODELS.register_module()
class CTDataPreprocessor(DetDataPreprocessor):
    """Pad and stack ``(D, H, W)`` samples and attach their thickness.

    Everything else (batch augmentations, padding of masks, moving to the device) is
    :class:`mmdet.models.DetDataPreprocessor`'s; the window is applied in the pipeline
    (``WindowCT``).

    Args:
        told_thickness: Tell the network this thickness in mm for every sample, whatever the data
            say. ``None`` (default) tells the truth; a number makes a thickness-blind network for
            ablations.
        pad_size_divisor: Height and width are padded to a multiple of this, in px.
        pad_value: Value of the padding; the default is air after ``WindowCT``.
        **kwargs: Passed on to ``DetDataPreprocessor``.
    """

    def __init__(
        self,
        told_thickness: float | None = None,
        pad_size_divisor: int = 32,
        pad_value: float = -50.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_size_divisor=pad_size_divisor, pad_value=pad_value, **kwargs)
        if told_thickness is not None and not told_thickness > 0:
            raise ValueError(f"told_thickness must be > 0 mm or None, got {told_thickness}")
        self.told_thickness = told_thickness

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make the batch.

        Args:
            data: ``inputs``, a list of ``(D, H, W)`` tensors or one ``(N, D, H, W)`` tensor, and
                ``data_samples`` whose metainfo holds ``thickness`` in mm.
            training: Whether batch augmentations and padding of masks apply.

        Returns:
            ``inputs``, a :class:`CTInputs`, and ``data_samples``.

        Raises:
            ValueError: A sample has no thickness, or in training a negative one, or the stacks
                differ in their number of slices.
        """
        check_same_depth(data["inputs"])
        data = super().forward(data, training)
        slices = data["inputs"]
        thickness = self._thickness(data["data_samples"], len(slices))
        if training:
            check_not_negative(thickness, data["data_samples"])
        volume = slices.unsqueeze(1)
        return {
            "inputs": CTInputs(volume, thickness.to(volume.device)),
            "data_samples": data["data_samples"],
        }

    def _thickness(self, data_samples: list | None, batch_size: int) -> torch.Tensor:
        """``(N,)`` float32 in mm."""
        if self.told_thickness is not None:
            return torch.full((batch_size,), float(self.told_thickness))
        if data_samples is None:
            raise ValueError(f"data_samples is None, so thickness is unknown: {THICKNESS_REMEDY}")
        for index, sample in enumerate(data_samples):
            if sample.metainfo.get("thickness") is None:
                name = sample_name(sample, index)
                raise ValueError(f"sample {name} has no thickness: {THICKNESS_REMEDY}")
        return torch.tensor([float(s.metainfo["thickness"]) for s in data_samples])


def sample_name(sample: DetDataSample, index: int) -> str:
    """What to call a sample in a message: its file, or else its place in the batch."""
    return sample.metainfo.get("img_path", f"number {index} of the batch")


def check_not_negative(thickness: torch.Tensor, data_samples: list) -> None:
    """Refuse to learn from a thickness that cannot be: it would pass for an unknown one.

    Args:
        thickness: ``(N,)`` in mm; NaN and 0 are unknown.
        data_samples: The samples, for the message.

    Raises:
        ValueError: One is negative.
    """
    negative = (thickness < 0).nonzero().flatten().tolist()
    if negative:
        index = negative[0]
        raise ValueError(
            f"thickness must be > 0 mm, or NaN where it is unknown, got {thickness[index]:g} mm in "
            f"sample {sample_name(data_samples[index], index)}: correct its row of DL_info.csv"
        )


def check_same_depth(inputs: list[torch.Tensor] | torch.Tensor) -> None:
    """Refuse to stack samples of different numbers of slices.

    Args:
        inputs: Tensors ``(D, H, W)``.

    Raises:
        ValueError: The numbers of slices differ.
    """
    depths = sorted({len(item) for item in inputs})
    if len(depths) > 1:
        raise ValueError(
            f"all samples of a batch must have the same number of slices, got {depths}: "
            "set the same num_slices in every LoadCTSlices"
        )
