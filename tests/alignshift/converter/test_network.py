"""A converted network at work: outputs, names, threads, recomputation, tools of PyTorch."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn

from alignshift import AlignShiftConv, SliceNetwork, convert_to_3d, load_2d_weights
from tests.alignshift.converter.networks import (
    DEPTH,
    SIZE,
    Checkpointed,
    EveryLayer,
    NestedOutputs,
    Outputs,
    volume,
)

THICKNESS = torch.tensor([1.0, 5.0])


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


def test_data_parallel_replicas_agree() -> None:
    net = converted()
    replica = net._replicate_for_data_parallel()
    assert torch.equal(replica(volume(), THICKNESS), net(volume(), THICKNESS))


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
