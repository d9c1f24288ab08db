"""Real 2D networks that the converter is checked on, small enough to be checked often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torchvision
from torch import nn
from torchvision.models import get_model
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.feature_extraction import create_feature_extractor

__all__ = ["ARCHITECTURES", "Architecture"]

SIZE = 64
# How a transformer of images of 224 px is asked for one of `SIZE`.
SMALL = {"img_size": SIZE}


@dataclass(frozen=True)
class Architecture:
    """A network that may be built without a download.

    Attributes:
        name: Its name in the library, and what was chosen of it.
        library: ``torchvision`` or ``timm``.
        build: Builds it with random weights.
        size: Height and width of the images in px.
        convolution_free: Whether it has no convolution but the one that reads the images.
        conversion: Arguments of `convert_to_3d`.
    """

    name: str
    library: str
    build: Callable[[], nn.Module]
    size: int = SIZE
    convolution_free: bool = False
    conversion: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and library, as the table has them."""
        return f"`{self.name}` | {self.library}"

    def __str__(self) -> str:
        """Name as the id of a test."""
        return f"{self.library}-{self.name.replace(', ', '-').replace(' ', '_')}"


def _tv(name: str, size: int = SIZE, free: bool = False, **options: Any) -> Architecture:
    def build() -> nn.Module:
        return get_model(name, weights=None, **options)

    return Architecture(name, "torchvision", build, size, free)


def _segmentation(name: str, size: int = SIZE) -> Architecture:
    return _tv(name, size, weights_backbone=None)


def _tv_custom(name: str, build: Callable[[], nn.Module], size: int = SIZE) -> Architecture:
    return Architecture(name, "torchvision", build, size)


def _with_transform(name: str, size: int = SIZE, **options: Any) -> Architecture:
    # As they are with weights=..., which changes the colors of the images in forward.
    def build() -> nn.Module:
        return get_model(name, weights=None, init_weights=False, transform_input=True, **options)

    more = "".join(f", {option}={value}" for option, value in options.items())
    return _tv_custom(f"{name}, transform_input{more}", build, size)


def _timm(
    name: str,
    size: int = SIZE,
    free: bool = False,
    skip: tuple[str, ...] = (),
    **options: Any,
) -> Architecture:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, **options)

    shown = f"{name}, features_only" if options.get("features_only") else name
    return Architecture(shown, "timm", build, size, free, {"skip": skip} if skip else {})


def _fpn() -> nn.Module:
    # Without frozen layers and norms, as a network trained from the start has them.
    return resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )


def _maxvit() -> nn.Module:
    # Partitions of 2 instead of 7, which would ask for images of 224 px.
    return torchvision.models.MaxVit(
        input_size=(SIZE, SIZE),
        stem_channels=64,
        partition_size=2,
        block_channels=[64, 128],
        block_layers=[2, 2],
        head_dim=32,
        stochastic_depth_prob=0.2,
    )


TORCHVISION = (
    _tv("alexnet"),
    _tv_custom("vgg11, features", lambda: get_model("vgg11").features),
    _tv_custom(
        "vgg11_bn, create_feature_extractor",
        lambda: create_feature_extractor(get_model("vgg11_bn"), ["features.7", "features.27"]),
    ),
    _tv("resnet18"),
    _tv("resnet50"),
    _tv_custom(
        "resnet18, create_feature_extractor",
        lambda: create_feature_extractor(get_model("resnet18"), {"layer2": "c3", "layer4": "c5"}),
    ),
    _tv("resnext50_32x4d"),
    _tv("wide_resnet50_2", 48),
    _tv("densenet121"),
    _tv("squeezenet1_1"),
    _tv("mobilenet_v2"),
    _tv("mobilenet_v3_small"),
    _tv("mobilenet_v3_large"),
    _tv("mnasnet0_5"),
    _tv("shufflenet_v2_x0_5"),
    _tv("googlenet", init_weights=False),
    _with_transform("googlenet"),
    # Its auxiliary classifier takes no smaller images.
    _tv("inception_v3", 299, init_weights=False),
    _with_transform("inception_v3", 96, aux_logits=False),
    _tv("efficientnet_b0"),
    _tv("efficientnet_v2_s"),
    _tv("regnet_x_400mf"),
    _tv("regnet_y_400mf"),
    _tv("convnext_tiny"),
    _tv("swin_t", free=True),
    _tv("swin_v2_t", free=True),
    _tv("vit_b_16", free=True, image_size=SIZE),
    _tv_custom("MaxVit", _maxvit),
    _segmentation("fcn_resnet50", 48),
    _segmentation("deeplabv3_mobilenet_v3_large"),
    _segmentation("lraspp_mobilenet_v3_large"),
    _tv_custom("resnet_fpn_backbone, resnet18", _fpn),
)

TIMM = (
    _timm("resnet18", features_only=True),
    _timm("resnet26t"),
    _timm("resnetblur18"),
    _timm("res2net50_26w_4s"),
    _timm("resnest14d"),
    _timm("ecaresnet26t"),
    _timm("seresnet18"),
    _timm("skresnet18"),
    _timm("resnetv2_50x1_bit"),
    _timm("nf_resnet26"),
    _timm("eca_nfnet_l0"),
    _timm("cspresnet50"),
    _timm("cspdarknet53"),
    _timm("dla34"),
    _timm("dpn48b"),
    _timm("xception41"),
    _timm("inception_v4", 96),
    _timm("hrnet_w18_small"),
    _timm("hrnet_w18_small", features_only=True),
    _timm("ese_vovnet19b_slim"),
    _timm("repvgg_a0"),
    _timm("mobileone_s0"),
    _timm("tf_efficientnet_b0"),
    _timm("tf_efficientnet_cc_b0_4e"),
    _timm("efficientnet_lite0", features_only=True),
    _timm("mixnet_s"),
    _timm("ghostnet_050"),
    _timm("lcnet_035"),
    _timm("mobilenetv4_conv_small"),
    _timm("rexnet_100"),
    _timm("starnet_s1"),
    _timm("convnext_atto", features_only=True),
    _timm("convnextv2_atto"),
    _timm("convmixer_768_32", 32),
    _timm("poolformer_s12"),
    _timm("edgenext_xx_small"),
    _timm("mobilevit_xxs"),
    _timm("mobilevitv2_050"),
    _timm("fastvit_t8"),
    _timm("efficientformer_l1", 224),
    _timm("efficientvit_b0"),
    _timm("coatnet_pico_rw_224", **SMALL),
    _timm("maxvit_rmlp_pico_rw_256", **SMALL),
    _timm("botnet26t_256", **SMALL),
    _timm("lambda_resnet26rpt_256", **SMALL),
    _timm("pvt_v2_b0"),
    # The convolution of its positions sees no slices.
    _timm("xcit_nano_12_p16_224", skip=(r"pos_embed\..*",), **SMALL),
    _timm("swin_tiny_patch4_window7_224", free=True, window_size=2, **SMALL),
    _timm("swin_tiny_patch4_window7_224", free=True, window_size=2, features_only=True, **SMALL),
    _timm("vit_tiny_patch16_224", free=True, **SMALL),
    _timm("deit_tiny_patch16_224", free=True, **SMALL),
    _timm("mixer_s32_224", free=True, **SMALL),
)

ARCHITECTURES = (*TORCHVISION, *TIMM)
