"""A converted network at work: outputs, names, threads, recomputation, tools of PyTorch."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.utils.checkpoint import checkpoint

from alignshift import OPERATORS, AlignShiftConv, SliceNetwork, convert_to_3d, load_2d_weights
from alignshift.operators import unfold_slices
from tests.alignshift.converter.networks import (
    DEPTH,
    SIZE,
    Checkpointed,
    EveryLayer,
    NestedOutputs,
    Outputs,
    rgb_slices,
    volume,
)

THICKNESS = torch.tensor([1.0, 5.0])
SETTINGS: dict[str, dict[str, Any]] = {"A3DConv": {"dimension": DEPTH}}


def converted(model: nn.Module | None = None) -> SliceNetwork:
    """A seeded AlignShift network in evaluation mode."""
    torch.manual_seed(0)
    return convert_to_3d(model or EveryLayer(), AlignShiftConv).eval()


def test_slices_are_the_third_axis_of_every_output() -> None:
    out = converted(NestedOutputs())(volume(), THICKNESS)
    assert [m.shape for m in out["maps"]] == [
        (2, 8, DEPTH, SIZE, SIZE),
        (2, 8, DEPTH, SIZE // 2, SIZE // 2),
    ]
    assert isinstance(out["tokens"], tuple)
    assert out["tokens"][0].shape == (2, SIZE * SIZE, DEPTH, 8)
    assert type(out["ordered"]) is OrderedDict
    assert out["ordered"]["out"].shape == (2, 8, DEPTH)
    assert type(out["named"]) is Outputs
    assert out["named"].aux.shape == (2, DEPTH)
    assert torch.equal(out["named"].aux, out["named"].logits.amax((1, 3, 4)))
    assert out["loss"].shape == ()
    assert out["none"] is None


@pytest.mark.parametrize(("batch", "depth"), [(0, 3), (1, 1), (3, 7)])
def test_any_batch_and_depth(batch: int, depth: int) -> None:
    out = converted(NestedOutputs())(volume(batch, depth), torch.ones(batch))
    assert out["maps"][0].shape == (batch, 8, depth, SIZE, SIZE)


def test_networks_that_join_slices_are_refused() -> None:
    class Joining(NestedOutputs):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.mix(self.conv(images)).sum(0, keepdim=True)

    with pytest.raises(ValueError, match=r"keep the slices apart .* N \* D = 6, got \(1, 8, 16"):
        converted(Joining())(volume(), THICKNESS)


def test_a_layer_that_sees_something_else_than_the_slices_is_refused() -> None:
    class Tiling(NestedOutputs):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.mix(self.conv(images).repeat(2, 1, 1, 1))

    with pytest.raises(
        ValueError, match=r"layer mix must get slices.* got \(12, 8.*skip=\['mix'\]"
    ):
        converted(Tiling())(volume(), THICKNESS)


@pytest.mark.parametrize(
    ("shape", "thickness", "message"),
    [
        ((2, 1, 16, 16), THICKNESS, r"x must be of shape \(N, C, D, H, W\), got \(2, 1, 16, 16\)"),
        ((2, 1, 3, 16, 16), torch.ones(3), r"thickness must be of shape .* N = 2, got \(3,\)"),
        (
            (2, 1, 3, 16, 16),
            torch.ones(2).long(),
            "thickness must be floating point .* torch.int64",
        ),
        ((2, 1, 3, 16, 16), torch.ones(2, device="meta"), "thickness must be on cpu .* got meta"),
        ((2, 1, 3, 16, 16), None, "thickness must be the slice thickness in mm"),
    ],
)
def test_wrong_input_is_named(
    shape: tuple[int, ...], thickness: torch.Tensor | None, message: str
) -> None:
    net = converted()
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(shape), thickness)
    assert net.context.frame is None


def test_names_are_those_of_the_2d_network() -> None:
    model = torchvision.models.resnet18()
    net = convert_to_3d(model, AlignShiftConv, in_channels=3)
    assert list(net.state_dict()) == list(model.state_dict())
    other = torchvision.models.resnet18()
    net.load_state_dict(other.state_dict())
    assert torch.equal(net.model.layer4[1].conv2.weight, other.layer4[1].conv2.weight)
    inside = nn.ModuleDict({"backbone": net})
    assert next(iter(inside.state_dict())) == "backbone.conv1.weight"
    inside.load_state_dict({f"backbone.{k}": v for k, v in model.state_dict().items()})
    assert torch.equal(net.model.conv1.weight, model.conv1.weight)
    with pytest.raises(RuntimeError, match=r"Missing key.*fc\.bias"):
        net.load_state_dict({k: v for k, v in model.state_dict().items() if k != "fc.bias"})


def test_2d_weights_load_with_a_report() -> None:
    model = torchvision.models.resnet18(num_classes=7)
    net = convert_to_3d(torchvision.models.resnet18(), AlignShiftConv)
    report = load_2d_weights(net, model.state_dict())
    assert set(report.skipped) == set(report.missing) == {"fc.weight", "fc.bias"}
    kernel = model.conv1.weight.sum(1, keepdim=True)
    torch.testing.assert_close(net.model.conv1.weight, kernel)


def test_2d_weights_load_into_inflated_kernels() -> None:
    model = torchvision.models.resnet18()
    net = convert_to_3d(torchvision.models.resnet18(), "I3DConv", inflate="center")
    report = load_2d_weights(net, model.state_dict())
    assert not report.skipped
    assert not report.missing
    x = volume()
    expected = convert_to_3d(model, "SliceConv").eval()(x)
    torch.testing.assert_close(net.eval()(x), expected)


def test_one_inside_another_and_side_by_side() -> None:
    class Pair(nn.Module):
        """Gives slices of two thicknesses to two networks, one called from inside the other."""

        def __init__(self, inner: SliceNetwork) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)
            self.mix = nn.Conv2d(8, 8, 3)
            self.inner = [inner]  # hidden from the conversion: it is converted already

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = self.conv(images)
            self.seen = self.inner[0](volume(1, 5), torch.tensor([2.0]))
            return self.mix(x)

    inner = converted()
    alone = inner(volume(1, 5), torch.tensor([2.0]))
    plain = Pair(inner)
    net = convert_to_3d(plain, AlignShiftConv).eval()
    nested = net(volume(), THICKNESS)
    assert torch.equal(net.model.seen, alone)
    assert nested.shape == (2, 8, DEPTH, SIZE - 2, SIZE - 2)
    assert torch.equal(net(volume(), THICKNESS), nested)


def test_threads_share_a_network() -> None:
    net = converted()
    jobs = [
        (volume(1 + i % 3, 1 + i % 4, seed=i), torch.full((1 + i % 3,), 1.0 + i)) for i in range(8)
    ]
    expected = [net(*job) for job in jobs]
    results: dict[int, list[bool]] = {}

    def work(i: int) -> None:
        with torch.no_grad():
            results[i] = [torch.equal(net(*jobs[i]), expected[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(all(results[i]) for i in range(len(jobs)))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_computed_again_in_backward_are_those_of_their_forward(reentrant: bool) -> None:
    jobs = [(volume(2, 3, 1), THICKNESS), (volume(1, 5, 2), torch.tensor([3.0]))]
    gradients = []
    model = Checkpointed()
    for model.reentrant in (None, reentrant):
        net = converted(model).train()
        first, second = (net(*job) for job in jobs)
        # Both are recomputed after both forwards, the second one first.
        (first.square().sum() + second.sum()).backward()
        gradients.append([p.grad for p in net.parameters()])
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


def test_gradients_of_gradients_find_the_frame_too() -> None:
    results = []
    model = Checkpointed()
    for model.reentrant in (None, False):
        net = converted(model).train().double()
        x = volume().double().requires_grad_()
        # The second backward does not come by the output, whose gradient is a constant.
        (gradient,) = torch.autograd.grad(net(x, THICKNESS).sum(), x, create_graph=True)
        weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
        results.append(torch.autograd.grad(gradient.square().sum(), weights))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def test_copies_and_pickles_work_by_themselves() -> None:
    net = converted()
    expected = net(volume(), THICKNESS)
    others = [copy.deepcopy(net), pickle.loads(pickle.dumps(converted(NestedOutputs())))]
    del net
    gc.collect()
    assert torch.equal(others[0](volume(), THICKNESS), expected)
    assert next(iter(others[1].state_dict())) == "conv.weight"
    assert others[1](volume(), THICKNESS)["maps"][0].shape == (2, 8, DEPTH, SIZE, SIZE)
    assert others[1].report == converted(NestedOutputs()).report


def test_it_compiles_as_one_graph() -> None:
    net = converted(torchvision.models.resnet18())
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x = volume().requires_grad_()
    expected, out = net(x, THICKNESS), compiled(x, THICKNESS)
    torch.testing.assert_close(out, expected)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (expected, out)]
    torch.testing.assert_close(*gradients)


def test_it_can_be_exported() -> None:
    net = converted(torchvision.models.resnet18())
    program = torch.export.export(net, (volume(), THICKNESS)).module()
    x, thickness = volume(seed=3), torch.tensor([4.0, 2.5])
    torch.testing.assert_close(program(x, thickness), net(x, thickness))


def replicate(module: nn.Module) -> nn.Module:
    """What DataParallel makes on each device, which it does on GPUs alone."""
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        replica._modules[name] = replicate(child)
    for name, parameter in module.named_parameters(recurse=False):
        setattr(replica, name, parameter.detach().clone())
    return replica


def test_data_parallel_replicas_agree() -> None:
    # Parametrized modules cannot be replicated.
    net = converted(EveryLayer(weight_norm=False))
    jobs = [(volume(2, 3, 1), THICKNESS), (volume(1, 5, 2), torch.tensor([3.0]))]
    expected = [net(*job) for job in jobs]
    barrier = threading.Barrier(len(jobs))

    def wait_for_the_other(*_: object) -> None:
        barrier.wait(timeout=60)

    net.model.register_forward_pre_hook(wait_for_the_other)
    replicas = [replicate(net) for _ in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        results = list(threads.map(lambda replica, job: replica(*job), replicas, jobs))
    assert all(replica.model.stem is not net.model.stem for replica in replicas)
    assert all(map(torch.equal, results, expected))


@pytest.mark.parametrize("training", [True, False])
def test_it_is_in_the_mode_of_the_2d_network(training: bool) -> None:
    model = EveryLayer().train(training)
    model.layers[0].eval()
    net = convert_to_3d(model, AlignShiftConv)
    assert net.training is net.model.training is training
    assert not net.model.layers[0].training


@pytest.mark.parametrize("operator", list(OPERATORS))
@pytest.mark.parametrize("training", [True, False])
def test_the_volume_of_the_caller_is_left_alone(operator: str, training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(True), nn.Conv2d(8, 8, 3), nn.ReLU(True))
    settings = {"n_fold": 2} if "Shift" in operator or "TSM" in operator else SETTINGS.get(operator)
    net = convert_to_3d(model, operator, 2, skip_first_conv=False, **(settings or {}))
    assert not net.report.skipped
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.cat([volume(), volume(seed=1)], dim=1).contiguous(memory_format=memory_format)
        before, thickness = x.clone(), THICKNESS.clone()
        with torch.set_grad_enabled(training):
            net.train(training)(x, thickness)
        assert torch.equal(x, before)
        assert torch.equal(thickness, THICKNESS)


class InPlace(nn.Module):
    """Changes what a convolution returns, which only counts as its own where it is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.side = nn.Conv2d(8, 8, 1)

    def frozen(self, x: torch.Tensor) -> torch.Tensor:
        """A frozen layer whose result is added to."""
        with torch.no_grad():
            out = self.mix(x)
        return out.add_(self.side(x))

    def checkpointed(self, x: torch.Tensor) -> torch.Tensor:
        """A layer computed again in backward, before an activation in place."""
        return torch.relu_(checkpoint(self.mix, x, use_reentrant=True))

    def forward(self, images: torch.Tensor, way: str) -> torch.Tensor:
        """Maps."""
        return getattr(self, way)(self.stem(images))


@pytest.mark.parametrize("operator", list(OPERATORS))
@pytest.mark.parametrize("way", ["frozen", "checkpointed"])
def test_results_of_layers_may_be_changed_in_place(operator: str, way: str) -> None:
    net = convert_to_3d(InPlace(), operator, **SETTINGS.get(operator, {}))
    seen = []
    net.model.mix.register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
    out = net(volume(), THICKNESS, way)
    out.square().sum().backward()
    assert (net.model.mix.weight.grad is None) == (way == "frozen")
    assert torch.isfinite(net.model.stem.weight.grad).all()
    if way == "checkpointed":
        torch.testing.assert_close(out, unfold_slices(F.relu(seen[0]), DEPTH))


class Masked(nn.Conv2d):
    """A convolution that takes more than images."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 1.0):  # type: ignore[no-untyped-def]
        """Maps of masked images."""
        return super().forward(x if mask is None else x * mask) * scale


class Masking(nn.Module):
    """Gives its layers arguments by place and by name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.plain = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.masked, self.last = Masked(8, 8, 1), Masked(8, 8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps."""
        x = self.plain(input=self.stem(images))
        mask = (x > 0).float()
        return self.masked(x, mask) + self.masked(x=x, scale=2.0) + self.last(x, None, 3.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_layers_get_the_arguments_that_their_2d_class_takes(compiled: bool) -> None:
    model = Masking()
    expected = model(rgb_slices(volume())).view(2, DEPTH, 8, 14, 14).transpose(1, 2)
    net = convert_to_3d(model, "TSMConv", tsm=False)
    assert len(net.report.converted) == 3
    run = torch.compile(net, fullgraph=True, backend="aot_eager") if compiled else net
    torch.testing.assert_close(run(volume()), expected)


def test_arguments_that_a_layer_does_not_take_are_refused() -> None:
    class TooMany(NestedOutputs):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.mix(self.conv(images), torch.ones(6))

    net = converted(TooMany())
    with pytest.raises(TypeError, match="layer mix of a converted network must get images alone"):
        net(volume(), THICKNESS)


def test_layers_that_return_what_they_get_are_given_memory_of_their_own() -> None:
    class Gate(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gate, self.mix = nn.Conv2d(3, 8, 3), Gate(8, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = self.gate(self.stem(images))
            return self.mix(x) + x

    net = converted(Gated())
    expected = net(volume(), THICKNESS)
    with torch.no_grad():
        torch.testing.assert_close(net(volume(), THICKNESS), expected)


def test_state_of_the_2d_network_inside_for_tools_that_look_names_up() -> None:
    net = converted(torchvision.models.resnet18())
    state = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    out = torch.func.functional_call(net, state, (volume(), THICKNESS))
    assert torch.equal(out, net(volume(), THICKNESS))
    inside = get_model_state_dict(net.model)
    assert list(inside) == list(net.state_dict())
    other = converted(torchvision.models.resnet18().requires_grad_(False))
    set_model_state_dict(other.model, inside)
    assert torch.equal(other(volume(), THICKNESS), out)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    net = converted(torchvision.models.resnet18())
    expected = net(volume(), THICKNESS)
    out = copy.deepcopy(net).to(dtype)(volume().to(dtype), THICKNESS)
    assert out.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=tolerance)


def test_autocast() -> None:
    net = converted(torchvision.models.resnet18())
    expected = net(volume(), THICKNESS)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(volume(), THICKNESS)
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.1)
