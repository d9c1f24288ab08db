"""DICOM series for tests, written by pydicom."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from deeplesion.scans import Geometry

#: Transfer syntaxes that the tests can write; ``itk`` ones by the GDCM in SimpleITK.
COMPRESSIONS = ("RLE", "JPEG-LS", "JPEG 2000", "JPEG Lossless")
_BY_PYDICOM = {"RLE": RLELossless, "JPEG-LS": JPEGLSLossless}
_BY_ITK = {"JPEG 2000": "JPEG2000", "JPEG Lossless": "JPEG"}


@dataclass(frozen=True)
class Options:
    """How a series is written.

    Attributes:
        number, description, modality, sop_class, image_type, thickness: Header values; thickness
            in mm, None leaves it out.
        series_uid, study_uid: Made up where empty.
        compression: One of :data:`COMPRESSIONS`, or None.
        missing: Slices (indices of ``hu``) to leave out.
        doubled: Slices to write twice.
        tilt: Of the gantry in degrees: slices are displaced along their columns.
        slope, intercept: Rescaling; stored value = (HU - intercept) / slope.
        bits: BitsStored.
        signed: PixelRepresentation.
        seed: Of the order of names and instance numbers, which has nothing to do with position.
        prefix: Of the files' names.
        tags: More values, set in every file.
        edit: Called with each data set and its slice before it is written.
    """

    number: int | None = 1
    description: str = "Chest"
    modality: str = "CT"
    sop_class: str = CTImageStorage
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL")
    thickness: float | None = 5.0
    series_uid: str = ""
    study_uid: str = ""
    compression: str | None = None
    missing: Iterable[int] = ()
    doubled: Iterable[int] = ()
    tilt: float = 0.0
    slope: float = 1.0
    intercept: float = -1024.0
    bits: int = 16
    signed: bool = False
    seed: int = 0
    prefix: str = "IM"
    tags: dict[str, Any] = field(default_factory=dict)
    edit: Callable[[Dataset, int], None] | None = None


def axial_geometry(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (0.8, 0.8, 2.0),
    origin: tuple[float, float, float] = (-100.0, -120.0, 50.0),
) -> Geometry:
    """Geometry of ``hu`` ``(D, H, W)`` from head to feet."""
    return Geometry(
        origin=np.array(origin),
        spacing=np.array(spacing),
        direction=np.diag([1.0, 1.0, -1.0]),
        size=(shape[2], shape[1], shape[0]),
    )


def phantom(shape: tuple[int, int, int] = (12, 16, 20), seed: int = 0) -> NDArray[np.int16]:
    """Noise in the range of HU, with air, in which every voxel differs from its neighbors."""
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def write_dicom_series(
    folder: Path, hu: NDArray[Any], geometry: Geometry, **options: Any
) -> list[Path]:
    """Write a CT series, one file per slice, named and numbered in random order.

    Args:
        folder: Made if missing.
        hu: ``(D, H, W)`` in HU.
        geometry: Of ``hu``; slices may run either way.
        options: As :class:`Options`.

    Returns:
        The files, in the order of ``hu``, doubled ones twice.
    """
    how = Options(**options)
    folder.mkdir(parents=True, exist_ok=True)
    kept = [index for index in range(len(hu)) if index not in set(how.missing)]
    kept = sorted([*kept, *how.doubled])
    names = np.random.default_rng(how.seed).permutation(len(kept))
    series = how.series_uid or generate_uid(entropy_srcs=[str(folder), how.prefix, str(how.number)])
    files = []
    for index, name in zip(kept, names, strict=True):
        dataset = _new(how, series, int(name))
        _set_plane(dataset, geometry, index, how)
        dataset.PixelSpacing = [geometry.spacing[1], geometry.spacing[0]]
        if how.thickness is not None:
            dataset.SliceThickness = how.thickness
        dataset.RescaleSlope, dataset.RescaleIntercept = how.slope, how.intercept
        dataset.RescaleType = "HU"
        _set_pixels(dataset, hu[index : index + 1], how)
        files.append(folder / f"{how.prefix}{name:04d}.dcm")
        _save(dataset, files[-1], how, index)
    return files


def write_multi_frame(path: Path, hu: NDArray[Any], geometry: Geometry, **options: Any) -> Path:
    """Write an Enhanced CT object, all slices in one file; arguments as above."""
    how = Options(**{"sop_class": EnhancedCTImageStorage, **options})
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = _new(how, how.series_uid or generate_uid(entropy_srcs=[str(path)]), 0)
    kept = [index for index in range(len(hu)) if index not in set(how.missing)]
    shared = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [geometry.spacing[1], geometry.spacing[0]]
    measures.SliceThickness = how.thickness
    shared.PixelMeasuresSequence = [measures]
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = (
        how.slope,
        how.intercept,
        "HU",
    )
    shared.PixelValueTransformationSequence = [rescale]
    frames = []
    for index in kept:
        plane, place, turn = Dataset(), Dataset(), Dataset()
        _set_plane(plane, geometry, index, how)
        place.ImagePositionPatient = plane.ImagePositionPatient
        turn.ImageOrientationPatient = plane.ImageOrientationPatient
        frame = Dataset()
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [turn]
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(kept)
    _set_pixels(dataset, hu[kept], how)
    _save(dataset, path, how, 0)
    return path


def write_report(path: Path, **tags: Any) -> Path:
    """Write a DICOM object without an image: a structured report, as scanners send for the dose."""
    how = Options(modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.67", number=999, tags=tags)
    dataset = _new(how, generate_uid(entropy_srcs=[str(path)]), 0)
    _save(dataset, path, how, 0)
    return path


def _new(how: Options, series: str, instance: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = how.sop_class
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(instance)])
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    dataset.PatientBirthDate, dataset.StudyDate = "19700101", "20200202"
    dataset.PatientSex, dataset.AccessionNumber = "F", "A0815"
    dataset.StudyTime, dataset.StudyID = "121314", "S1"
    dataset.InstitutionName, dataset.Manufacturer = "General Hospital", "Maker"
    dataset.ReferringPhysicianName = "House^Gregory"
    dataset.StudyInstanceUID = how.study_uid or generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = series
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    dataset.Modality = how.modality
    dataset.ImageType = list(how.image_type)
    dataset.SeriesNumber = how.number
    dataset.SeriesDescription = how.description
    dataset.InstanceNumber = instance + 1
    return dataset


def _set_plane(dataset: Dataset, geometry: Geometry, index: int, how: Options) -> None:
    position = geometry.to_patient([0, 0, index])
    along_columns = geometry.direction[:, 1]
    position = position + along_columns * np.tan(np.radians(how.tilt)) * index * geometry.spacing[2]
    dataset.ImagePositionPatient = [f"{value:.10g}" for value in position]
    cosines = [*geometry.direction[:, 0], *along_columns]
    dataset.ImageOrientationPatient = [f"{value:.12g}" for value in cosines]


def _set_pixels(dataset: Dataset, hu: NDArray[Any], how: Options) -> None:
    dtype = np.dtype(np.int16 if how.signed else np.uint16)
    stored = np.rint((hu.astype(np.float64) - how.intercept) / how.slope).astype(dtype)
    dataset.Rows, dataset.Columns = hu.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, how.bits, how.bits - 1
    dataset.PixelRepresentation = int(how.signed)
    if how.bits < 16:
        stored = stored & dtype.type((1 << how.bits) - 1)
    dataset.PixelData = stored.tobytes()


def _save(dataset: Dataset, path: Path, how: Options, index: int) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    if how.compression is not None:
        _compress(dataset, how.compression)
    for keyword, value in how.tags.items():
        setattr(dataset, keyword, value)
    if how.edit is not None:
        how.edit(dataset, index)
    file = FileDataset(path, dataset, file_meta=meta, preamble=b"\0" * 128)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


def _compress(dataset: Dataset, compression: str) -> None:
    if compression in _BY_PYDICOM:
        dataset.compress(_BY_PYDICOM[compression], generate_instance_uid=False)
        return
    frames = []
    dtype = np.int16 if dataset.PixelRepresentation else np.uint16
    planes = np.frombuffer(dataset.PixelData, dtype).reshape(-1, 1, dataset.Rows, dataset.Columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frame.dcm")
        for plane in planes:
            writer = SimpleITK.ImageFileWriter()
            writer.SetImageIO("GDCMImageIO")
            writer.SetFileName(str(path))
            writer.UseCompressionOn()
            writer.SetCompressor(_BY_ITK[compression])
            writer.Execute(SimpleITK.GetImageFromArray(plane))
            written = pydicom.dcmread(path)
            frames += generate_frames(written.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = written.file_meta.TransferSyntaxUID
