"""A small scan with lesions of known size, for tests of what is written about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplesion.lesions.lesion import Lesion, SliceMask
from deeplesion.lesions.model_card import ModelCard
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan

SHAPE = (6, 20, 30)
SPACING = np.array([0.5, 0.8, 3.0])
CARD = ModelCard("net.py", "a" * 64, "net.pth", "b" * 64, version="1.2.3")
SETTINGS = {"score_threshold": 0.3, "stride": 1}
#: What must not be written unless asked for.
SECRETS = ("DOE", "Jane", "P-4711", "hospital", "series_of_doe", "IM0007", "2031-12-24")


def make_scan() -> Scan:
    """Slices from head to feet, of a file with axes R A S; HU are 10 z but 50 in lesion 1."""
    hu = np.repeat(10 * np.arange(6, dtype=np.int16), 600).reshape(SHAPE)
    hu[2:4, 5:9, 4:14] = 50
    size = (30, 20, 6)
    origin = np.array([-7.25, -3.0, 100.0])
    geometry = Geometry(origin, SPACING, np.diag([1.0, 1.0, -1.0]), size)
    stored = Geometry(geometry.to_patient([29, 19, 5]), SPACING, np.diag([-1.0, -1.0, 1.0]), size)
    return Scan(
        name="series_of_doe",
        format="NIfTI",
        hu=hu,
        geometry=geometry,
        stored=stored,
        thickness=5.0,
        files=(Path("/hospital/Jane/IM0007.nii"),),
        identity={"patient_name": "DOE^Jane", "patient_id": "P-4711", "study_date": "2031-12-24"},
        warnings=("IM0007.nii of P-4711 has no slice at 12 mm",),
    )


def make_lesions() -> list[Lesion]:
    """One with masks of 10 x 4 px on slices 2 and 3, and one of two boxes alone."""
    mask = SliceMask(4, 5, np.ones((4, 10), bool))
    masked = Lesion(
        number=1,
        score=0.9,
        slices=np.array([2, 3]),
        boxes=np.array([[4.0, 5, 13, 8], [4, 5, 13, 8]]),
        scores=np.array([0.5, 0.9]),
        masks=(mask, mask),
        key_slice=3,
    )
    boxed = Lesion(
        number=2,
        score=0.4,
        slices=np.array([0, 1]),
        boxes=np.array([[20.0, 10, 25, 15], [20, 10, 29, 15]]),
        scores=np.array([0.4, 0.2]),
        masks=(),
        key_slice=0,
    )
    return [masked, boxed]
