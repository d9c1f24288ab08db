"""Single values of a DICOM header, wherever the object keeps them."""

from __future__ import annotations

from typing import Any

CT_CLASSES = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
    )
)
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
#: In the image type of what scanners save from their screens as if it were a slice.
_SCREEN_WORDS = ("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "REPORT")
_SHARED = "SharedFunctionalGroupsSequence"
_PER_FRAME = "PerFrameFunctionalGroupsSequence"
#: Where multi-frame objects keep what stands at the top of other files.
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}
#: What tells slices at one position apart, in the order in which it is tried.
PHASES = {
    "AcquisitionNumber": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "TemporalPosition": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "ConvolutionKernel": ("ConvolutionKernel",),
    "SliceThickness": ("SliceThickness",),
    "ImageType": ("FrameType", "ImageType"),
}
TAGS: list[Any] = [
    *("SOPClassUID", "Modality", "ImageType", "NumberOfFrames"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("AcquisitionNumber", "ConvolutionKernel", "TemporalPositionIdentifier"),
    *(_SHARED, _PER_FRAME),
]


class Tags:
    """Values of a data set, or of one frame of it.

    Args:
        dataset: pydicom's data set.
        frame: Index of the frame; None looks at the top only.
    """

    def __init__(self, dataset: Any, frame: int | None = None) -> None:
        self.dataset = dataset
        self._places = [dataset]
        if frame is not None:
            shared = dataset.get(_SHARED) or []
            per_frame = (dataset.get(_PER_FRAME) or [])[frame : frame + 1]
            self._places = [*per_frame, *shared[:1], dataset]

    @property
    def sop_class(self) -> str:
        """What kind of object it is, a UID; empty if unknown."""
        meta = getattr(self.dataset, "file_meta", None)
        return self.text("SOPClassUID") or str(getattr(meta, "MediaStorageSOPClassUID", ""))

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.integer("NumberOfFrames") or 1

    @property
    def described_frames(self) -> int:
        """Number of frames whose geometry stands in functional groups."""
        return len(self.dataset.get(_PER_FRAME) or [])

    @property
    def is_multi_frame(self) -> bool:
        """Whether geometry stands in functional groups, or there are several frames."""
        return self.frames > 1 or self.described_frames > 0

    def value(self, keyword: str) -> Any:
        """What is nearest to the frame; None where it is absent or empty."""
        for place in self._places:
            if place is not self.dataset:
                nested = place.get(_GROUPS[keyword]) if keyword in _GROUPS else None
                place = nested[0] if nested else {}
            found = place.get(keyword)
            if found is not None and found != "":
                return found
        return None

    def text(self, keyword: str) -> str:
        """A value as text; several are joined by a backslash, as DICOM does."""
        found = self.value(keyword)
        if found is None:
            return ""
        parts = [found] if isinstance(found, str) or not hasattr(found, "__iter__") else found
        return "\\".join(str(part) for part in parts).strip()

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Several numbers; None where they are absent.

        Raises:
            ValueError: They are not that many numbers.
        """
        text = self.text(keyword)
        if not text:
            return None
        try:
            found = tuple(float(part) for part in text.split("\\"))
        except ValueError:
            found = ()
        if len(found) != count:
            raise ValueError(f"{keyword} must be {count} numbers, got {text}")
        return found

    def number(self, keyword: str, default: float) -> float:
        """One number; ``default`` where it is absent.

        Raises:
            ValueError: It is none.
        """
        found = self.numbers(keyword, 1)
        return default if found is None else found[0]

    def integer(self, keyword: str) -> int | None:
        """One whole number; None where it is absent.

        Raises:
            ValueError: It is none.
        """
        found = self.numbers(keyword, 1)
        return None if found is None else int(found[0])

    def kind(self) -> str:
        """Empty for a slice of a CT, else what it is in words."""
        from pydicom.uid import UID

        image_type = (self.text("FrameType") or self.text("ImageType")).upper()
        modality = self.text("Modality")
        if self.sop_class not in CT_CLASSES:
            name = UID(self.sop_class).name.removesuffix(" Storage")
            return name if self.sop_class else f"{modality or 'unknown'} object"
        if modality not in ("CT", ""):
            return f"{modality} image"
        if "LOCALIZER" in image_type:
            return "localizer"
        if any(word in image_type for word in _SCREEN_WORDS):
            return "screen shot"
        return "color picture" if self.text("SamplesPerPixel") not in ("", "1") else ""

    def bits(self) -> tuple[int, int]:
        """BitsStored and HighBit."""
        stored = self.integer("BitsStored") or self.integer("BitsAllocated") or 16
        high = self.integer("HighBit")
        return stored, stored - 1 if high is None else high

    def padding(self) -> tuple[int, int] | None:
        """First and last stored value of what is outside the field of view; None if unknown."""
        try:
            first = self.integer("PixelPaddingValue")
            last = self.integer("PixelPaddingRangeLimit")
        except ValueError:
            return None
        if first is None:
            return None
        last = first if last is None else last
        return min(first, last), max(first, last)

    def phase(self) -> dict[str, str]:
        """What tells slices at one position apart."""
        return {
            name: next((text for text in map(self.text, keywords) if text), "")
            for name, keywords in PHASES.items()
        }
