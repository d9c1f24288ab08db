"""The truncated DenseNet as registered mmdetection backbones."""

from __future__ import annotations

import copy
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from alignshift import models as native
from deeplesion.models.inputs import CTInputs, StemInputs, check_num_slices
from deeplesion.models.pretrained import is_pretrained, load_pretrained


@MODELS.register_module()
class DenseNetTrunc3d(native.TruncatedDenseNet3d, BaseModule):
    """Truncated DenseNet over a stack of slices, with any operator.

    Parameters keep the names of torchvision's ``densenet121().features``. With
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` 2D weights are loaded (a local file, a URL
    or ``torchvision://densenet121``) and what was not loaded is logged.

    Args:
        norm_eval: Keep batch norms in evaluation mode while training.
        init_cfg: One initialization, as in every mmdetection backbone.
        in_channels: Channels of the input, one for CT.
        **kwargs: See :class:`alignshift.models.TruncatedDenseNet3d`; there is no ``num_classes``.

    Attributes:
        slicewise_stem: Whether the stem works on each slice alone, so that it can be computed once
            for each slice of a scan, see :class:`deeplesion.models.inputs.StemInputs`.

    Raises:
        TypeError: ``init_cfg`` is a list of initializations, or ``num_classes`` is given.
    """

    slicewise_stem = True

    def __init__(
        self,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
        in_channels: int = 1,
        **kwargs: Any,
    ) -> None:
        if not isinstance(init_cfg, dict | None):
            raise TypeError(
                f"init_cfg of {type(self).__name__} must be one dict or None, "
                f"got a {type(init_cfg).__name__}"
            )
        if kwargs.get("num_classes") is not None:
            raise TypeError(
                f"{type(self).__name__} is a backbone and must not have num_classes, got "
                f"{kwargs['num_classes']}: give it to the heads of the detector"
            )
        super().__init__(in_channels=in_channels, **kwargs)
        self.norm_eval = norm_eval
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        """Load pretrained 2D weights if ``init_cfg`` names some."""
        if self.init_cfg is None or not is_pretrained(self.init_cfg):
            super().init_weights()
            return
        load_pretrained(self, self.init_cfg)
        self._is_init = True

    def train(self, mode: bool = True) -> DenseNetTrunc3d:
        """Set the mode; batch norms stay in evaluation mode under ``norm_eval``."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(  # type: ignore[override]
        self, inputs: CTInputs | StemInputs
    ) -> tuple[Tensor, ...]:
        """Maps of a batch.

        Args:
            inputs: Volume ``(N, 1, D, H, W)`` and thickness ``(N,)`` in mm; or, in place of the
                volume, what ``forward_stem`` made of it.

        Returns:
            Maps ``(N, C, D, H / s, W / s)`` at strides s = 4, 8, 16.
        """
        if isinstance(inputs, StemInputs):
            return tuple(self.forward_blocks(inputs.stem, inputs.thickness))
        return tuple(self.forward_features(inputs.volume, inputs.thickness))


@MODELS.register_module()
class DenseNetCustomTrunc3dAlign(DenseNetTrunc3d, native.DenseNetCustomTrunc3dAlign):
    """Truncated DenseNet with AlignShift (arXiv 2005.01969).

    Takes the arguments of :class:`DenseNetTrunc3d`, and ``n_fold``, ``ref_thickness``,
    ``shift_padding_zero`` and ``inplace`` of
    :class:`alignshift.models.DenseNetCustomTrunc3dAlign`.
    """


@MODELS.register_module()
class DenseNetCustomTrunc3dTSM(DenseNetTrunc3d, native.DenseNetCustomTrunc3dTSM):
    """Truncated DenseNet with the temporal shift module (arXiv 1811.08383).

    Takes the arguments of :class:`DenseNetTrunc3d`, and ``n_fold`` and ``inplace`` of
    :class:`alignshift.models.DenseNetCustomTrunc3dTSM`.
    """


@MODELS.register_module()
class DenseNetCustomTrunc3dA3D(DenseNetTrunc3d, native.DenseNetCustomTrunc3dA3D):
    """Truncated DenseNet with asymmetric 3D context fusion (arXiv 2109.08684).

    Args:
        num_slices: Slices of a stack, D; the fusion weights are made for this number.
        **kwargs: See :class:`DenseNetTrunc3d`.
    """

    def __init__(self, num_slices: int = 3, **kwargs: Any) -> None:
        super().__init__(num_slices=num_slices, **kwargs)


@MODELS.register_module()
class DenseNetCustomTrunc(DenseNetTrunc3d):
    """Truncated 2D DenseNet that takes the slices as input channels (2.5D).

    Args:
        num_slices: Slices of a stack, the channels of the first convolution.
        **kwargs: See :class:`DenseNetTrunc3d`.
    """

    slicewise_stem = False

    def __init__(self, num_slices: int = 3, **kwargs: Any) -> None:
        super().__init__(operator=None, in_channels=num_slices, **kwargs)
        self.num_slices = num_slices

    def forward(self, inputs: CTInputs) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Maps of a batch, their depth 1.

        Args:
            inputs: Volume ``(N, 1, D, H, W)``; the thickness is not used.

        Returns:
            Maps ``(N, C, 1, H / s, W / s)`` at strides s = 4, 8, 16.

        Raises:
            ValueError: The stack does not have ``num_slices`` slices.
        """
        check_num_slices(inputs.volume, self.num_slices, "backbone")
        return super().forward(CTInputs(inputs.volume.transpose(1, 2), inputs.thickness))
