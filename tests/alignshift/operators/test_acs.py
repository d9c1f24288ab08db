"""ACS: the three planes, hand-computed values, geometry and conversion."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from alignshift.operators import ACSConv, SliceConv, acs_conv, slice_conv2d
from alignshift.operators.swap import swap_operator
from tests.alignshift.operators.operator_cases import make, volume
from tests.alignshift.operators.test_conv3d import StandardizedConv2d


def ramp() -> Tensor:
    """Volume (1, 1, 3, 5, 5) of the values 100 z + 10 y + x."""
    z, y, x = torch.meshgrid(*(torch.arange(n) for n in (3, 5, 5)), indexing="ij")
    return (100 * z + 10 * y + x).float()[None, None]


def taps(*values: int) -> Tensor:
    """The same 3x3 kernel for an axial, a coronal and a sagittal channel."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 3, 3).repeat(3, 1, 1, 1)


@pytest.mark.parametrize("out_channels", [1, 2, 3, 4, 5, 9])
def test_planes_equal_textbook_convolutions(out_channels: int) -> None:
    x, bias = volume(), torch.randn(out_channels)
    weight = torch.randn(out_channels, 8, 3, 3)
    first = -(-out_channels // 3)
    second = first + -(-(out_channels - first) // 2)
    everything = [
        F.conv3d(x, weight.unsqueeze(2), bias, padding=(0, 1, 1))[:, :first],
        F.conv3d(x, weight.unsqueeze(3), bias, padding=(1, 0, 1))[:, first:second],
        F.conv3d(x, weight.unsqueeze(4), bias, padding=(1, 1, 0))[:, second:],
    ]
    out = acs_conv(x, weight, bias, padding=1)
    torch.testing.assert_close(out, torch.cat(everything, dim=1))


def test_axial_channels_are_the_2d_layer() -> None:
    conv, conv2d, x = make("ACSConv"), nn.Conv2d(8, 4, 3, padding=1), volume()
    conv.load_state_dict(conv2d.state_dict())
    expected = torch.stack([conv2d(x[:, :, z]) for z in range(3)], dim=2)
    torch.testing.assert_close(conv(x)[:, :2], expected[:, :2])


@pytest.mark.parametrize(
    ("stride", "padding", "rows"), [(1, 1, [0, 1, 2, 3, 4]), (2, 1, [0, 2, 4]), (1, 0, [1, 2, 3])]
)
def test_hand_computed_values(stride: int, padding: int, rows: list[int]) -> None:
    """A kernel of one tap: the value of a neighbor."""
    x = ramp()
    # Row 0, column 1 of the kernel: axially y - 1; in the other planes, z - 1.
    out = acs_conv(x, taps(0, 1, 0, 0, 0, 0, 0, 0, 0), stride=stride, padding=padding)
    centers = x[:, :, :, rows][..., rows]
    assert out.shape[2:] == centers.shape[2:]
    above = F.pad(x, (0, 0, 1, 0))[:, :, :, rows][..., rows]
    before = F.pad(centers, (0, 0, 0, 0, 1, 0))[:, :, :-1]
    assert torch.equal(out, torch.cat([above, before, before], dim=1))
    # Row 1, column 2: x + 1 axially and coronally, y + 1 sagittally.
    out = acs_conv(x, taps(0, 0, 0, 0, 0, 1, 0, 0, 0), stride=stride, padding=padding)
    right = F.pad(x, (0, 1))[:, :, :, rows][..., [i + 1 for i in rows]]
    below = F.pad(x, (0, 0, 0, 1))[:, :, :, [i + 1 for i in rows]][..., rows]
    assert torch.equal(out, torch.cat([right, right, below], dim=1))


def test_dilation_reaches_over_slices() -> None:
    out = acs_conv(ramp(), taps(0, 0, 0, 0, 0, 0, 0, 1, 0), padding=2, dilation=2)
    assert out[0, 0, :, 1, 1].tolist() == [31, 131, 231]  # y + 2
    assert out[0, 1, :, 1, 1].tolist() == [211, 0, 0]  # z + 2
    assert out[0, 2, :, 1, 1].tolist() == [211, 0, 0]


@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    size=st.integers(9, 12),
    depth=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_center_tap_samples_where_the_2d_layer_does(
    kernel: int, stride: int, padding: int, dilation: int, size: int, depth: int
) -> None:
    x, weight = volume(1, 2, depth, size), torch.zeros(3, 2, kernel, kernel)
    weight[:, :, (kernel - 1) // 2, (kernel - 1) // 2] = 1
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = slice_conv2d(x, weight, **geometry)
    # The center of an even kernel that is dilated lies between its taps.
    if kernel % 2 == 1 or dilation == 1:
        torch.testing.assert_close(acs_conv(x, weight, **geometry), expected)
    assert acs_conv(x, weight, **geometry).shape == expected.shape


@pytest.mark.parametrize(
    ("kernel", "padding"), [((1, 7), (0, 3)), ((7, 1), (3, 0)), ((3, 5), (0, 0)), ((3, 5), (2, 1))]
)
def test_oblong_kernels_lie_around_the_2d_center(
    kernel: tuple[int, int], padding: tuple[int, int]
) -> None:
    x, weight, margin = volume(1, 2, 3, 9), torch.randn(3, 2, *kernel), 6
    out = acs_conv(x, weight, padding=padding)
    assert out.shape == slice_conv2d(x, weight, padding=padding).shape
    rows, columns = (
        slice(margin + (k - 1) // 2 - p, margin + (k - 1) // 2 - p + n)
        for k, p, n in zip(kernel, padding, out.shape[3:], strict=True)
    )
    wide = F.pad(x, (margin, margin, margin, margin))
    for channel, axis in ((1, 3), (2, 4)):
        everywhere = F.conv3d(wide, weight.unsqueeze(axis), padding="same")[:, channel]
        torch.testing.assert_close(out[:, channel], everywhere[..., rows, columns])


def test_kernels_of_one_pixel_are_the_2d_layer() -> None:
    conv, plain = make("ACSConv", 8, 6, 1, padding=0), SliceConv(8, 6, 1)
    plain.load_state_dict(conv.state_dict())
    assert torch.equal(conv(volume()), plain(volume()))


@pytest.mark.parametrize(("groups", "axial", "coronal"), [(8, 3, 6), (4, 2, 3), (2, 1, 2)])
def test_groups_are_split_whole(groups: int, axial: int, coronal: int) -> None:
    x, weight = volume(), torch.randn(16, 8 // groups, 3, 3)
    per_group = 16 // groups
    bounds = [0, axial * per_group, coronal * per_group, 16]
    expected = torch.cat(
        [
            F.conv3d(x, weight.unsqueeze(axis), padding=pad, groups=groups)[:, start:end]
            for axis, pad, start, end in zip(
                (2, 3, 4), ((0, 1, 1), (1, 0, 1), (1, 1, 0)), bounds, bounds[1:], strict=False
            )
        ],
        dim=1,
    )
    torch.testing.assert_close(acs_conv(x, weight, padding=1, groups=groups), expected)


def test_module_equals_function_and_ignores_thickness() -> None:
    conv, x = make("ACSConv", stride=2), volume()
    out = conv(x)
    assert torch.equal(out, acs_conv(x, conv.weight, conv.bias, stride=2, padding=1))
    assert torch.equal(conv(x, torch.tensor([1.0, 5.0])), out)


def test_parametrized_kernels_lie_in_the_planes() -> None:
    conv2d, x = parametrizations.weight_norm(nn.Conv2d(8, 4, 3, padding=1)), volume()
    expected = acs_conv(x, conv2d.weight, conv2d.bias, padding=1)
    conv = swap_operator(conv2d, ACSConv)
    assert torch.equal(conv(x), expected)
    conv(x).sum().backward()
    assert all(parameter.grad is not None for parameter in conv.parameters())


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"got StandardizedConv2d, which has its own forward"):
        swap_operator(StandardizedConv2d(8, 4, 3), ACSConv)
    with pytest.raises(ValueError, match="padding_mode must be 'zeros' for ACSConv, got 'circular"):
        ACSConv(8, 4, 3, padding=1, padding_mode="circular")
    with pytest.raises(ValueError, match=r"x must be of shape \(N, C, D, H, W\), got \(4, 4\)"):
        acs_conv(torch.ones(4, 4), torch.ones(3, 4, 3, 3))
    with pytest.raises(ValueError, match=r"padding must be a number.* got 'full'"):
        acs_conv(volume(), torch.ones(3, 8, 3, 3), padding="full")
