"""Fused dense blocks against the same layers one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alignshift import AlignShiftConv, TruncatedDenseNet3d
from alignshift.models import workspace
from alignshift.models.fused_block import can_fuse

SMALL = {"growth_rate": 8, "block_config": (2, 3), "num_init_features": 16, "bn_size": 2}
THICKNESS = torch.tensor([1.0, 3.0])
OPERATORS: list[tuple[str | None, dict[str, Any]]] = [
    (None, {}),
    ("AlignShiftConv", {}),
    ("AlignShiftConv", {"shift_padding_zero": True, "inplace": False}),
    ("AlignShiftConv", {"alignshift": False}),
    ("TSMConv", {}),
    ("TSMConv", {"tsm": False}),
]


def pair(
    operator: str | None = "AlignShiftConv", settings: dict[str, Any] | None = None, **kwargs: Any
) -> tuple[TruncatedDenseNet3d, TruncatedDenseNet3d]:
    """A fused network and one that is not, with the same weights and statistics."""
    torch.manual_seed(0)
    fused, plain = (
        TruncatedDenseNet3d(operator, settings, fused=on, **(SMALL | kwargs)).double()
        for on in (True, False)
    )
    for module in fused.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1, 1)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    plain.load_state_dict(fused.state_dict())
    return fused, plain


def volume(batch: int = 2, depth: int = 3, size: int = 24) -> Tensor:
    """Seeded noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 1, depth, size, size, generator=generator, dtype=torch.float64)


def results(model: nn.Module, x: Tensor, thickness: Tensor = THICKNESS) -> list[Tensor]:
    """Maps, gradients by the input and all parameters, and buffers after one training step."""
    x = x.clone().requires_grad_()
    maps = model(x, thickness)
    loss = sum((m * torch.linspace(-1, 1, m.numel()).view_as(m)).sum() for m in maps)
    gradients = torch.autograd.grad(loss, [x, *model.parameters()])
    return [*(m.detach() for m in maps), *gradients, *model.buffers()]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["batch", "running"])
@pytest.mark.parametrize("memory_efficient", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("operator", "settings"), OPERATORS, ids=str)
def test_gives_what_the_layers_give(
    operator: str | None, settings: dict[str, Any], memory_efficient: bool, training: bool
) -> None:
    fused, plain = pair(operator, settings, memory_efficient=memory_efficient)
    fused.train(training)
    plain.train(training)
    assert_same(results(fused, volume()), results(plain, volume()))
    with torch.no_grad():
        assert_same(fused(volume(), THICKNESS), plain(volume(), THICKNESS))


@pytest.mark.parametrize("chunk_bytes", [1, 5_000, 1 << 30])
@pytest.mark.parametrize("depth", [1, 4])
def test_chunks_change_nothing(
    chunk_bytes: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "CHUNK_BYTES", chunk_bytes)
    fused, plain = pair()
    x = volume(depth=depth, size=44)  # 11 rows, and 5: not a whole number of chunks
    assert_same(results(fused, x), results(plain, x))


@pytest.mark.parametrize("path", ["denselayer1.norm1", "denselayer2.norm2", "denselayer3.norm1"])
def test_some_norms_may_be_frozen(path: str) -> None:
    networks = pair()
    for model in networks:
        model.train()
        model.denseblock2.get_submodule(path).eval()
    assert_same(*(results(model, volume()) for model in networks))


def test_frozen_parameters_get_no_gradient() -> None:
    fused, _ = pair()
    frozen = fused.denseblock1.denselayer1.conv1.weight.requires_grad_(False)
    sum(m.sum() for m in fused(volume(), THICKNESS)).backward()
    assert frozen.grad is None
    assert all(p.grad is not None for p in fused.parameters() if p is not frozen)


def test_cumulative_averages_are_tracked() -> None:
    networks = pair()
    for model in networks:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        results(model.train(), volume())
    assert_same(*(results(model, 2 * volume()) for model in networks))


def test_weights_may_be_given_from_outside() -> None:
    fused, plain = pair()
    doubled = {name: 2 * p.detach() for name, p in fused.named_parameters()}
    outputs = [
        torch.func.functional_call(model.eval(), doubled, (volume(), THICKNESS))
        for model in (fused, plain)
    ]
    assert_same(*outputs)


def test_keeps_features_and_bottlenecks_only() -> None:
    for memory_efficient, bottlenecks in ((False, 2), (True, 0)):
        fused, _ = pair(block_config=(2,), memory_efficient=memory_efficient)
        block, x = fused.denseblock1, torch.randn(6, 16, 8, 8, dtype=torch.float64)
        parameters = {id(p) for p in block.parameters()}
        saved: list[Tensor] = []

        def pack(tensor: Tensor, saved: list[Tensor] = saved) -> Tensor:
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            block(x, 3, THICKNESS).sum().backward()
        shapes = sorted(tuple(t.shape) for t in saved if id(t) not in parameters and t.ndim > 3)
        kept = [shape for shape in shapes if shape[-2:] not in ((1, 1), (3, 3))]
        assert kept == [(2, 3, 8, 8, 16)] * bottlenecks + [(6, 32, 8, 8)]


def test_bfloat16_autocast_is_as_good_as_the_layers() -> None:
    fused, plain = (model.float() for model in pair())
    x = volume().float()
    reference = results(plain.eval(), x)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = results(fused.eval(), x), results(plain.eval(), x)
    assert ours[0].dtype == torch.bfloat16
    for wanted, one, other in zip(reference, ours, theirs, strict=True):
        scale = wanted.abs().max() + 1e-12
        error, expected = ((t.float() - wanted).abs().max() / scale for t in (one, other))
        assert error <= 2 * expected + 1e-2


def test_gradients_of_gradients_need_layers_one_by_one() -> None:
    fused, plain = pair()
    x = volume().requires_grad_()

    def twice(model: nn.Module) -> None:
        (grad,) = torch.autograd.grad(model(x, THICKNESS)[-1].square().sum(), x, create_graph=True)
        torch.autograd.grad(grad.square().sum(), x)

    twice(plain)
    with pytest.raises(RuntimeError, match="build the network with fused=False"):
        twice(fused)


def test_one_value_per_channel_has_no_variance() -> None:
    fused, plain = pair(block_config=(1,))
    for model in (fused, plain):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model.train()(volume(1, 1, size=4), THICKNESS[:1])


class Reversed(AlignShiftConv):
    """An operator of a user, which mixes in its own way."""

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        return x.flip(2)


def fuses(block: nn.Module) -> bool:
    """Whether a block is fused, for features as there may be."""
    return can_fuse(list(block.children()), torch.ones(2, 16, 4, 4))


def _hook(model: nn.Module) -> None:
    model.denseblock1.denselayer1.conv1.register_forward_hook(lambda *args: None)


def _group_norm(model: nn.Module) -> None:
    model.denseblock1.denselayer1.norm1 = nn.GroupNorm(2, 16)


def _no_statistics(model: nn.Module) -> None:
    model.denseblock1.denselayer1.norm1 = nn.BatchNorm2d(16, track_running_stats=False)


def _tracks_no_more(model: nn.Module) -> None:
    model.denseblock1.denselayer1.norm1.track_running_stats = False


def _count_nothing(model: nn.Module) -> None:
    model.denseblock1.denselayer1.norm1.num_batches_tracked = None


def _pad_by_reflection(model: nn.Module) -> None:
    model.denseblock1.denselayer1.conv2.padding_mode = "reflect"


def _group_channels(model: nn.Module) -> None:
    model.denseblock1.denselayer1.conv2.groups = 2


def _pad_by_name(model: nn.Module) -> None:
    model.denseblock1.denselayer1.conv2.padding = "same"


def _parametrize(model: nn.Module) -> None:
    torch.nn.utils.parametrizations.weight_norm(model.denseblock1.denselayer1.conv2)


@pytest.mark.parametrize(
    "change",
    [
        _hook,
        _group_norm,
        _no_statistics,
        _tracks_no_more,
        _count_nothing,
        _pad_by_reflection,
        _group_channels,
        _pad_by_name,
        _parametrize,
    ],
    ids=lambda f: f.__name__,
)
def test_what_would_be_passed_over_is_not_fused(change: Any) -> None:
    fused, _ = pair()
    assert fuses(fused.denseblock1)
    change(fused.float())
    assert not fuses(fused.denseblock1)
    assert fuses(fused.denseblock2)


def test_operators_of_users_are_not_fused() -> None:
    torch.manual_seed(0)
    model = TruncatedDenseNet3d(Reversed, **SMALL).eval()
    assert not fuses(model.denseblock1)
    x = volume().float()
    # Two flips a layer cancel out; AlignShift would be something else.
    plain = TruncatedDenseNet3d(None, **SMALL).eval()
    plain.load_state_dict(model.state_dict())
    for actual, expected in zip(model(x, THICKNESS), plain(x, THICKNESS), strict=True):
        torch.testing.assert_close(actual, expected)


def test_dropout_at_work_is_not_fused() -> None:
    block = pair(drop_rate=0.5)[0].train().denseblock1
    assert not fuses(block)
    assert fuses(block.eval())


def test_counting_of_flops_sees_the_layers() -> None:
    fused, plain = (model.eval() for model in pair())
    counts = []
    for model in (fused, plain):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            assert not fuses(model.denseblock1)
            model(volume(), THICKNESS)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    assert fuses(fused.denseblock1)


def test_other_padding_is_kept() -> None:
    networks = pair(settings={"padding_mode": "reflect"})
    assert_same(*(results(model.eval(), volume()) for model in networks))


def test_replicas_of_data_parallel_train() -> None:
    """Their weights are attributes that `parameters` does not list."""
    fused, plain = pair()
    outputs = []
    for model in (fused, plain):
        replica = copy.deepcopy(model).train()
        weights = []
        for module in replica.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    del module._parameters[name]
                    weights.append(parameter.detach().clone().requires_grad_())
                    module.__dict__[name] = weights[-1]
        sum(m.sum() for m in replica(volume(), THICKNESS)).backward()
        outputs.append([weight.grad for weight in weights])
    assert_same(*outputs)


def test_nothing_in_training_is_nothing() -> None:
    fused, plain = pair()
    for model in (fused, plain):
        maps = model.train()(volume(0), THICKNESS[:0])
        assert [m.shape[0] for m in maps] == [0, 0]
    assert_same(list(fused.buffers()), list(plain.buffers()))


def test_transforms_of_functions_get_the_layers() -> None:
    fused, plain = pair()

    def loss(weights: dict[str, Tensor], model: nn.Module) -> Tensor:
        maps = torch.func.functional_call(model.eval(), weights, (volume(), THICKNESS))
        return sum(m.square().mean() for m in maps)

    gradients = [
        torch.func.grad(loss)({n: p.detach() for n, p in model.named_parameters()}, model)
        for model in (fused, plain)
    ]
    assert_same(*(list(gradient.values()) for gradient in gradients))


def test_hooks_see_all_slices_at_once() -> None:
    fused, _ = pair()
    seen: list[int] = []
    for path in ("conv0", "norm0", "transition1.norm", "transition1.conv"):
        module = fused.eval().get_submodule(path)
        module.register_forward_hook(lambda m, i, out: seen.append(out.numel() // out[0].numel()))
    with torch.no_grad():
        fused(volume(), THICKNESS)
    assert seen == [6, 6, 6, 6]


def test_norms_without_running_statistics_see_all_slices() -> None:
    fused, plain = pair()
    for model in (fused, plain):
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(model.norm0, name, None)
        model.norm0.track_running_stats = False
    maps = [fused.eval()(volume(), THICKNESS)]
    with torch.no_grad():
        maps.append(plain.eval()(volume(), THICKNESS))
    assert_same(*([m.detach() for m in each] for each in maps))
