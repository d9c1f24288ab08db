"""Optimizer steps that are not taken where a loss or a gradient is not finite.

A NaN that reaches the weights is there for good, and one that reaches the running statistics of a
batch norm spoils every validation to come. Both are kept as they were before the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

# What DistributedDataParallel and torch.compile put before the names of parameters.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class SkippedStep:
    """A step that was not taken.

    Attributes:
        gradient_norm: Norm of all gradients, NaN or infinite.
        parameters: Names of the parameters whose gradient is not finite.
        loss_scale: That of float16's scaler for this step; None without one.
        scale_adapts: Whether the next step has a lower one.
    """

    gradient_norm: float
    parameters: tuple[str, ...]
    loss_scale: float | None = None
    scale_adapts: bool = False


def poison_unless_finite(loss: Tensor) -> Tensor:
    """A loss that is not finite gives NaN for every gradient; any other is left as it is.

    Infinite losses may have finite gradients. By NaN all processes learn, through the sum of their
    gradients and without a message of its own, that one of them had such a loss; and a sum over
    several batches keeps it.

    Args:
        loss: A scalar.

    Returns:
        The loss, times 1 or NaN; nothing waits for the device.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan).to(loss.dtype)


class KeptBuffers:
    """A copy of a model's buffers, running statistics above all, to go back to.

    Memory for it is taken once; where the device has kernels over lists of tensors a copy takes
    only few of them.
    """

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._places: list[tuple[dict[str, Tensor | None], str]] = []
        self._copies: list[Tensor] = []

    def keep(self, model: nn.Module, values: list[Tensor] | None = None) -> None:
        """Copy the buffers of a model as they are now.

        Args:
            model: The same one every time, wrapped or not, or another.
            values: To keep instead, one for each buffer.
        """
        if model is not self._model:
            self._model = model
            self._places = [
                (module._buffers, name)
                for module in model.modules()
                for name, buffer in module._buffers.items()
                if buffer is not None
            ]
        buffers = self._buffers()
        if [(b.shape, b.dtype, b.device) for b in buffers] != [
            (c.shape, c.dtype, c.device) for c in self._copies
        ]:
            self._copies = [buffer.detach().clone() for buffer in buffers]
        else:
            _copy_all(self._copies, buffers)
        if values is not None:
            _copy_all(self._copies, values)

    def values(self) -> list[Tensor]:
        """What was kept, on the CPU."""
        return [copy.cpu() for copy in self._copies]

    def restore(self) -> None:
        """Give the model's buffers the values that were kept."""
        _copy_all(self._buffers(), self._copies)

    def _buffers(self) -> list[Tensor]:
        # By name every time: a module may put another tensor in a buffer's place.
        return [cast(Tensor, buffers[name]) for buffers, name in self._places]


@torch.no_grad()
def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    # Of one type at a time: a mixed list is copied one by one.
    for dtype in {target.dtype for target in targets}:
        pairs = [(t, s) for t, s in zip(targets, sources, strict=True) if t.dtype == dtype]
        torch._foreach_copy_([t for t, _ in pairs], [s for _, s in pairs])


class GuardedStep(OptimWrapper):
    """Mixin of optimizer wrappers that skips steps with a loss or gradient that is not finite.

    A skipped step leaves weights, the optimizer's state and buffers as they were before the first
    batch of the step; with gradient accumulation one bad batch drops the step of all of them. With
    DistributedDataParallel all processes skip the same steps. Steps that are taken are mmengine's
    own, to the bit: the norm that is checked is the one that gradients are clipped by, and, as
    there, the device is waited for once per step.

    Args:
        *args: See :class:`mmengine.optim.OptimWrapper`.
        **kwargs: See :class:`mmengine.optim.OptimWrapper`.

    Attributes:
        skipped: The step that the last batch ended with, if that was skipped.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped: SkippedStep | None = None
        self._kept_buffers = KeptBuffers()
        self._model: nn.Module | None = None
        self._step_has_begun = False

    @property
    def is_accumulating(self) -> bool:
        """Whether gradients are being accumulated for a step to come."""
        return self._step_has_begun

    def kept_buffers(self) -> list[Tensor]:
        """Buffers as they were before the step that is under way; none between steps."""
        return self._kept_buffers.values() if self._step_has_begun else []

    def go_on(self, model: nn.Module, kept: list[Tensor]) -> None:
        """Go on in the middle of a step.

        Args:
            model: The model, whose gradients are those of the batches before.
            kept: :meth:`kept_buffers` of then.
        """
        self._step_has_begun, self._model = True, model
        self._kept_buffers.keep(model, kept)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass; before the first one of a step buffers are kept.

        Args:
            model: The model, wrapped or not.
        """
        self.skipped = None
        if not self._step_has_begun:
            self._step_has_begun = True
            self._model = model
            self._kept_buffers.keep(model)
        inner = cast(AbstractContextManager, super().optim_context(model))
        with inner:
            yield

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward pass, and a step where one is due; see mmengine's.

        Args:
            loss: A scalar.
            *args: See :meth:`mmengine.optim.OptimWrapper.update_params`.
            **kwargs: See :meth:`mmengine.optim.OptimWrapper.update_params`.
        """
        super().update_params(poison_unless_finite(loss), *args, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients and step, or skip the step.

        Args:
            **kwargs: Those of the optimizer's ``step``.
        """
        self._step_has_begun = False
        self._unscale()
        norm = self._gradient_norm()
        value = float(norm)
        if math.isfinite(value):
            self._clip(norm, value)
            self._apply(**kwargs)
        else:
            self.skipped = SkippedStep(value, self._bad_parameters(), *self._loss_scale())
            self._drop()

    def _unscale(self) -> None:
        """Divide gradients by the scale of the loss."""

    def _loss_scale(self) -> tuple[float | None, bool]:
        """What the loss was multiplied by, and whether that adapts."""
        return None, False

    def _apply(self, **kwargs: Any) -> None:
        """Let the optimizer step."""
        self.optimizer.step(**kwargs)

    def _drop(self) -> None:
        """Undo what the batches of the step have changed."""
        self._kept_buffers.restore()

    def _gradient_norm(self) -> Tensor:
        options = self.clip_grad_kwargs or {}
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        return get_total_norm(
            gradients, float(options.get("norm_type", 2.0)), foreach=options.get("foreach")
        )

    def _clip(self, norm: Tensor, value: float) -> None:
        """What mmengine's does, with a norm that is known."""
        if not self.clip_grad_kwargs:
            return
        if self.clip_func is not torch.nn.utils.clip_grad_norm_:
            self._clip_grad()
            return
        options = self.clip_grad_kwargs
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        clip_grads_with_norm_(parameters, options["max_norm"], norm, options.get("foreach"))
        self.message_hub.update_scalar(f"train/{self.grad_name}", value)

    def _bad_parameters(self) -> tuple[str, ...]:
        named = self._model.named_parameters() if self._model is not None else ()
        return tuple(
            _bare(name)
            for name, parameter in named
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        )


def _bare(name: str) -> str:
    for prefix in WRAPPER_PREFIXES:
        name = name.replace(prefix, "")
    return name
