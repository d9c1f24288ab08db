"""The textbook way to a 3D network, which the library is measured against.

A ResNet in which every layer is the 3D layer of its name: contiguous ``conv3d`` with 1 x k x k
kernels, BatchNorm3d, MaxPool3d, and slices mixed as the published code of the papers does it, by
slice assignments into a fresh tensor (AlignShift, TSM), `torch.einsum` (A3D) or the kernel of the
3D convolution (ACS, I3D). It is written plainly, shares no code with the library, and computes the
same from the same weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.models import ResNet

N_FOLD = 8
REF_THICKNESS = 2.0


class PlainConv3d(nn.Module):
    """Convolution of every slice with a 1 x k x k kernel, without mixing.

    Args:
        conv: The 2D convolution whose weights and geometry it takes.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())
        self.stride = (1, *conv.stride)
        self.padding = tuple(int(p) for p in conv.padding)
        self.dilation = (1, *conv.dilation)
        self.groups = conv.groups
        self.thickness: Tensor | None = None

    def mix(self, x: Tensor) -> Tensor:
        """Mix the slices of ``x`` (N, C, D, H, W)."""
        return x

    def convolve(self, x: Tensor, weight: Tensor, padding: tuple[int, ...]) -> Tensor:
        """Convolve with a 5-D weight."""
        return F.conv3d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the slices of ``x`` (N, C, D, H, W), then convolve them."""
        return self.convolve(self.mix(x), self.weight.unsqueeze(2), (0, *self.padding))


class AlignShiftConv3d(PlainConv3d):
    """AlignShift (arXiv 2005.01969) by slice assignments."""

    def mix(self, x: Tensor) -> Tensor:
        """Blend one fold of channels with the next slice, one with the slice before."""
        assert self.thickness is not None
        fold = x.shape[1] // N_FOLD
        keep = (1 - (REF_THICKNESS / self.thickness).clamp(0, 1)).to(x.dtype).view(-1, 1, 1, 1, 1)
        up, down = x[:, :fold], x[:, fold : 2 * fold]
        out = torch.zeros_like(x)
        out[:, :fold, :-1] = keep * up[:, :, :-1] + (1 - keep) * up[:, :, 1:]
        out[:, :fold, -1:] = up[:, :, -1:]
        out[:, fold : 2 * fold, 1:] = keep * down[:, :, 1:] + (1 - keep) * down[:, :, :-1]
        out[:, fold : 2 * fold, :1] = down[:, :, :1]
        out[:, 2 * fold :] = x[:, 2 * fold :]
        return out


class TSMConv3d(PlainConv3d):
    """Temporal shift (arXiv 1811.08383) by slice assignments."""

    def mix(self, x: Tensor) -> Tensor:
        """Take one fold of channels from the next slice, one from the slice before."""
        fold = x.shape[1] // N_FOLD
        out = torch.zeros_like(x)
        out[:, :fold, :-1] = x[:, :fold, 1:]
        out[:, fold : 2 * fold, 1:] = x[:, fold : 2 * fold, :-1]
        out[:, 2 * fold :] = x[:, 2 * fold :]
        return out


class A3DConv3d(PlainConv3d):
    """A3D (arXiv 2109.08684) by an einsum.

    Args:
        conv: As in `PlainConv3d`.
        dimension: Number of slices.
    """

    def __init__(self, conv: nn.Conv2d, dimension: int) -> None:
        super().__init__(conv)
        self.adaptive_align_weights = nn.Parameter(
            torch.eye(dimension)[:, :, None].repeat(1, 1, conv.in_channels)
        )

    def mix(self, x: Tensor) -> Tensor:
        """Mix all slices of each channel."""
        return torch.einsum("ncdhw,dkc->nckhw", x, self.adaptive_align_weights)


class ACSConv3d(PlainConv3d):
    """ACS (arXiv 1911.10477): a third of the kernels in each of the three planes."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C, D, H, W) in the axial, coronal and sagittal plane."""
        axial, coronal, sagittal = self.weight.tensor_split(3)
        p, q = self.padding
        planes = (
            self.convolve(x, axial.unsqueeze(2), (0, p, q)),
            self.convolve(x, coronal.unsqueeze(3), (p, 0, q)),
            self.convolve(x, sagittal.unsqueeze(4), (p, q, 0)),
        )
        return torch.cat(planes, dim=1)


class I3DConv3d(PlainConv3d):
    """I3D (arXiv 1705.07750): the kernel inflated to k x k x k and divided by k.

    Args:
        conv: As in `PlainConv3d`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        depth = conv.weight.shape[-1]
        inflated = conv.weight.detach().unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
        self.weight = nn.Parameter(inflated)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C, D, H, W) with the inflated kernel."""
        return self.convolve(x, self.weight, (self.weight.shape[2] // 2, *self.padding))


CONVOLUTIONS: dict[str, type[PlainConv3d]] = {
    "SliceConv": PlainConv3d,
    "AlignShiftConv": AlignShiftConv3d,
    "TSMConv": TSMConv3d,
    "A3DConv": A3DConv3d,
    "ACSConv": ACSConv3d,
    "I3DConv": I3DConv3d,
}


class TextbookResNet(nn.Module):
    """A torchvision ResNet of 3D layers.

    Args:
        network: The 2D network; it is changed.
        operator: Name of the operator in `CONVOLUTIONS`.
        mixing: Paths of the convolutions that mix slices; the others work on each slice alone.
        settings: Further arguments of the convolution.

    Attributes:
        network: The network, with names of parameters as before.
    """

    def __init__(
        self, network: ResNet, operator: str, mixing: Collection[str], settings: Mapping[str, Any]
    ) -> None:
        super().__init__()
        for path, layer in list(network.named_modules()):
            if isinstance(layer, nn.Conv2d) and path in mixing:
                network.set_submodule(path, CONVOLUTIONS[operator](layer, **settings))
            elif (counterpart := _counterpart(layer)) is not None:
                network.set_submodule(path, counterpart)
        self.network = network

    def forward(self, volume: Tensor, thickness: Tensor) -> Tensor:
        """Classify every slice.

        Args:
            volume: Shape (N, C, D, H, W).
            thickness: In mm, shape (N,).

        Returns:
            Logits (N, K, D).
        """
        for layer in self.modules():
            if isinstance(layer, PlainConv3d):
                layer.thickness = thickness
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(volume))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        logits: Tensor = net.fc(x.mean((3, 4)).transpose(1, 2))
        return logits.transpose(1, 2)


def _counterpart(layer: nn.Module) -> nn.Module | None:
    """The 3D layer that does to each slice what a 2D layer does to an image."""
    if isinstance(layer, nn.Conv2d):
        return PlainConv3d(layer)
    if isinstance(layer, nn.BatchNorm2d):
        norm = nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum)
        norm.load_state_dict(layer.state_dict())
        return norm
    if isinstance(layer, nn.MaxPool2d):
        kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
        return nn.MaxPool3d((1, *kernel), (1, *stride), (0, *_pair(layer.padding)))
    return None
