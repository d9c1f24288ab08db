"""Tests of single header values."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from deeplesion.scans.dicom_tags import Tags


def dataset(**values: object) -> Dataset:
    """A data set of these values."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"SOPClassUID": CTImageStorage, "Modality": "CT"}, ""),
        ({"SOPClassUID": CTImageStorage}, ""),
        ({"SOPClassUID": EnhancedCTImageStorage, "Modality": "CT"}, ""),
        ({"SOPClassUID": MRImageStorage, "Modality": "MR"}, "MR Image"),
        ({"SOPClassUID": CTImageStorage, "Modality": "PT"}, "PT image"),
        (
            {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "CT"},
            "Secondary Capture Image",
        ),
        (
            {"SOPClassUID": CTImageStorage, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            "localizer",
        ),
        (
            {"SOPClassUID": CTImageStorage, "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
            "screen shot",
        ),
        ({"SOPClassUID": CTImageStorage, "SamplesPerPixel": 3}, "color picture"),
        ({"Modality": "SR"}, "SR object"),
    ],
)
def test_kinds(values: dict[str, object], kind: str) -> None:
    assert Tags(dataset(**values)).kind() == kind


def test_a_frame_goes_before_what_frames_share_and_this_before_the_top() -> None:
    made = dataset(SliceThickness=9, RescaleIntercept=-1000, NumberOfFrames=2)
    measures = dataset(SliceThickness=5)
    rescale = dataset(RescaleSlope=2)
    made.SharedFunctionalGroupsSequence = [
        dataset(PixelMeasuresSequence=[measures], PixelValueTransformationSequence=[rescale])
    ]
    made.PerFrameFunctionalGroupsSequence = [
        dataset(PixelMeasuresSequence=[dataset(SliceThickness=1)]),
        Dataset(),
    ]
    first, second = Tags(made, 0), Tags(made, 1)
    assert first.number("SliceThickness", 0) == 1
    assert second.number("SliceThickness", 0) == 5
    assert second.number("RescaleSlope", 1) == 2
    assert second.number("RescaleIntercept", 0) == -1000
    assert Tags(made).is_multi_frame


def test_what_is_absent_and_what_is_wrong() -> None:
    tags = Tags(dataset(PixelSpacing=[0.5, 0.5], ImagePositionPatient=[1, 2, 3], SeriesNumber=None))
    assert tags.numbers("PixelSpacing", 2) == (0.5, 0.5)
    assert tags.numbers("ImageOrientationPatient", 6) is None
    assert tags.integer("SeriesNumber") is None
    with pytest.raises(ValueError, match="ImagePositionPatient must be 2 numbers"):
        tags.numbers("ImagePositionPatient", 2)


def test_bits_and_padding() -> None:
    tags = Tags(dataset(BitsAllocated=16, BitsStored=12, PixelPaddingValue=-2000))
    assert tags.bits() == (12, 11)
    assert tags.padding() == (-2000, -2000)
    assert Tags(Dataset()).padding() is None
    assert Tags(dataset(PixelPaddingValue=[1, 2])).padding() is None
    ranged = dataset(PixelPaddingValue=-1900, PixelPaddingRangeLimit=-2000)
    assert Tags(ranged).padding() == (-2000, -1900)
