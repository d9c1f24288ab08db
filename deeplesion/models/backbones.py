"""The truncated DenseNet as registered mmdetection backbones."""

from __future__ import annotations

import copy
from typing import Any

from mmdet.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from alignshift.models.densenet import TruncatedDenseNet3d
from alignshift.weights import load_2d_weights, read_state_dict
from deeplesion.engine.checkpoint import read_checkpoint
from deeplesion.models.inputs import CTInputs

TORCHVISION_PREFIX = "torchvision://"


def resolve_checkpoint(checkpoint: str) -> str:
    """Turn ``torchvision://densenet121`` into the URL of torchvision's default weights.

    Args:
        checkpoint: A local file, a URL, or ``torchvision://`` and the name of a model.

    Returns:
        A local file or a URL.
    """
    if not checkpoint.startswith(TORCHVISION_PREFIX):
        return checkpoint
    from torchvision.models import get_model_weights

    return get_model_weights(checkpoint.removeprefix(TORCHVISION_PREFIX)).DEFAULT.url


def read_weights(source: str) -> dict[str, Any]:
    """Read the weights of a URL or a local file, which may be a training checkpoint of mmengine.

    Args:
        source: A local file or a URL.

    Returns:
        A state dict.
    """
    if source.startswith(("http://", "https://")):
        return read_state_dict(source)
    weights = read_checkpoint(source)["state_dict"]
    return weights["model"] if isinstance(weights.get("model"), dict) else weights


@MODELS.register_module()
class DenseNetTrunc3d(TruncatedDenseNet3d, BaseModule):
    """Truncated DenseNet over a stack of slices, with any operator.

    Parameters keep the names of torchvision's ``densenet121().features``. With
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` 2D weights are loaded (a local file, a URL
    or ``torchvision://densenet121``) and what was not loaded is logged.

    Args:
        norm_eval: Keep batch norms in evaluation mode while training.
        init_cfg: One initialization, as in every mmdetection backbone.
        **kwargs: See :class:`alignshift.models.densenet.TruncatedDenseNet3d`.

    Raises:
        TypeError: ``init_cfg`` is a list of initializations.
    """

    def __init__(
        self, norm_eval: bool = False, init_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        if not isinstance(init_cfg, dict | None):
            raise TypeError(
                f"init_cfg of {type(self).__name__} must be one dict or None, "
                f"got a {type(init_cfg).__name__}"
            )
        super().__init__(**kwargs)
        self.norm_eval = norm_eval
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        """Load pretrained 2D weights if ``init_cfg`` names some."""
        if not self.init_cfg or self.init_cfg.get("type") != "Pretrained":
            super().init_weights()
            return
        checkpoint = self.init_cfg["checkpoint"]
        try:
            weights = read_weights(resolve_checkpoint(checkpoint))
        except ConnectionError as error:
            without = "--cfg-options model.backbone.init_cfg=None"
            raise ConnectionError(f"{error}; or train without: {without}") from error
        report = load_2d_weights(self, weights)
        print_log(f"weights from {checkpoint}: {report}", logger="current")
        self._is_init = True

    def train(self, mode: bool = True) -> DenseNetTrunc3d:
        """Set the mode; batch norms stay in evaluation mode under ``norm_eval``."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, inputs: CTInputs) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Maps of a batch.

        Args:
            inputs: Volume ``(N, 1, D, H, W)`` and thickness ``(N,)`` in mm.

        Returns:
            Maps ``(N, C, D, H / s, W / s)`` at strides s = 4, 8, 16.
        """
        return tuple(super().forward(inputs.volume, inputs.thickness))


@MODELS.register_module()
class DenseNetCustomTrunc3dAlign(DenseNetTrunc3d):
    """Truncated DenseNet with AlignShift (arXiv 2005.01969).

    Args:
        n_fold: One n-th of the channels comes from either neighboring slice.
        ref_thickness: Thickness in mm up to which channels are shifted fully.
        shift_padding_zero: Zeros beyond the open ends instead of the edge slice repeated.
        inplace: Shift again in backward instead of keeping the shifted copy: less memory, the
            same result, some percent more time.
        **kwargs: See :class:`DenseNetTrunc3d`.
    """

    def __init__(
        self,
        n_fold: int = 8,
        ref_thickness: float = 2.0,
        shift_padding_zero: bool = False,
        inplace: bool = True,
        **kwargs: Any,
    ) -> None:
        operator_kwargs = {
            "n_fold": n_fold,
            "inplace": inplace,
            "ref_thickness": ref_thickness,
            "shift_padding_zero": shift_padding_zero,
        }
        super().__init__(operator="AlignShiftConv", operator_kwargs=operator_kwargs, **kwargs)


@MODELS.register_module()
class DenseNetCustomTrunc3dTSM(DenseNetTrunc3d):
    """Truncated DenseNet with the temporal shift module (arXiv 1811.08383).

    Args:
        n_fold: One n-th of the channels comes from either neighboring slice.
        inplace: As in :class:`DenseNetCustomTrunc3dAlign`.
        **kwargs: See :class:`DenseNetTrunc3d`.
    """

    def __init__(self, n_fold: int = 8, inplace: bool = True, **kwargs: Any) -> None:
        operator_kwargs = {"n_fold": n_fold, "inplace": inplace}
        super().__init__(operator="TSMConv", operator_kwargs=operator_kwargs, **kwargs)


@MODELS.register_module()
class DenseNetCustomTrunc3dA3D(DenseNetTrunc3d):
    """Truncated DenseNet with asymmetric 3D context fusion (arXiv 2109.08684).

    Args:
        num_slices: Slices of a stack, D; the fusion weights are made for this number.
        **kwargs: See :class:`DenseNetTrunc3d`.
    """

    def __init__(self, num_slices: int = 3, **kwargs: Any) -> None:
        super().__init__(operator="A3DConv", operator_kwargs={"dimension": num_slices}, **kwargs)


@MODELS.register_module()
class DenseNetCustomTrunc(DenseNetTrunc3d):
    """Truncated 2D DenseNet that takes the slices as input channels (2.5D).

    Args:
        num_slices: Slices of a stack, the channels of the first convolution.
        **kwargs: See :class:`DenseNetTrunc3d`.
    """

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
        if inputs.volume.shape[2] != self.num_slices:
            raise ValueError(
                f"volume must have {self.num_slices} slices (num_slices of the backbone), "
                f"got {inputs.volume.shape[2]}: set the same num_slices in LoadCTSlices"
            )
        return super().forward(CTInputs(inputs.volume.transpose(1, 2), inputs.thickness))
