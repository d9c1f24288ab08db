"""The truncated DenseNet-121 under the names that the papers' code gave its variants."""

from __future__ import annotations

from typing import Any

from .densenet import TruncatedDenseNet3d

__all__ = ["DenseNetCustomTrunc3dA3D", "DenseNetCustomTrunc3dAlign", "DenseNetCustomTrunc3dTSM"]

RGB_CHANNELS = 3


class DenseNetCustomTrunc3dAlign(TruncatedDenseNet3d):
    """Truncated DenseNet with AlignShift (arXiv 2005.01969).

    >>> net = DenseNetCustomTrunc3dAlign(num_classes=3)
    >>> logits = net(volume, thickness)  # (N, 3, D, H, W) and (N, 1) in mm -> (N, 3, D, H, W)

    Args:
        num_classes: Number of classes of the dense logits; ``None`` for the feature maps.
        in_channels: Channels of the input.
        n_fold: One n-th of the channels comes from either neighboring slice.
        ref_thickness: Thickness in mm up to which channels are shifted by a whole slice.
        shift_padding_zero: Zeros beyond the open ends instead of the edge slice repeated.
        inplace: Shift again in backward instead of keeping the shifted copy: less memory, the
            same result, some percent more time.
        **kwargs: See `TruncatedDenseNet3d`.

    Raises:
        ValueError: If ``num_classes``, ``n_fold`` or ``ref_thickness`` is out of range.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        in_channels: int = RGB_CHANNELS,
        n_fold: int = 8,
        ref_thickness: float = 2.0,
        shift_padding_zero: bool = False,
        inplace: bool = True,
        **kwargs: Any,
    ) -> None:
        settings = {
            "n_fold": n_fold,
            "inplace": inplace,
            "ref_thickness": ref_thickness,
            "shift_padding_zero": shift_padding_zero,
        }
        super().__init__("AlignShiftConv", settings, in_channels, num_classes=num_classes, **kwargs)


class DenseNetCustomTrunc3dTSM(TruncatedDenseNet3d):
    """Truncated DenseNet with the temporal shift module (arXiv 1811.08383).

    Args:
        num_classes: Number of classes of the dense logits; ``None`` for the feature maps.
        in_channels: Channels of the input.
        n_fold: One n-th of the channels comes from either neighboring slice.
        inplace: As in `DenseNetCustomTrunc3dAlign`.
        **kwargs: See `TruncatedDenseNet3d`.

    Raises:
        ValueError: If ``num_classes`` or ``n_fold`` is out of range.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        in_channels: int = RGB_CHANNELS,
        n_fold: int = 8,
        inplace: bool = True,
        **kwargs: Any,
    ) -> None:
        settings = {"n_fold": n_fold, "inplace": inplace}
        super().__init__("TSMConv", settings, in_channels, num_classes=num_classes, **kwargs)


class DenseNetCustomTrunc3dA3D(TruncatedDenseNet3d):
    """Truncated DenseNet with asymmetric 3D context fusion (arXiv 2109.08684).

    Args:
        num_classes: Number of classes of the dense logits; ``None`` for the feature maps.
        in_channels: Channels of the input.
        num_slices: Slices of a stack, D; the fusion weights are made for this number.
        **kwargs: See `TruncatedDenseNet3d`.

    Raises:
        ValueError: If ``num_classes`` or ``num_slices`` is out of range.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        in_channels: int = RGB_CHANNELS,
        num_slices: int = 7,
        **kwargs: Any,
    ) -> None:
        settings = {"dimension": num_slices}
        super().__init__("A3DConv", settings, in_channels, num_classes=num_classes, **kwargs)
