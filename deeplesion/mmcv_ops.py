"""``mmcv.ops`` without mmcv's compiled extension.

mmcv's operators call functions of the extension module ``mmcv._ext``, which has to be compiled for
one version of PyTorch and which many builds of mmcv come without. :func:`install` supplies it where
it is missing, with kernels of torchvision and torch in it; nothing else of mmcv is changed. None of
them is imported before an operator is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Literal, NoReturn

EXTENSION = "mmcv._ext"
NOT_COMPILED = "n/a (torchvision kernels)"


class TorchvisionExtension(ModuleType):
    """Stand-in for ``mmcv._ext``: operators that it does not have raise when they are called."""

    def __getattr__(self, name: str) -> Callable:
        # mmcv asserts at import that its operators exist; Python and debuggers ask for dunders.
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if (operator := _operators().get(name)) is not None:
            return operator

        def unavailable(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"mmcv operator {name!r} is not among the ones that torchvision's kernels serve "
                "here. It needs an mmcv with its compiled extension: "
                "https://mmcv.readthedocs.io/en/latest/get_started/build.html"
            )

        return unavailable


class _ExtensionLoader(Loader):
    """Fills the stand-in; a module without spec and loader breaks ``pkgutil`` look-ups."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return TorchvisionExtension(spec.name, "mmcv's extension, served by torchvision's kernels.")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: operators are looked up when they are asked for."""


def install() -> Literal["compiled", "torchvision"]:
    """Supply ``mmcv._ext`` where mmcv has none. Call it before ``mmcv.ops`` or mmdet is imported.

    Returns:
        What serves ``mmcv.ops`` from now on: ``"compiled"`` (mmcv's own extension, left alone) or
        ``"torchvision"``.

    Raises:
        ModuleNotFoundError: mmcv is not installed.
    """
    if _extension_spec() is None:
        loader = _ExtensionLoader()
        module = module_from_spec(ModuleSpec(EXTENSION, loader))
        loader.exec_module(module)
        sys.modules[EXTENSION] = module
    return "torchvision" if kernel_source() == "torchvision" else "compiled"


def kernel_source() -> Literal["compiled", "torchvision", "none"]:
    """What serves ``mmcv.ops``: mmcv's own extension, torchvision's kernels, or nothing.

    Raises:
        ModuleNotFoundError: mmcv is not installed.
    """
    if isinstance(sys.modules.get(EXTENSION), TorchvisionExtension):
        return "torchvision"
    return "none" if _extension_spec() is None else "compiled"


def _extension_spec() -> object | None:
    """The loaded extension, or how it would be found; None where there is none."""
    if EXTENSION in sys.modules:
        return sys.modules[EXTENSION]
    # Not by find_spec of the extension: that imports mmcv, and PyTorch with it.
    package = find_spec("mmcv")
    if package is None:
        raise ModuleNotFoundError("No module named 'mmcv'", name="mmcv")
    return PathFinder.find_spec(EXTENSION, package.submodule_search_locations)


@cache
def _operators() -> dict[str, Callable]:
    """The functions that torchvision's kernels serve, by mmcv's names."""
    from deeplesion.mmcv_kernels import boxes, deform_conv, focal_loss, ms_deform_attn, roi_align

    return {
        "nms": boxes.nms,
        "softnms": boxes.softnms,
        "roi_align_forward": roi_align.roi_align_forward,
        "roi_align_backward": roi_align.roi_align_backward,
        "sigmoid_focal_loss_forward": focal_loss.sigmoid_focal_loss_forward,
        "sigmoid_focal_loss_backward": focal_loss.sigmoid_focal_loss_backward,
        "deform_conv_forward": deform_conv.deform_conv_forward,
        "deform_conv_backward_input": deform_conv.deform_conv_backward_input,
        "deform_conv_backward_parameters": deform_conv.deform_conv_backward_parameters,
        "modulated_deform_conv_forward": deform_conv.modulated_deform_conv_forward,
        "modulated_deform_conv_backward": deform_conv.modulated_deform_conv_backward,
        "ms_deform_attn_forward": ms_deform_attn.ms_deform_attn_forward,
        "ms_deform_attn_backward": ms_deform_attn.ms_deform_attn_backward,
        # mmcv's and mmdet's collect_env ask by what the extension was compiled.
        "get_compiler_version": lambda: NOT_COMPILED,
        "get_compiling_cuda_version": lambda: NOT_COMPILED,
    }
