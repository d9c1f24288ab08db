"""Turning a 2D convolution into an operator, whatever kind of 2D convolution it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from .base import VOLUME_NDIM, SliceConv

__all__ = ["as_2d_convolutions", "combined_class", "swap_operator"]


def swap_operator(conv: nn.Conv2d, operator: type[SliceConv], **settings: Any) -> SliceConv:
    """Turn a 2D convolution into an operator, in place: its parameters and hooks stay.

    Convolutions that compute something of their own (weight standardization, padding like
    TensorFlow's, parametrized weights) go on doing so, on mixed slices. Lazy ones become the
    operator, and are checked, when their first input tells how many channels they have.

    Args:
        conv: The convolution; the same object afterwards is an instance of ``operator``.
        operator: Class of the operator.
        **settings: Its settings, see its `configure`.

    Returns:
        ``conv``.

    Raises:
        ValueError: If the settings do not fit, or the operator's kernel, which is more than a 2D
            one, cannot be had from this kind of convolution. ``conv`` is as it was then.
    """
    kind = type(conv)
    operator.check_convertible(conv)
    swapped = cast("SliceConv", conv)
    swapped.__class__ = combined_class(operator, kind)
    if isinstance(swapped, _ConfiguredLate):
        swapped.pending_settings = settings
        return swapped
    try:
        swapped.configure(**settings)
    except (TypeError, ValueError):
        conv.__class__ = kind
        raise
    return swapped


def combined_class(operator: type[SliceConv], conv: type[nn.Conv2d]) -> type[SliceConv]:
    """The class of an operator on top of a kind of 2D convolution.

    Args:
        operator: Class of the operator, which mixes slices and then asks its base to convolve.
        conv: `nn.Conv2d`, or a subclass, which convolves in its own way.

    Returns:
        ``operator`` itself for `nn.Conv2d`, else a subclass of both.
    """
    return operator if conv is nn.Conv2d else _combine((operator, conv))


@cache
def _combine(classes: tuple[type[SliceConv], type[nn.Conv2d]]) -> type[SliceConv]:
    operator, conv = classes
    namespace: dict[str, Any] = {"__reduce_ex__": _reduce, "combination": (operator, conv)}
    bases: tuple[type, ...] = (operator, conv)
    if issubclass(conv, LazyModuleMixin):
        bases = (_ConfiguredLate, *bases)
        namespace["cls_to_become"] = operator
    return type(f"{operator.__name__}On{conv.__name__}", bases, namespace)


class _ConfiguredLate:
    """A lazy convolution takes its settings once it knows its channels."""

    pending_settings: dict[str, Any]
    weight: Tensor
    groups: int

    def initialize_parameters(self, x: Tensor, *_thickness: Tensor | None) -> None:
        images = x[:, :, 0] if x.ndim == VOLUME_NDIM else x
        super().initialize_parameters(images)  # type: ignore[misc]
        # PyTorch forgets this where weights were loaded before the first input.
        self.in_channels = self.weight.shape[1] * self.groups
        self.configure(**self.__dict__.pop("pending_settings"))  # type: ignore[attr-defined]


@contextmanager
def as_2d_convolutions(model: nn.Module) -> Iterator[None]:
    """Turn the operators of a model back into 2D convolutions for a while.

    For code that looks at the classes of layers, such as initializations.

    Args:
        model: Changed in place, and changed back at the end.
    """
    operators = [m for m in model.modules() if isinstance(m, SliceConv)]
    classes = [type(operator) for operator in operators]
    for operator, kind in zip(operators, classes, strict=True):
        operator.__class__ = kind.combination[1] if kind.combination else nn.Conv2d  # type: ignore[assignment]
    try:
        yield
    finally:
        for operator, kind in zip(operators, classes, strict=True):
            operator.__class__ = kind


def _reduce(self: SliceConv, _protocol: int) -> tuple[Any, ...]:
    """Pickle by the two classes: the combined one has no name to be found by."""
    return _restore, type(self).combination, self.__getstate__()  # type: ignore[no-untyped-call]


def _restore(operator: type[SliceConv], conv: type[nn.Conv2d]) -> SliceConv:
    kind = combined_class(operator, conv)
    return kind.__new__(kind)
