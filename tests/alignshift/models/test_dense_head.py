"""The head for dense logits: hand-computed values, sizes, mixing, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from alignshift import A3DConv, AlignShiftConv, SliceConv, TSMConv
from alignshift.models import DenseHead

CHANNELS = (6, 8, 10)


def levels(depth: int = 3, size: int = 8) -> list[Tensor]:
    """Seeded maps of two samples at strides that double."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, c, depth, size >> i, size >> i) for i, c in enumerate(CHANNELS)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def head(operator: type[SliceConv] = SliceConv, **kwargs: int) -> DenseHead:
    """A narrow head of three classes."""
    torch.manual_seed(0)
    return DenseHead(CHANNELS, 3, operator, kwargs, channels=8)


@torch.no_grad()
def test_value_computed_by_hand() -> None:
    """Two levels of 2x2 and 1x1 pixels, all weights 1, only the kernel's center."""
    model = DenseHead((1, 1), 1, channels=1).eval()
    for module in (*model.laterals, model.classifier):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    model.classifier.bias.fill_(0.5)
    nn.init.zeros_(model.conv.weight)[0, 0, 1, 1] = 2.0
    model.norm.eps = 0.0
    fine = torch.tensor([[1.0, -9.0], [3.0, 4.0]]).view(1, 1, 1, 2, 2)
    coarse = torch.full((1, 1, 1, 1, 1), 1.0)
    # relu(2 * (fine + 1)) + 0.5, and bilinear upsampling by two: quarters of the way.
    expected = torch.tensor([[4.5, 0.5], [8.5, 10.5]])
    assert torch.equal(model([fine, coarse], (2, 2)), expected.view(1, 1, 1, 2, 2))
    row = model([fine, coarse], (4, 4))[0, 0, 0, 0]
    torch.testing.assert_close(row, torch.tensor([4.5, 3.5, 1.5, 0.5]))


@pytest.mark.parametrize("size", [(32, 32), (29, 31), (7, 50), (1, 1)])
def test_logits_have_the_size_asked_for(size: tuple[int, int]) -> None:
    assert head()(levels(), size).shape == (2, 3, 3, *size)


@pytest.mark.parametrize(
    ("operator", "kwargs", "mixes"),
    [
        (SliceConv, {}, False),
        (TSMConv, {"n_fold": 4}, True),
        (AlignShiftConv, {"n_fold": 4}, True),
        (A3DConv, {"dimension": 3}, True),
    ],
)
def test_slices_meet_only_through_the_operator(
    operator: type[SliceConv], kwargs: dict[str, int], mixes: bool
) -> None:
    model, thickness = head(operator, **kwargs).eval(), torch.tensor([2.0, 2.0])
    maps = levels()
    before = model(maps, (16, 16), thickness)
    for level in maps:
        level[:, :, 2] += 1
    after = model(maps, (16, 16), thickness)
    assert torch.equal(before[:, :, 1], after[:, :, 1]) is not mixes
    assert not torch.equal(before[:, :, 2], after[:, :, 2])


def test_maps_are_not_changed() -> None:
    maps = levels()
    copies = [level.clone() for level in maps]
    head()(maps, (16, 16))
    assert all(torch.equal(level, copy) for level, copy in zip(maps, copies, strict=True))


def test_layout_of_the_maps_does_not_matter() -> None:
    model = head().eval()
    last = [level.contiguous(memory_format=torch.channels_last_3d) for level in levels()]
    torch.testing.assert_close(model(last, (16, 16)), model(levels(), (16, 16)))


@pytest.mark.parametrize("classes", [0, -2])
def test_no_class_is_an_error(classes: int) -> None:
    with pytest.raises(ValueError, match=rf"num_classes must be at least 1, got {classes}"):
        DenseHead(CHANNELS, classes)


def test_settings_of_the_operator_are_checked() -> None:
    with pytest.raises(ValueError, match=r"n_fold must be .*, got 9"):
        head(TSMConv, n_fold=9)


def test_another_number_of_maps_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        head()(levels()[:2], (16, 16))
