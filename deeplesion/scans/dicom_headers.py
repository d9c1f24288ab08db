"""Headers of DICOM files: what is needed to sort slices, without their pixels."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from deeplesion.scans.dicom_tags import CT_CLASSES, DIRECTORY_CLASS, TAGS, Tags
from deeplesion.scans.formats import sniff
from deeplesion.scans.scan import ScanError


@dataclass(frozen=True)
class SliceHeader:
    """One slice, a file or a frame of one.

    Attributes:
        path: Its file.
        frame: Index of the frame; None where the file is one slice.
        uid, number, description, modality: Of its series; number is None where absent.
        kind: Empty for a slice of a CT, else what it is (``localizer``, ``MR Image``, ...).
        size: Columns and rows.
        position: ``(3,)`` ImagePositionPatient in LPS mm; None if absent.
        orientation: ``(6,)`` ImageOrientationPatient; None if absent.
        spacing: ``(2,)`` PixelSpacing, between rows and between columns, in mm; None if absent.
        thickness: SliceThickness in mm, NaN if absent.
        slope, intercept: To HU.
        unit: RescaleType.
        padding: First and last stored value of what is outside the field of view, or None.
        bits: BitsStored and HighBit.
        signed: PixelRepresentation.
        phase: What tells slices at one position apart: acquisition, time, kernel, image type.
        problem: What is wrong with the header; empty where nothing is.
    """

    path: Path
    frame: int | None
    uid: str
    number: int | None
    description: str
    modality: str
    kind: str
    size: tuple[int, int] = (0, 0)
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float = float("nan")
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    padding: tuple[int, int] | None = None
    bits: tuple[int, int] = (16, 15)
    signed: bool = False
    phase: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def label(self) -> str:
        """The file's name, with the number of the frame if it has several."""
        frame = "" if self.frame is None else f" (frame {self.frame + 1})"
        return f"{self.path.name}{frame}"


@dataclass(frozen=True)
class Headers:
    """What lies in a folder.

    Attributes:
        slices: Every DICOM object but directories, multi-frame ones by their frames.
        strangers: Files that are not DICOM.
        damaged: DICOM files of which not even the series can be told, and what to say of them.
    """

    slices: list[SliceHeader]
    strangers: list[Path]
    damaged: dict[Path, str]


def read_headers(files: Iterable[Path]) -> Headers:
    """Read the headers of files, DICOM or not."""
    headers = Headers([], [], {})
    with warnings.catch_warnings():
        # pydicom warns of every value that breaks the standard; what matters is checked here.
        warnings.simplefilter("ignore")
        for path in files:
            _add(path, headers)
    return headers


def _add(path: Path, headers: Headers) -> None:
    try:
        kind = sniff(path)
    except ScanError as error:
        if path.suffix.lower() == ".dcm" or not os.access(path, os.R_OK):
            headers.damaged[path] = str(error)
        else:
            headers.strangers.append(path)
        return
    if kind != "DICOM":
        headers.strangers.append(path)
        return
    try:
        headers.slices.extend(_headers_of(path))
    except Exception as error:  # pydicom's parser fails in many ways on damaged files
        headers.damaged[path] = f"{path} is DICOM but damaged: {error}; copy it again"


def _headers_of(path: Path) -> Iterator[SliceHeader]:
    import pydicom

    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=TAGS)
    tags = Tags(dataset)
    if tags.sop_class == DIRECTORY_CLASS:
        return
    if not tags.text("SeriesInstanceUID"):
        raise ValueError("its header ends early, or has no SeriesInstanceUID")
    if not tags.is_multi_frame or tags.sop_class not in CT_CLASSES:
        yield _slice_header(path, None, tags)
        return
    if tags.described_frames < tags.frames:
        raise ValueError(f"it has {tags.frames} frames and describes {tags.described_frames}")
    for frame in range(tags.frames):
        yield _slice_header(path, frame, Tags(dataset, frame))


def _slice_header(path: Path, frame: int | None, tags: Tags) -> SliceHeader:
    try:
        number = tags.integer("SeriesNumber")
    except ValueError:
        number = None
    header = SliceHeader(
        path=path,
        frame=frame,
        uid=tags.text("SeriesInstanceUID"),
        number=number,
        description=tags.text("SeriesDescription"),
        modality=tags.text("Modality"),
        kind=tags.kind(),
    )
    if header.kind:
        return header
    try:
        return replace(
            header,
            size=(tags.integer("Columns") or 0, tags.integer("Rows") or 0),
            position=tags.numbers("ImagePositionPatient", 3),
            orientation=tags.numbers("ImageOrientationPatient", 6),
            spacing=tags.numbers("PixelSpacing", 2),
            thickness=tags.number("SliceThickness", math.nan),
            slope=tags.number("RescaleSlope", 1.0),
            intercept=tags.number("RescaleIntercept", 0.0),
            unit=tags.text("RescaleType").upper(),
            padding=tags.padding(),
            bits=tags.bits(),
            signed=tags.integer("PixelRepresentation") == 1,
            phase=tags.phase(),
        )
    except ValueError as error:
        return replace(header, problem=f"{header.label} has a damaged header: {error}")
