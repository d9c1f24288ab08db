"""A small scan with three lesions, and the document that tells of them."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.lesions.document import build_document
from deeplesion.lesions.lesion import Lesion, SliceMask
from deeplesion.lesions.model_card import ModelCard
from deeplesion.lesions.pixels import PixelFormat
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan

EVIL = "</script><script>window.broken=1</script><img src=x onerror=window.broken=1>"
SECRET = "Doe^Jane"
SPACING = (0.7, 1.4, 2.5)


def make_scan(size: tuple[int, int, int] = (60, 40, 24), seed: int = 0) -> Scan:
    """A body of 40 HU with a lung of -850 HU in its middle, in air, with noise.

    Args:
        size: Voxels along x, y and z.
        seed: Of the noise.
    """
    width, height, depth = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    across, down = (x - width / 2 + 0.5) / (width / 2), (y - height / 2 + 0.5) / (height / 2)
    radius = np.hypot(across, down)
    plain = np.where(radius > 0.95, -1000, np.where(radius > 0.5, 40, -850))
    hu = plain[None] + rng.normal(0, 12, (depth, height, width))
    hu[-1, -1, -1], hu[0, 0, 0] = 3071, -1100
    direction = np.diag([1.0, 1.0, -1.0])
    geometry = Geometry(np.array([-20.0, -30.0, 100.0]), np.array(SPACING), direction, size)
    # The file counts slices from feet to head.
    bottom = geometry.to_patient([0, 0, depth - 1])
    stored = Geometry(bottom, np.array(SPACING), np.eye(3), size)
    return Scan(
        name=SECRET,
        format="NIfTI",
        hu=np.rint(hu).astype(np.int16),
        geometry=geometry,
        stored=stored,
        thickness=2.5,
        files=(Path(f"/data/{SECRET}.nii.gz"),),
        identity={"PatientName": SECRET},
        warnings=("2 slices were doubled and left out", f"read from {SECRET}.nii.gz"),
    )


def make_lesion(
    number: int, score: float, box: tuple[int, int, int, int], slices: range, key: int
) -> Lesion:
    """A lesion whose mask is an ellipse in the same box in every slice."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[y1 : y2 + 1, x1 : x2 + 1]
    across = (x - (x1 + x2) / 2) / ((x2 - x1 + 1) / 2)
    down = (y - (y1 + y2) / 2) / ((y2 - y1 + 1) / 2)
    mask = SliceMask(x1, y1, np.hypot(across, down) <= 1)
    count = len(slices)
    return Lesion(
        number=number,
        score=score,
        slices=np.array(slices),
        boxes=np.array([box] * count, np.float64),
        scores=np.where(np.array(slices) == key, score, score / 2),
        masks=(mask,) * count,
        key_slice=key,
    )


def make_lesions() -> list[Lesion]:
    """One in the lung, one in soft tissue, and one of a single slice with a low score."""
    return [
        make_lesion(1, 0.91, (24, 16, 33, 23), range(8, 13), 10),
        make_lesion(2, 0.55, (6, 17, 11, 22), range(3, 6), 4),
        make_lesion(3, 0.12, (50, 18, 53, 21), range(10, 11), 10),
    ]


def make_document(scan: Scan, lesions: list[Lesion], with_identity: bool = False) -> dict[str, Any]:
    """What ``lesions.json`` tells of them."""
    card = ModelCard("config_of_test.py", "c0" * 32, "epoch_20.pth", "ab" * 32, version="9.8.7")
    settings = {"score_threshold": 0.1, "linking": {"iou": 0.3}}
    return build_document(scan, lesions, card, settings, with_identity)


def decode(text: str, shape: tuple[int, int], pixels: PixelFormat) -> NDArray[np.int64]:
    """HU of a coded slice, pixel after pixel, as ``volume.js`` decodes it.

    Args:
        text: As :func:`deeplesion.lesions.pixels.encode_slice` gives.
        shape: Rows and columns of the slice in voxels.
        pixels: The format.
    """
    height, width = (-(-length // pixels.shrink) for length in shape)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(int)
    folded = planes[: height * width] + 256 * planes[height * width :]
    error = np.where(folded % 2, -(folded + 1) // 2, folded // 2).reshape(height, width)
    levels = np.zeros((height + 1, width + 1), int)
    for y in range(height):
        for x in range(width):
            left, up, corner = levels[y + 1, x], levels[y, x + 1], levels[y, x]
            known = [left] if y == 0 else [up] if x == 0 else [left, up, left + up - corner]
            value = int(np.median(known)) + error[y, x]
            levels[y + 1, x + 1] = (value + 2**15) % 2**16 - 2**15
    return levels[1:, 1:] * pixels.step
