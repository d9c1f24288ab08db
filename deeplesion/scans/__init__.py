"""CT scans off the scanner: read, put into one orientation, located in the patient.

Importing this package loads neither SimpleITK nor pydicom; reading a scan does.
"""

from __future__ import annotations

from deeplesion.scans.dicom_series import SeriesInfo, list_series
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.reading import read_scan
from deeplesion.scans.scan import Scan, ScanError
from deeplesion.scans.writing import write_labels

__all__ = [
    "Geometry",
    "Scan",
    "ScanError",
    "SeriesInfo",
    "list_series",
    "read_scan",
    "write_labels",
]
