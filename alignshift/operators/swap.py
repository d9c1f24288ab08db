"""Turning a 2D convolution into an operator, whatever kind of 2D convolution it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from .base import SliceConv
from .checks import VOLUME_NDIM
from .context import SliceContext

__all__ = ["as_2d_convolutions", "combined_class", "swap_operator"]


def swap_operator(conv: nn.Conv2d, operator: type[SliceConv], **settings: Any) -> SliceConv:
    """Turn a 2D convolution into an operator, in place: its parameters and hooks stay.

    Convolutions that compute something of their own (weight standardization, padding like
    TensorFlow's, parametrized weights) go on doing so, on mixed slices. Lazy ones become the
    operator, and are checked, when their first input tells how many channels they have; in a
    converted network those too narrow for the operator become a `SliceConv`, which mixes nothing.

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
    parametrized = parametrize.is_parametrized(conv)
    make_class = _parametrized_class if parametrized else combined_class
    swapped.__class__ = make_class(operator, kind)
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
    namespace: dict[str, Any] = {
        "__reduce_ex__": _reduce,
        "combination": (operator, conv),
        "forward": _forward_like(conv),
    }
    bases: tuple[type, ...] = (operator, conv)
    if issubclass(conv, LazyModuleMixin):
        bases = (_ConfiguredLate, *bases)
        namespace["cls_to_become"] = operator
    return type(f"{operator.__name__}On{conv.__name__}", bases, namespace)


def _forward_like(conv: type[nn.Conv2d]) -> Callable[..., Tensor]:
    """A forward that takes, in a converted network, what that of a 2D convolution takes."""
    _self, images_name, *_ = [*inspect.signature(conv.forward).parameters, "input"]

    def forward(self: SliceConv, *args: Any, **kwargs: Any) -> Tensor:
        images, *others = args or (kwargs.pop(images_name),)
        if self.context is None:
            return SliceConv.forward(self, images, *others, **kwargs)
        return self.forward_images(images, *others, **kwargs)

    return forward


def _parametrized_class(operator: type[SliceConv], conv: type[nn.Conv2d]) -> type[SliceConv]:
    """The class of an operator on top of a parametrized 2D convolution.

    PyTorch makes a class for each such layer, with the computed tensors as properties, over the one
    to go back to. Both stay in their places, where `parametrize.remove_parametrizations` looks.
    """
    names = vars(conv).keys() - {"__dict__", "__weakref__"}
    namespace = {name: vars(conv)[name] for name in names}
    below = combined_class(operator, conv.__bases__[0])
    namespace["combination"] = (operator, conv)
    return type(f"Parametrized{below.__name__}", (below,), namespace)


class _ConfiguredLate:
    """A lazy convolution takes its settings once it knows its channels."""

    pending_settings: dict[str, Any]
    context: SliceContext | None
    weight: Tensor
    groups: int

    def initialize_parameters(self, input: Tensor, *_: Any, **__: Any) -> None:
        images = input[:, :, 0] if input.ndim == VOLUME_NDIM else input
        super().initialize_parameters(images)  # type: ignore[misc]
        # PyTorch forgets this where weights were loaded before the first input.
        self.in_channels = self.weight.shape[1] * self.groups
        layer = cast("SliceConv", self)
        narrow = self.in_channels < layer.min_channels(self.pending_settings)
        if narrow and self.context is not None:
            # What the converter does with layers whose width it can see.
            self.cls_to_become = SliceConv
        else:
            layer.configure(**self.pending_settings)
        del self.pending_settings


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
