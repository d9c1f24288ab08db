"""The converter on real networks; the table in docs/architectures.md is what these tests find.

``UPDATE_DOCS=1 pytest tests/alignshift/converter/test_architectures.py`` writes the table.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alignshift import AlignShiftConv, ConversionReport, SliceNetwork, convert_to_3d
from deeplesion.io import atomic_write
from tests.alignshift.converter.architectures import ARCHITECTURES, Architecture
from tests.alignshift.converter.networks import rgb_slices

PAGE = Path(__file__).resolve().parents[3] / "docs" / "architectures.md"
TABLE = re.compile(r"(?<=<!-- table: begin -->\n).*(?=<!-- table: end -->)", re.DOTALL)
HEADER = """\
| network | from | parameters (M) | convolutions | converted | skipped | slice-wise layers \
| forward and backward | equals 2D per slice |
|---|---|---:|---:|---:|---:|---:|---|---|
"""
MINIMUM = 40

DEPTH = 3
# Slices as thin as the reference: channels move by a whole slice.
THICKNESS_MM = 1.0
# Of the largest output, in float64, where rounding is about 1e-16.
TOLERANCE = 1e-9
# By how much outputs must differ for their equality to mean something.
SPREAD = 1e-3

# Rows of the table by network and library.
Rows = dict[str, str]


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    """Rows of the table, from the tests that ran; written to the page where that is asked for."""
    found: Rows = {}
    yield found
    if os.environ.get("UPDATE_DOCS"):
        write_rows(found)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_architecture(architecture: Architecture, rows: Rows) -> None:
    skip_without(architecture.library)
    torch.manual_seed(0)
    model = architecture.build().double()
    shake_constants(model)
    volume = random_volume(architecture.size)
    images = rgb_slices(volume)
    trained = train_2d(model, images)
    with torch.no_grad():
        expected = model.eval()(images)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = repr(model)

    with expected_warning(architecture):
        net = convert_to_3d(model, AlignShiftConv, in_channels=1, **architecture.conversion)
    check_training(net, volume, trained)
    check_mixing(net, volume, architecture)
    assert repr(model) == layers
    assert before.keys() == model.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    size_2d = sum(p.numel() for p in model.parameters())
    with expected_warning(architecture):
        settings = {"alignshift": False, "in_place": True, **architecture.conversion}
        slice_wise = convert_to_3d(model, AlignShiftConv, in_channels=1, **settings)
    check_equal_2d(slice_wise, volume, expected)
    rows[architecture.label] = row_of(architecture, size_2d, net.report)
    if not os.environ.get("UPDATE_DOCS"):
        on_page = rows_of_page(PAGE.read_text(encoding="utf-8"))
        assert on_page[architecture.label] == rows[architecture.label]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        # One map of positions for all images; windows of an image side by side in the batch.
        ("xcit_nano_12_p16_224", 224, r"N = 1, D = 3, got \(1, 64, 14, 14\): .* skip="),
        ("efficientvit_m0", 224, r"N = 1, D = 3, got \(12, 16, 7, 7\): .* skip="),
    ],
)
def test_convolutions_of_something_else_than_slices_are_refused(
    name: str, size: int, message: str
) -> None:
    net = convert_to_3d(timm_model(name).eval(), AlignShiftConv)
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        net(torch.zeros(1, 1, DEPTH, size, size), torch.ones(1))


@pytest.mark.parametrize(
    ("name", "in_channels", "message"),
    [
        ("lambda_resnet26t", 1, r"layer stages\.2\.1\.self_attn\.conv_lambda \(Conv3d\)"),
        ("resnetv2_50x1_bit", 2, r"in_channels must be 1, 3 or None .* stem\.conv"),
        ("repvgg_a0", 2, r"in_channels must be 1, 3 or None .* stem\.conv_kxk"),
    ],
)
def test_layers_without_a_counterpart_are_refused(
    name: str, in_channels: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convert_to_3d(timm_model(name), AlignShiftConv, in_channels)


def timm_model(name: str) -> nn.Module:
    """A network of timm with random weights."""
    skip_without("timm")
    import timm

    return timm.create_model(name, pretrained=False)


def skip_without(library: str) -> None:
    """Skip where an optional library is not installed."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def expected_warning(architecture: Architecture) -> AbstractContextManager[Any]:
    """A network without a convolution beside the first says that it mixes nothing."""
    if architecture.convolution_free:
        return pytest.warns(UserWarning, match="no convolution became AlignShiftConv")
    return nullcontext()


def shake_constants(model: nn.Module) -> None:
    """Move parameters that begin as constants: a branch that begins at 0 would hide errors."""
    with torch.no_grad():
        for parameter in model.parameters():
            if bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)


def random_volume(size: int) -> Tensor:
    """One grey volume (1, 1, D, S, S) in float64 of blobs and noise, unlike in all slices."""
    blobs = F.interpolate(torch.randn(DEPTH, 1, 4, 4), (size, size), mode="bilinear")
    slices = (blobs + 0.5 * torch.randn(DEPTH, 1, size, size)) * torch.rand(DEPTH, 1, 1, 1).add(0.5)
    return slices.double().transpose(0, 1).unsqueeze(0)


def tensors(out: Any) -> Iterator[Tensor]:
    """Tensors of a nested output, in order."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, Mapping):
        yield from (tensor for value in out.values() for tensor in tensors(value))
    elif isinstance(out, list | tuple):
        yield from (tensor for value in out for tensor in tensors(value))


def backward(out: Any) -> None:
    """Send random gradients into every tensor of an output."""
    outputs = list(tensors(out))
    assert outputs
    assert all(torch.isfinite(tensor).all() for tensor in outputs)
    torch.autograd.backward(outputs, [torch.randn_like(tensor) for tensor in outputs])


def train_2d(model: nn.Module, images: Tensor) -> set[str]:
    """Train the 2D network for one forward and backward, which gives its norms their statistics.

    Returns:
        Names of the parameters that got a gradient; none keeps it.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    backward(model.train()(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return names


def check_training(net: SliceNetwork, volume: Tensor, trained: set[str]) -> None:
    """Every parameter that learns in the 2D network learns in the converted one."""
    backward(net.train()(volume, thickness(1)))
    gradients = {name: p.grad for name, p in net.model.named_parameters() if p.grad is not None}
    assert trained <= gradients.keys()
    assert [name for name, grad in gradients.items() if not torch.isfinite(grad).all()] == []
    net.zero_grad()


def check_mixing(net: SliceNetwork, volume: Tensor, architecture: Architecture) -> None:
    """Another slice 0 changes the output of slice 1 where a convolution mixes slices."""
    both = torch.cat([volume[:, :, [0, 1]], volume[:, :, [2, 1]]])
    with torch.no_grad():
        outputs = tensors(net.eval()(both, thickness(2)))
    second = [(out.movedim(2, 0)[1], out.abs().max()) for out in outputs]
    changes = [(out[0] - out[1]).abs().max() / largest for out, largest in second]
    if architecture.convolution_free:
        assert not net.report.converted
        assert max(changes) <= TOLERANCE
    else:
        assert net.report.converted
        assert max(changes) >= SPREAD


def check_equal_2d(net: SliceNetwork, volume: Tensor, expected: Any) -> None:
    """Without mixing, every slice gives what the 2D network gave for its RGB copy."""
    with torch.no_grad():
        out = net.eval()(volume, thickness(1))
    assert type(out) is type(expected)
    for got, wanted in zip(tensors(out), tensors(expected), strict=True):
        largest = wanted.abs().max()
        assert wanted.std(dim=0).max() >= SPREAD * largest
        assert got.shape[2 if got.ndim > 1 else 1] == DEPTH
        torch.testing.assert_close(
            got.movedim(2, 1).flatten(0, 1), wanted, rtol=0, atol=TOLERANCE * float(largest)
        )


def thickness(batch: int) -> Tensor:
    """Slice thickness of a batch, in mm."""
    return torch.full((batch,), THICKNESS_MM, dtype=torch.float64)


def row_of(architecture: Architecture, parameters: int, report: ConversionReport) -> str:
    """A row of the table; it stands for checks that passed."""
    converted, skipped = len(report.converted), len(report.skipped)
    numbers = (converted + skipped, converted, skipped, sum(report.slice_wise.values()))
    cells = (architecture.label, f"{parameters / 1e6:.1f}", *numbers, "yes", "yes")
    return f"| {' | '.join(map(str, cells))} |"


def rows_of_page(page: str) -> Rows:
    """Rows of the table on the page."""
    table = TABLE.search(page)
    assert table, f"{PAGE.name} has no markers of the table"
    lines = table[0].removeprefix(HEADER).splitlines()
    return {" | ".join(line.strip("| ").split(" | ")[:2]): line for line in lines}


def write_rows(rows: Rows) -> None:
    """Put rows into the table on the page, in the order of the networks."""
    page = PAGE.read_text(encoding="utf-8")
    on_page = rows_of_page(page) | rows
    kept = [on_page[a.label] for a in ARCHITECTURES if a.label in on_page]
    table = HEADER + "".join(f"{row}\n" for row in kept)
    with atomic_write(PAGE) as temporary:
        temporary.write_text(TABLE.sub(lambda _: table, page), encoding="utf-8")


def test_page_has_every_network_and_no_other() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert list(rows_of_page(page)) == [architecture.label for architecture in ARCHITECTURES]
    assert TABLE.search(page)[0].startswith(HEADER)
    assert len(ARCHITECTURES) >= MINIMUM
