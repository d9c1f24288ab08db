"""Networks of timm as 2D backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """The feature maps of a network of `timm <https://huggingface.co/docs/timm>`_, finest first.

    Args:
        model_name: A name of ``timm.list_models()``.
        out_indices: Which of its maps, counted from stride 2 (or 4, as the network begins).
        pretrained: Download timm's weights when it is built.
        **kwargs: Passed on to ``timm.create_model``, e.g. ``checkpoint_path`` for a file of weights
            instead.

    Attributes:
        out_channels: Channels of each map.
        strides: Stride of each map.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no such model, or none that gives feature maps.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        pretrained: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError as error:
            remedy = "TimmBackbone needs timm: pip install 'deeplesion-alignshift[timm]'"
            raise ModuleNotFoundError(remedy) from error
        if not timm.is_model(model_name):
            close = ", ".join(timm.list_models(f"*{model_name[:6]}*")[:5]) or "timm.list_models()"
            raise ValueError(f"model_name must be one of timm's, got {model_name!r}; see {close}")
        options: dict[str, Any] = {"features_only": True, "out_indices": tuple(out_indices)}
        self.network = timm.create_model(model_name, pretrained=pretrained, **options, **kwargs)
        info: Any = self.network.feature_info
        self.out_channels = tuple(info.channels())
        self.strides = tuple(info.reduction())
        self._channels_last = getattr(self.network, "output_fmt", None) == "NHWC"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps.

        Args:
            images: ``(N, C, H, W)``.

        Returns:
            One ``(N, C, H / s, W / s)`` for each of ``out_indices``.
        """
        maps = self.network(images)
        return tuple(m.permute(0, 3, 1, 2) if self._channels_last else m for m in maps)
