"""Has mmdetection find our components by name, without importing them before one is asked for.

mmengine's registries import what they list as locations before their first look-up. Ours is put
before mmdetection's own, so that ``import deeplesion`` costs a fraction of a second where PyTorch,
torchvision and mmdetection take ten.
"""

from __future__ import annotations

from importlib import import_module

import mmdet.registry
import mmengine.registry
from mmengine.registry import Registry

from deeplesion import mmcv_ops

LOCATION = "deeplesion.components"


def register() -> None:
    """Put our components where all registries of mmdetection and mmengine look first.

    Where one has looked already, the components are imported at once. ``mmcv.ops`` is served from
    now on, whatever is imported of mmdetection.
    """
    mmcv_ops.install()
    registries = _registries()
    for registry in registries:
        # A list of its own: registries without locations share one.
        if LOCATION not in registry._locations:
            registry._locations = [LOCATION, *registry._locations]
    if any(registry._imported for registry in registries):
        import_module(LOCATION)


def _registries() -> list[Registry]:
    """All of mmdetection's registries, and mmengine's, which its Runner asks directly."""
    modules = (mmdet.registry, mmengine.registry)
    items = (item for module in modules for item in vars(module).values())
    return [item for item in items if isinstance(item, Registry)]
