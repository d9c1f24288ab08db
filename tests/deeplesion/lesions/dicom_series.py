"""DICOM headers of a CT series, without pixels, and the structured report that refers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom.sr
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from deeplesion.lesions.dicom_sr import write_sr
from deeplesion.lesions.document import build_document
from deeplesion.scans.scan import Scan
from tests.deeplesion.lesions.scans import CARD, SETTINGS, make_lesions, make_scan

#: An order of files that has nothing to do with position.
SHUFFLED = [3, 0, 5, 2, 4, 1]
ROOT = "1.2.826.0.1.3680043.8.498."


def _header(uid: str, sop_class: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = sop_class, uid
    header.StudyInstanceUID, header.SeriesInstanceUID = f"{ROOT}1", f"{ROOT}1.2"
    header.Modality = "CT"
    header.PatientName, header.PatientID = "DOE^Jane", "P-4711"
    header.PatientBirthDate, header.PatientSex = "19700101", "F"
    header.StudyDate, header.StudyTime, header.StudyID = "20311224", "101500", "7"
    header.AccessionNumber, header.ReferringPhysicianName = "A1", ""
    header.Rows, header.Columns = 20, 30
    return header


def write_series(
    folder: Path, order: Sequence[int], flipped: bool = False
) -> tuple[Scan, list[Path]]:
    """Write the small scan as a series of single images.

    Args:
        folder: Where to.
        order: The slices of the scan in the order of the files' names.
        flipped: Whether the images are stored with columns and rows the other way round.

    Returns:
        The scan as read from DICOM, with its files in the order of slices, and the files by name.
    """
    scan = make_scan()
    sign = -1 if flipped else 1
    files: dict[int, Path] = {}
    for number, z in enumerate(order):
        header = _header(f"{ROOT}2.{z}", CTImageStorage)
        corner = scan.geometry.to_patient([29, 19, z] if flipped else [0, 0, z])
        header.ImagePositionPatient = corner.tolist()
        header.ImageOrientationPatient = [sign, 0, 0, 0, sign, 0]
        header.PixelSpacing = [0.8, 0.5]  # of rows, of columns
        header.InstanceNumber = number + 1
        files[z] = folder / f"image_{number}.dcm"
        header.save_as(files[z], enforce_file_format=True)
    ordered = tuple(files[z] for z in sorted(files))
    return replace(scan, format="DICOM", files=ordered), sorted(files.values())


def write_multi_frame(folder: Path, order: Sequence[int]) -> Scan:
    """Write the small scan as one file of several frames; ``order`` is their slices."""
    scan = make_scan()
    header = _header(f"{ROOT}3", EnhancedCTImageStorage)
    header.NumberOfFrames = len(order)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.8, 0.5]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z in order:
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = scan.geometry.to_patient(np.array([0, 0, z])).tolist()
        groups.PlanePositionSequence = [position]
        frames.append(groups)
    header.PerFrameFunctionalGroupsSequence = frames
    header.save_as(folder / "frames.dcm", enforce_file_format=True)
    return replace(scan, format="DICOM", files=(folder / "frames.dcm",))


def document_of(scan: Scan) -> dict[str, Any]:
    """The findings in the small scan."""
    return build_document(scan, make_lesions(), CARD, SETTINGS)


def write_and_read(folder: Path, scan: Scan) -> highdicom.sr.ComprehensiveSR:
    """The report, as highdicom reads it."""
    write_sr(folder / "lesions.dcm", scan, document_of(scan))
    report = highdicom.sr.srread(folder / "lesions.dcm")
    assert isinstance(report, highdicom.sr.ComprehensiveSR)
    return report


def values_of(group: Any) -> dict[str, float]:
    """Measurements of a group by name and derivation."""
    return {
        " ".join(filter(None, [each.name.meaning, each.derivation and each.derivation.meaning])): (
            each.value
        )
        for each in group.get_measurements()
    }
