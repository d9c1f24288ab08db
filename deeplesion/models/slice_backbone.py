"""Any 2D backbone at work on stacks of slices."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from alignshift.converter import SliceNetwork, convert_to_3d
from alignshift.operators import get_operator
from alignshift.operators.swap import as_2d_convolutions
from deeplesion.models.inputs import CTInputs, check_num_slices
from deeplesion.models.pretrained import is_pretrained, load_pretrained


@MODELS.register_module()
class SliceBackbone(SliceNetwork, BaseModule):
    """A 2D backbone, converted by :func:`alignshift.convert_to_3d`.

    Whatever mmdetection has registered (or timm has, as ``TimmBackbone``) becomes aware of slices
    and of their thickness::

        backbone=dict(
            type='SliceBackbone',
            operator=dict(type='AlignShiftConv', n_fold=8),
            num_slices=7,
            backbone=dict(type='ResNet', depth=50, ...),
        )

    Put ``SliceCollapse`` before the 2D neck. Names in the state dict are those of the 2D backbone.
    It is initialized as it initializes itself; of pretrained weights (``init_cfg`` of the 2D
    backbone) is logged what was loaded.

    Args:
        backbone: Config of the 2D backbone, for images of three channels.
        operator: ``type``, an operator's name, and its settings; a name alone will do.
        num_slices: Slices D of a stack. A3D's ``dimension`` follows it.
        skip_first_conv: Whether the first convolution works on each slice alone.
        skip: Regular expressions of the paths of further convolutions that do.
        init_cfg: Replaces that of the 2D backbone.

    Raises:
        ValueError: The operator is not known, or a layer of the backbone has no counterpart.
    """

    def __init__(
        self,
        backbone: dict,
        operator: dict | str,
        num_slices: int,
        skip_first_conv: bool = True,
        skip: Sequence[str] = (),
        init_cfg: dict | None = None,
    ) -> None:
        settings = {"type": operator} if isinstance(operator, str) else dict(operator)
        kind = get_operator(settings.pop("type"))
        if "dimension" in kind.setting_names():
            settings.setdefault("dimension", num_slices)
        config = copy.deepcopy(dict(backbone))
        if init_cfg is not None:
            config["init_cfg"] = init_cfg
        pretrained = is_pretrained(config.get("init_cfg"))
        weights = config.pop("init_cfg") if pretrained else None
        model = MODELS.build({**config, "init_cfg": None} if pretrained else config)
        network = convert_to_3d(
            model, kind, skip_first_conv=skip_first_conv, skip=skip, in_place=True, **settings
        )
        parts = (network.model, network.context, network.report)
        super().__init__(*parts, network.in_channels, network.expand_channels)
        self.num_slices = num_slices
        self.init_cfg = weights

    def init_weights(self) -> None:
        """Initialize as the 2D backbone does, or load its pretrained 2D weights.

        Raises:
            ConnectionError: They could not be downloaded.
            CheckpointError: They cannot be read, or not one of them fits.
        """
        if self.init_cfg:
            load_pretrained(self, self.init_cfg, "model.backbone.backbone")
        else:
            # mmengine initializes layers by the names of their classes.
            with as_2d_convolutions(self.model):
                self.model.init_weights()  # type: ignore[operator]
        self._is_init = True

    def forward(self, inputs: CTInputs) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Maps of a batch.

        Args:
            inputs: Volume ``(N, 1, D, H, W)`` and thickness ``(N,)`` in mm.

        Returns:
            Maps ``(N, C, D, H / s, W / s)``, as many as the 2D backbone has.

        Raises:
            ValueError: The stack does not have ``num_slices`` slices.
        """
        check_num_slices(inputs.volume, self.num_slices, "backbone")
        return tuple(super().forward(inputs.volume, inputs.thickness))
