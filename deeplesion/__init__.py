"""Universal lesion detection in CT for mmdetection: importing this registers everything.

mmdetection's registries import the components, and PyTorch with them, when the first is asked for.
Modules that are plain numpy (``evaluation.froc``, ``datasets.dl_info``, ``datasets.ct`` ...) can be
imported where mmdetection is not installed; nothing is registered then.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("mmdet") is not None:
    from deeplesion.registration import register

    register()
