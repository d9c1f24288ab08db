"""Turning 2D convolutions of every kind into operators."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from alignshift.operators import AlignShiftConv, SliceConv, TSMConv, align_shift
from alignshift.operators.swap import as_2d_convolutions, combined_class, swap_operator
from tests.alignshift.operators.test_base import volume

THICKNESS = torch.tensor([1.0, 5.0])


class StandardizedConv(nn.Conv2d):
    """Convolves in a way of its own."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def by_slice(conv: nn.Module, x: Tensor) -> Tensor:
    """A 2D layer on every slice of a volume."""
    return torch.stack([conv(x[:, :, z]) for z in range(x.shape[2])], dim=2)


CONVS = {
    "plain": lambda: nn.Conv2d(8, 4, 3, padding=1),
    "reflecting": lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False),
    "standardized": lambda: StandardizedConv(8, 4, 3, padding=1),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(8, 4, 3, padding=1)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(8, 4, 3)).eval(),
}


@pytest.mark.parametrize("kind", list(CONVS))
def test_any_convolution_convolves_mixed_slices_as_it_did_images(kind: str) -> None:
    torch.manual_seed(0)
    conv, x = CONVS[kind](), volume()
    expected = by_slice(conv, align_shift(x, THICKNESS))
    names, weight = list(conv.state_dict()), conv.weight
    operator = swap_operator(conv, AlignShiftConv)
    assert operator is conv
    assert isinstance(operator, AlignShiftConv)
    assert operator.operator_name() == "AlignShiftConv"
    assert list(operator.state_dict()) == names
    assert torch.equal(operator.weight, weight)
    torch.testing.assert_close(operator(x, THICKNESS), expected)
    torch.testing.assert_close(copy.deepcopy(operator)(x, THICKNESS), expected)


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.* is deprecated:FutureWarning")
def test_the_old_weight_norm_goes_on_computing_the_weight() -> None:
    plain, x = nn.Conv2d(8, 4, 3, bias=False), volume()
    operator = swap_operator(nn.utils.weight_norm(copy.deepcopy(plain)), AlignShiftConv)
    with torch.no_grad():
        operator.weight_g.mul_(2)
        plain.weight.mul_(2)
    expected = by_slice(plain, align_shift(x, THICKNESS))
    torch.testing.assert_close(operator(x, THICKNESS), expected)


@pytest.mark.parametrize("kind", ["weight norm", "spectral norm"])
def test_parametrizations_can_be_removed_again(kind: str) -> None:
    conv, x = CONVS[kind](), volume()
    operator = swap_operator(conv, AlignShiftConv)
    expected = operator(x, THICKNESS)
    other = swap_operator(CONVS[kind](), AlignShiftConv)
    parametrize.remove_parametrizations(operator, "weight")
    assert type(operator) is AlignShiftConv
    torch.testing.assert_close(operator(x, THICKNESS), expected)
    # Layers do not share the class that the parametrization was taken off.
    other(x, THICKNESS).sum().backward()
    parametrize.register_parametrization(operator, "weight", nn.Identity())
    torch.testing.assert_close(operator(x, THICKNESS), expected)


def test_parametrized_convolutions_of_another_kind() -> None:
    conv, x = parametrizations.weight_norm(StandardizedConv(8, 4, 3, padding=1)), volume()
    before = type(conv)
    operator = swap_operator(conv, TSMConv)
    expected = operator(x)
    with as_2d_convolutions(nn.Sequential(operator)):
        assert type(operator) is before
    parametrize.remove_parametrizations(operator, "weight")
    assert type(operator) is combined_class(TSMConv, StandardizedConv)
    torch.testing.assert_close(operator(x), expected)


def test_classes_of_parametrized_convolutions_go_with_them() -> None:
    operator = swap_operator(CONVS["weight norm"](), TSMConv)
    kind = weakref.ref(type(operator))
    assert issubclass(kind(), TSMConv)
    del operator
    gc.collect()
    assert kind() is None


def test_plain_convolutions_become_the_operator_itself() -> None:
    assert type(swap_operator(nn.Conv2d(8, 4, 3), TSMConv)) is TSMConv
    assert combined_class(TSMConv, StandardizedConv) is combined_class(TSMConv, StandardizedConv)


def test_hooks_stay() -> None:
    conv, calls = nn.Conv2d(8, 4, 3), []
    conv.register_forward_hook(lambda *_: calls.append(1))
    swap_operator(conv, TSMConv)(volume())
    assert calls == [1]


def test_combined_classes_can_be_pickled() -> None:
    operator, x = swap_operator(StandardizedConv(8, 4, 3), TSMConv, n_fold=4), volume()
    for other in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
        assert type(other) is type(operator)
        assert torch.equal(other(x), operator(x))


def test_lazy_convolutions_are_settled_by_their_first_input() -> None:
    operator = swap_operator(nn.LazyConv2d(4, 3), AlignShiftConv, n_fold=4)
    assert "LazyConv2d" in repr(operator)
    x = volume()
    out = operator(x, THICKNESS)
    assert type(operator) is AlignShiftConv
    plain = nn.Conv2d(8, 4, 3)
    plain.load_state_dict(operator.state_dict())
    torch.testing.assert_close(out, by_slice(plain, align_shift(x, THICKNESS, n_fold=4)))


def test_lazy_convolutions_loaded_before_their_first_input() -> None:
    plain, x = nn.Conv2d(8, 4, 3, groups=2), volume()
    operator = swap_operator(nn.LazyConv2d(4, 3, groups=2), TSMConv, tsm=False)
    operator.load_state_dict(plain.state_dict())
    torch.testing.assert_close(operator(x), by_slice(plain, x))


def test_lazy_convolutions_are_checked_by_their_first_input() -> None:
    operator = swap_operator(nn.LazyConv2d(4, 3), AlignShiftConv, n_fold=9)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"n_fold must be between 2 .* \(8\), got 9"):
            operator(volume(), THICKNESS)


@pytest.mark.parametrize(
    ("settings", "error"), [({"n_fold": 1}, ValueError), ({"m": 1}, TypeError)]
)
def test_a_refused_convolution_stays_what_it_was(
    settings: dict[str, Any], error: type[Exception]
) -> None:
    conv = StandardizedConv(8, 4, 3)
    before = dict(vars(conv))
    with pytest.raises(error):
        swap_operator(conv, TSMConv, **settings)
    assert type(conv) is StandardizedConv
    assert vars(conv) == before


def test_operators_can_pass_as_2d_convolutions_for_a_while() -> None:
    model = nn.Sequential(
        swap_operator(nn.Conv2d(8, 8, 3), TSMConv),
        swap_operator(StandardizedConv(8, 8, 3), TSMConv),
        SliceConv(8, 8, 1),
    )
    classes = [type(layer) for layer in model]
    with as_2d_convolutions(model):
        assert [type(layer) for layer in model] == [nn.Conv2d, StandardizedConv, nn.Conv2d]
    assert [type(layer) for layer in model] == classes
    with pytest.raises(KeyError), as_2d_convolutions(model):
        raise KeyError
    assert [type(layer) for layer in model] == classes
