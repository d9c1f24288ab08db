"""What holds for every operator: 2D weights, shapes, layouts, batches, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from alignshift.operators import OPERATORS, get_operator
from tests.alignshift.operators.operator_cases import (
    DEPTH,
    OPERATOR_KWARGS,
    THICKNESS,
    every_operator,
    make,
    make_for_depth,
    volume,
)


def test_registry_knows_every_operator() -> None:
    assert list(OPERATORS) == list(OPERATOR_KWARGS)
    assert all(get_operator(name) is operator for name, operator in OPERATORS.items())


def test_unknown_operator_lists_the_known_ones() -> None:
    known = "A3DConv, ACSConv, AlignShiftConv, I3DConv, SliceConv, TSMConv"
    with pytest.raises(ValueError, match=f"operator must be one of {known}, got 'ShiftConv'"):
        get_operator("ShiftConv")


@every_operator
def test_loads_a_2d_layer_as_it_is(name: str) -> None:
    conv, conv2d = make(name), nn.Conv2d(8, 4, 3, padding=1)
    conv.load_state_dict(conv2d.state_dict())
    assert torch.equal(conv.bias, conv2d.bias)
    kernel = conv.weight[:, :, 1] if name == "I3DConv" else conv.weight
    assert torch.equal(kernel, conv2d.weight)
    again = make(name)
    again.load_state_dict(conv.state_dict())
    assert torch.equal(again(volume(), THICKNESS), conv(volume(), THICKNESS))


@every_operator
def test_still_names_what_a_state_dict_lacks(name: str) -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        make(name).load_state_dict({"bias": torch.zeros(4)})


@every_operator
@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3, 7])
def test_shapes(name: str, batch: int, depth: int) -> None:
    conv = make_for_depth(name, depth, stride=2)
    x = volume(batch, depth=depth).requires_grad_()
    out = conv(x, THICKNESS[:batch])
    assert out.shape == (batch, 4, depth, 3, 3)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@every_operator
@pytest.mark.parametrize(
    "geometry",
    [
        {"padding": 0},
        {"padding": "same"},
        {"padding": "valid", "stride": 3},
        {"padding": (2, 0), "stride": (1, 2)},
        {"padding": 2, "dilation": 2},
        {"padding": 1, "groups": 2},
        {"padding": 1, "groups": 4, "bias": False},
    ],
    ids=str,
)
def test_is_as_large_as_the_2d_convolution(name: str, geometry: dict[str, object]) -> None:
    x = volume(size=9)
    expected = nn.Conv2d(8, 4, 3, **geometry)(x[:, :, 0]).shape
    out = make(name, **geometry)(x, THICKNESS)
    assert out.shape == (2, 4, DEPTH, *expected[2:])
    assert out.is_contiguous(memory_format=torch.channels_last_3d)


@every_operator
def test_depthwise_convolutions_keep_channels_apart(name: str) -> None:
    conv = make(name, 8, 8, 3, groups=8)
    x = volume()
    changed = x.clone()
    changed[:, 5] += 1
    differs = (conv(x, THICKNESS) != conv(changed, THICKNESS)).flatten(2).any(2).any(0)
    assert differs.tolist() == [channel == 5 for channel in range(8)]


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same volume, laid out in several ways."""
    spread = torch.zeros(*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1])
    spread[..., ::2, ::3] = x
    return {
        "contiguous": x.contiguous(),
        "channels_last_3d": x.contiguous(memory_format=torch.channels_last_3d),
        "every second row": spread[..., ::2, ::3],
        "transposed": x.transpose(3, 4).contiguous().transpose(3, 4),
        "slices first": x.transpose(0, 2).contiguous().transpose(0, 2),
    }


@every_operator
def test_layout_does_not_matter(name: str) -> None:
    conv, results = make(name), []
    for x in layouts(volume()).values():
        x = x.detach().requires_grad_()
        out = conv(x, THICKNESS)
        assert out.is_contiguous(memory_format=torch.channels_last_3d)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, conv.weight))))
    for other in results[1:]:
        for expected, actual in zip(results[0], other, strict=True):
            torch.testing.assert_close(actual, expected)


@every_operator
def test_one_slice_repeated_without_memory_of_its_own(name: str) -> None:
    x = volume(depth=1).expand(-1, -1, DEPTH, -1, -1)
    torch.testing.assert_close(make(name)(x, THICKNESS), make(name)(x.contiguous(), THICKNESS))


@every_operator
def test_samples_of_a_mixed_batch_do_not_touch_each_other(name: str) -> None:
    conv, x = make(name), volume(4)
    thickness = torch.tensor([1.0, 2.5, 5.0, float("nan")])
    together = conv(x, thickness)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], conv(x[i : i + 1], thickness[i : i + 1]))
    assert torch.equal(conv(x, thickness[:, None]), together)


@every_operator
def test_input_and_thickness_are_not_changed(name: str) -> None:
    x, thickness = volume(), THICKNESS.clone()
    make(name)(x, thickness).sum().backward()
    assert torch.equal(x, volume())
    assert torch.equal(thickness, THICKNESS)


@every_operator
def test_wrong_volume_is_named(name: str) -> None:
    conv = make(name)
    with pytest.raises(ValueError, match=r"x must be of shape \(N, C, D, H, W\), got \(2, 8, 6, 6"):
        conv(volume()[:, :, 0], THICKNESS)
    with pytest.raises(ValueError, match=r"x must have 8 channels .* got shape \(2, 7, 3, 6, 6\)"):
        conv(volume(channels=7), THICKNESS)


@every_operator
@pytest.mark.parametrize(
    ("thickness", "message"),
    [
        (torch.ones(3), r"shape \(N,\) or \(N, 1\) with N = 2, got \(3,\)"),
        (torch.ones(1, 2), r"shape \(N,\) or \(N, 1\) with N = 2, got \(1, 2\)"),
        (torch.tensor([1, 5]), r"floating point \(mm\), got torch.int64"),
        (torch.ones(2, device="meta"), "on cpu like x, got meta"),
    ],
    ids=["length", "shape", "dtype", "device"],
)
def test_wrong_thickness_is_named(name: str, thickness: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"thickness must be .*{message}"):
        make(name)(volume(), thickness)


@every_operator
def test_unknown_settings_are_named(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_folds'"):
        make(name, n_folds=8)


@every_operator
def test_representation_names_the_settings(name: str) -> None:
    text = repr(make(name))
    assert text.startswith(f"{name}(8, 4, kernel_size=(3, 3)")
    assert all(f"{key}={value}" in text for key, value in OPERATOR_KWARGS[name].items())
