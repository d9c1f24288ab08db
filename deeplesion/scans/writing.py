"""Writing label maps in a scan's own geometry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.io import atomic_write
from deeplesion.scans.formats import is_utf8
from deeplesion.scans.orientation import Turn
from deeplesion.scans.scan import Scan

SUFFIXES = (".nii", ".nii.gz")


def write_labels(path: str | os.PathLike[str], labels: NDArray[Any], scan: Scan) -> None:
    """Write a label map as NIfTI that lies on the scan's own file, voxel by voxel.

    Args:
        path: Where to, ``*.nii.gz`` or ``*.nii``. A file there is replaced at once or not at all.
        labels: ``(D, H, W)`` as ``scan.hu``, uint8, uint16 or bool.
        scan: The scan; the file has the size, spacing, origin and direction of ``scan.stored``.

    Raises:
        ValueError: The suffix, the shape or the type is another.
    """
    import SimpleITK

    target = Path(path)
    suffix = next((end for end in reversed(SUFFIXES) if target.name.lower().endswith(end)), None)
    if suffix is None:
        raise ValueError(f"a label map is written as {' or '.join(SUFFIXES)}, got {target.name}")
    if not is_utf8(target):
        raise ValueError(f"the name of a label map must be UTF-8, got {str(target)!a}")
    if labels.shape != scan.hu.shape:
        raise ValueError(
            f"labels must have the shape of scan.hu {scan.hu.shape}, got {labels.shape}"
        )
    if labels.dtype not in (np.bool_, np.uint8, np.uint16):
        raise ValueError(f"labels must be uint8, uint16 or bool, got {labels.dtype}")
    if labels.dtype == np.bool_:
        labels = labels.view(np.uint8)
    stored = Turn.of(scan.stored).undo(labels)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(stored))
    image.SetOrigin(scan.stored.origin.tolist())
    image.SetSpacing(scan.stored.spacing.tolist())
    image.SetDirection(scan.stored.direction.ravel().tolist())
    with atomic_write(target) as temporary:
        # ITK goes by the whole suffix, of which the temporary file has the last part.
        named = temporary.with_name(f"{temporary.stem}.whole{suffix}")
        try:
            SimpleITK.WriteImage(image, str(named), useCompression=suffix.endswith(".gz"))
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)
