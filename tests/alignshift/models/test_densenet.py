"""The truncated DenseNet: torchvision per slice, memory, thickness, errors."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from alignshift import AlignShiftConv, TruncatedDenseNet3d, load_2d_weights
from alignshift.operators import OPERATORS as ALL_OPERATORS

SMALL = {"growth_rate": 8, "block_config": (2, 2, 2), "num_init_features": 16, "bn_size": 2}
THICKNESS = torch.tensor([1.0, 4.0])
OPERATORS: list[tuple[str | None, dict[str, Any]]] = [
    (None, {}),
    ("AlignShiftConv", {}),
    ("TSMConv", {}),
    ("A3DConv", {"dimension": 3}),
]
every_operator = pytest.mark.parametrize(
    ("operator", "kwargs"), OPERATORS, ids=["none", "align", "tsm", "a3d"]
)


def small(operator: Any = "AlignShiftConv", **kwargs: Any) -> TruncatedDenseNet3d:
    """A network of 12 convolutions in its dense layers."""
    torch.manual_seed(0)
    return TruncatedDenseNet3d(operator, **(SMALL | kwargs))


def volume(depth: int = 3, size: int = 32) -> Tensor:
    """Seeded noise of two samples."""
    return torch.randn(2, 1, depth, size, size, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module, *inputs: Tensor | None) -> list[Tensor]:
    """Of all parameters, of a loss over all maps."""
    loss = sum(level.square().mean() for level in model(*inputs))
    return list(torch.autograd.grad(loss, list(model.parameters())))


def torchvision_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Maps after the first three dense blocks of a torchvision DenseNet."""
    maps = []
    for name, module in network.features.named_children():
        images = module(images)
        if name.startswith("denseblock"):
            maps.append(images)
    return maps[:3]


@pytest.fixture(scope="module")
def densenet121() -> nn.Module:
    """torchvision's network with random weights and statistics."""
    torch.manual_seed(0)
    network = torchvision.models.densenet121(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network.eval()


def test_equals_torchvision_on_every_slice(densenet121: nn.Module) -> None:
    trunk = TruncatedDenseNet3d(None).eval()
    report = load_2d_weights(trunk, densenet121.state_dict())
    assert not report.missing
    x = volume(size=64)
    with torch.no_grad():
        maps = trunk(x)
        for z in range(3):
            expected = torchvision_maps(densenet121, x[:, :, z].expand(-1, 3, -1, -1))
            for actual, wanted in zip(maps, expected, strict=True):
                scale = wanted.abs().max()
                torch.testing.assert_close(actual[:, :, z] / scale, wanted / scale)


def test_takes_slices_as_channels_like_torchvision(densenet121: nn.Module) -> None:
    trunk = TruncatedDenseNet3d(None, in_channels=3).eval()
    load_2d_weights(trunk, densenet121.state_dict())
    images = volume(size=64).squeeze(1)
    with torch.no_grad():
        maps, expected = trunk(images.unsqueeze(2)), torchvision_maps(densenet121, images)
    for actual, wanted in zip(maps, expected, strict=True):
        scale = wanted.abs().max()
        torch.testing.assert_close(actual.squeeze(2) / scale, wanted / scale)


@every_operator
def test_default_channels_strides_and_names(operator: str | None, kwargs: dict[str, Any]) -> None:
    with torch.device("meta"):
        trunk = TruncatedDenseNet3d(operator, kwargs)
        names = set(torchvision.models.densenet121(weights=None).features.state_dict())
        maps = trunk(torch.empty(2, 1, 3, 64, 64), torch.empty(2))
    assert trunk.out_channels == (256, 512, 1024)
    assert [tuple(level.shape) for level in maps] == [
        (2, 256, 3, 16, 16),
        (2, 512, 3, 8, 8),
        (2, 1024, 3, 4, 4),
    ]
    extra = {name for name in trunk.state_dict() if name not in names}
    assert all(name.endswith("adaptive_align_weights") for name in extra)
    assert len(extra) == (84 if operator == "A3DConv" else 0)


@pytest.mark.parametrize("operator", sorted(ALL_OPERATORS))
def test_every_operator_by_name_loads_2d_weights_and_trains(operator: str) -> None:
    source = small(None)
    model = small(operator, num_classes=2)
    report = load_2d_weights(model, source.state_dict())
    assert not report.skipped
    for name, weight in source.named_parameters():
        loaded = model.get_parameter(name)
        # A kernel with a depth is the 2D one spread over it.
        torch.testing.assert_close(loaded.sum(2) if loaded.ndim == 5 else loaded, weight)
    logits = model(volume(), THICKNESS)
    assert logits.shape == (2, 2, 3, 32, 32)
    logits.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_kernels_begin_as_they_were_inflated() -> None:
    model = small("I3DConv", operator_kwargs={"inflate": "center"}).eval()
    kernel = model.denseblock1.denselayer1.conv2.weight
    assert kernel[:, :, 1].all()
    assert not kernel[:, :, [0, 2]].any()
    plain = small(None).eval()
    state = model.state_dict()
    plain.load_state_dict(
        {name: value.sum(2) if value.ndim == 5 else value for name, value in state.items()}
    )
    for actual, expected in zip(model(volume()), plain(volume()), strict=True):
        torch.testing.assert_close(actual, expected)


def test_features_of_a_network_with_classes_are_its_maps() -> None:
    model = small(num_classes=2).eval()
    maps = small().eval()(volume(), THICKNESS)
    for actual, expected in zip(model.forward_features(volume(), THICKNESS), maps, strict=True):
        assert torch.equal(actual, expected)
    logits = model.head(maps, (32, 32), THICKNESS)
    assert torch.equal(model(volume(), THICKNESS), logits)


@every_operator
def test_trains_in_channels_last(operator: str | None, kwargs: dict[str, Any]) -> None:
    model = small(operator, operator_kwargs=kwargs)
    for level, channels in zip(model(volume(), THICKNESS), model.out_channels, strict=True):
        assert level.shape[:3] == (2, channels, 3)
        assert level.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(gradient.isfinite().all() for gradient in gradients(model, volume(), THICKNESS))


def test_thickness_matters_only_where_it_is_used() -> None:
    thin, thick = torch.tensor([1.0, 1.0]), torch.tensor([9.0, 9.0])
    for operator, differs in (("AlignShiftConv", True), ("TSMConv", False), (None, False)):
        model = small(operator).eval()
        assert torch.equal(model(volume(), thin)[-1], model(volume(), thick)[-1]) is not differs


def test_unknown_thickness_is_the_2d_network() -> None:
    align, plain = small().eval(), small(None).eval()
    plain.load_state_dict(align.state_dict())
    unknown = torch.full((2,), float("nan"))
    for actual, expected in zip(align(volume(), unknown), plain(volume()), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("depth", [1, 4])
def test_any_depth_and_odd_sizes(depth: int) -> None:
    maps = small()(volume(depth, size=45), THICKNESS)
    assert [level.shape[2:] for level in maps] == [(depth, 12, 12), (depth, 6, 6), (depth, 3, 3)]


@every_operator
def test_memory_efficient_changes_nothing(operator: str | None, kwargs: dict[str, Any]) -> None:
    """Running statistics included: the second pass over a batch must not count."""
    kept = small(operator, operator_kwargs=kwargs)
    frugal = small(operator, operator_kwargs=kwargs, memory_efficient=True)
    results = [gradients(model, volume(), THICKNESS) for model in (kept, frugal)]
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)
    for expected, actual in zip(kept.buffers(), frugal.buffers(), strict=True):
        assert torch.equal(actual, expected)
    assert frugal.denseblock1.denselayer1.norm1.momentum == 0.1


def test_memory_efficient_repeats_its_dropout() -> None:
    kept, frugal = small(drop_rate=0.5), small(drop_rate=0.5, memory_efficient=True)
    results = []
    for model in (kept, frugal):
        torch.manual_seed(3)
        results.append(gradients(model, volume(), THICKNESS))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_dropout_is_off_in_evaluation() -> None:
    model = small(drop_rate=0.5).eval()
    assert torch.equal(model(volume(), THICKNESS)[-1], model(volume(), THICKNESS)[-1])


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_compiles_as_one_graph(memory_efficient: bool) -> None:
    model = small(block_config=(1, 1), memory_efficient=memory_efficient).eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    actual, expected = compiled(volume(), THICKNESS), model(volume(), THICKNESS)
    torch.testing.assert_close(actual, expected)


def test_runs_in_autocast() -> None:
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(volume(), THICKNESS)
        sum(level.float().square().mean() for level in maps).backward()
    assert maps[-1].dtype == torch.bfloat16
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_channels_last_weights_are_taken() -> None:
    model = small().eval()
    expected = model(volume(), THICKNESS)
    actual = copy.deepcopy(model).to(memory_format=torch.channels_last)(volume(), THICKNESS)
    torch.testing.assert_close(actual, expected)


def test_deepcopy_and_pickle() -> None:
    model = small(memory_efficient=True).eval()
    expected = model(volume(), THICKNESS)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(volume(), THICKNESS)[-1], expected[-1])


def test_operator_by_class_and_with_arguments() -> None:
    model = small(AlignShiftConv, operator_kwargs={"ref_thickness": 5.0})
    convs = [module for module in model.modules() if isinstance(module, AlignShiftConv)]
    assert len(convs) == 12
    assert {conv.ref_thickness for conv in convs} == {5.0}


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"operator must be one of A3DConv, .* got 'Align'"):
        small("Align")
    with pytest.raises(
        ValueError, match=r"x must have 1 channels .* got shape \(2, 3, 1, 32, 32\)"
    ):
        small()(volume().transpose(1, 2), THICKNESS)
    with pytest.raises(ValueError, match=r"thickness must be .* got None"):
        small()(volume())
    with pytest.raises(ValueError, match="built for dimension=3 slices, got a stack of 5"):
        small("A3DConv", operator_kwargs={"dimension": 3})(volume(5))
