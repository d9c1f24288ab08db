"""The faces of the truncated DenseNet: snippets, shapes, limits, weights, errors."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from alignshift import load_2d_weights
from alignshift.models import (
    DenseNetCustomTrunc3dA3D,
    DenseNetCustomTrunc3dAlign,
    DenseNetCustomTrunc3dTSM,
    TruncatedDenseNet3d,
)
from alignshift.operators import OPERATORS

Face = type[TruncatedDenseNet3d]
SMALL = {"growth_rate": 8, "block_config": (2, 2, 2), "num_init_features": 16, "bn_size": 2}
THICKNESS = torch.tensor([[1.0], [4.0]])
FACES = (DenseNetCustomTrunc3dAlign, DenseNetCustomTrunc3dTSM, DenseNetCustomTrunc3dA3D)
every_face = pytest.mark.parametrize("face", FACES)


def small(face: Face, **kwargs: Any) -> TruncatedDenseNet3d:
    """A network of 12 convolutions in its dense layers, for stacks of three slices."""
    torch.manual_seed(0)
    if face is DenseNetCustomTrunc3dA3D:
        kwargs.setdefault("num_slices", 3)
    return face(**(SMALL | kwargs))


def volume(depth: int = 3, height: int = 32, width: int = 32) -> Tensor:
    """Seeded noise of two samples with three channels."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, depth, height, width, generator=generator)


@torch.no_grad()
def test_snippets() -> None:
    input_3d = torch.rand(1, 3, 7, 256, 256)
    thickness = torch.ones(1, 1)
    net = DenseNetCustomTrunc3dAlign(num_classes=3)
    assert net(input_3d, thickness).shape == (1, 3, 7, 256, 256)
    net = DenseNetCustomTrunc3dTSM(num_classes=3)
    assert net(input_3d).shape == (1, 3, 7, 256, 256)
    net = DenseNetCustomTrunc3dA3D(num_classes=3)
    assert net(input_3d).shape == (1, 3, 7, 256, 256)


@every_face
def test_without_classes_the_maps_of_the_paper(face: Face) -> None:
    with torch.device("meta"):
        net = face()
        maps = net(torch.empty(1, 3, 7, 256, 256), torch.empty(1, 1))
    assert net.head is None
    assert isinstance(maps, list)
    assert [tuple(level.shape) for level in maps] == [
        (1, 256, 7, 64, 64),
        (1, 512, 7, 32, 32),
        (1, 1024, 7, 16, 16),
    ]


@every_face
@pytest.mark.parametrize(("height", "width"), [(45, 37), (33, 64), (50, 31)])
def test_any_size(face: Face, height: int, width: int) -> None:
    logits = small(face, num_classes=2)(volume(3, height, width), THICKNESS)
    assert logits.shape == (2, 2, 3, height, width)


@pytest.mark.parametrize("face", FACES[:2])
@pytest.mark.parametrize("depth", [1, 4])
def test_any_depth(face: Face, depth: int) -> None:
    assert small(face, num_classes=1)(volume(depth), THICKNESS).shape == (2, 1, depth, 32, 32)


@every_face
def test_gradients_reach_every_parameter(face: Face) -> None:
    net = small(face, num_classes=2)
    nn.functional.cross_entropy(
        net(volume(), THICKNESS), torch.ones(2, 3, 32, 32).long()
    ).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@every_face
def test_learns_a_mask(face: Face) -> None:
    """The brighter half of a stack is told from the darker within some steps."""
    net = small(face, num_classes=2)
    x, target = volume(), torch.zeros(2, 3, 32, 32).long()
    x[..., 16:] += 2
    target[..., 16:] = 1
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(x, THICKNESS), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_thick_slices_are_the_2d_network_slice_by_slice() -> None:
    net = small(DenseNetCustomTrunc3dAlign, num_classes=3).eval()
    plain = small(TruncatedDenseNet3d, operator=None, in_channels=3, num_classes=3).eval()
    plain.load_state_dict(net.state_dict())
    x = volume()
    per_slice = torch.cat([plain(x[:, :, z : z + 1]) for z in range(3)], dim=2)
    for mm in (float("inf"), float("nan")):
        torch.testing.assert_close(net(x, torch.full((2, 1), mm)), per_slice)
    torch.testing.assert_close(net(x, torch.full((2, 1), 1e9)), per_slice, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(net(x, torch.full((2, 1), 2.0)), per_slice, rtol=1e-2, atol=1e-2)


def test_thin_slices_are_the_temporal_shift() -> None:
    align = small(DenseNetCustomTrunc3dAlign, num_classes=3, shift_padding_zero=True).eval()
    tsm = small(DenseNetCustomTrunc3dTSM, num_classes=3).eval()
    tsm.load_state_dict(align.state_dict())
    torch.testing.assert_close(align(volume(), torch.tensor([0.5, 2.0])), tsm(volume()))


def test_a3d_with_the_identity_is_the_2d_network() -> None:
    net = small(DenseNetCustomTrunc3dA3D, num_classes=3).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("adaptive_align_weights"):
            parameter.data = torch.eye(3)[:, :, None].expand_as(parameter).clone()
    plain = small(TruncatedDenseNet3d, operator=None, in_channels=3, num_classes=3).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    torch.testing.assert_close(net(volume()), plain(volume()))


def test_settings_reach_every_operator_of_trunk_and_head() -> None:
    settings = {"n_fold": 4, "ref_thickness": 5.0, "shift_padding_zero": True, "inplace": False}
    net = small(DenseNetCustomTrunc3dAlign, num_classes=1, **settings)
    convs = [m for m in net.modules() if isinstance(m, OPERATORS["AlignShiftConv"])]
    assert len(convs) == 13
    for conv in convs:
        assert {name: getattr(conv, name) for name in settings} == settings
    tsm = small(DenseNetCustomTrunc3dTSM, n_fold=4, inplace=False)
    assert tsm.denseblock1.denselayer1.conv1.n_fold == 4
    assert not tsm.denseblock1.denselayer1.conv1.inplace


@every_face
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_of_torchvision_load(face: Face, channels: int) -> None:
    torch.manual_seed(0)
    weights = torchvision.models.densenet121(weights=None).state_dict()
    net = face(num_classes=3, in_channels=channels)
    report = load_2d_weights(net, weights)
    assert all(
        name.startswith("head.") or name.endswith("adaptive_align_weights")
        for name in report.missing
    )
    state = net.state_dict()
    for name in set(report.loaded) - {"conv0.weight"}:
        assert torch.equal(state[name], weights[f"features.{name}"]), name
    kernel = weights["features.conv0.weight"]
    torch.testing.assert_close(net.conv0.weight.sum(1), kernel.sum(1))


@every_face
def test_deepcopy_pickle_and_state_dict(face: Face) -> None:
    net = small(face, num_classes=2).eval()
    expected = net(volume(), THICKNESS)
    fresh = small(face, num_classes=2).eval()
    fresh.load_state_dict(net.state_dict())
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fresh):
        assert torch.equal(other(volume(), THICKNESS), expected)


@every_face
def test_compiles_as_one_graph(face: Face) -> None:
    net = small(face, num_classes=2, block_config=(1, 1)).eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(volume(), THICKNESS), net(volume(), THICKNESS))


def test_runs_in_autocast() -> None:
    net = small(DenseNetCustomTrunc3dAlign, num_classes=2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(volume(), THICKNESS)
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


@every_face
def test_no_class_is_an_error(face: Face) -> None:
    with pytest.raises(ValueError, match=r"num_classes must be at least 1, got 0"):
        small(face, num_classes=0)


def test_wrong_input_is_named() -> None:
    net = small(DenseNetCustomTrunc3dAlign, num_classes=2)
    with pytest.raises(ValueError, match=r"x must be of shape \(N, C, D, H, W\), got \(2, 3, 32,"):
        net(volume()[:, :, 0], THICKNESS)
    with pytest.raises(ValueError, match=r"x must have 3 channels .* got shape \(2, 1, 3, 32, 32"):
        net(volume()[:, :1], THICKNESS)
    with pytest.raises(ValueError, match=r"thickness must be .* got None"):
        net(volume())
    with pytest.raises(ValueError, match=r"thickness must be of shape .* N = 2, got \(3,\)"):
        net(volume(), torch.ones(3))
    with pytest.raises(ValueError, match=r"built for dimension=3 slices, got a stack of 5"):
        small(DenseNetCustomTrunc3dA3D, num_classes=2)(volume(5))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"n_fold must be .*, got 1$"):
        small(DenseNetCustomTrunc3dTSM, n_fold=1)
    with pytest.raises(ValueError, match=r"ref_thickness must be > 0 mm and finite, got -1"):
        small(DenseNetCustomTrunc3dAlign, ref_thickness=-1)
    with pytest.raises(ValueError, match=r"dimension must be >= 1 slices, got 0"):
        small(DenseNetCustomTrunc3dA3D, num_slices=0)
