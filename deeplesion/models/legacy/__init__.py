"""The numerics of mmdetection 1.x, with which the published detectors were trained.

Pixel ``x`` covers ``[x, x + 1)`` there and a box ends with its last pixel, so that widths are
``x2 - x1 + 1`` throughout. ``configs/_base_/models/mask-rcnn_densenet121_legacy.py`` puts the
components together.
"""
