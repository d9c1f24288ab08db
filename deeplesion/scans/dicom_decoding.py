"""Decoding the pixels of DICOM files: by pydicom, or by the GDCM that is in SimpleITK."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deeplesion.scans.dicom_headers import SliceHeader
from deeplesion.scans.scan import ScanError

#: Compressed transfer syntaxes that GDCM decodes: RLE, JPEG, JPEG-LS and JPEG 2000.
_BY_GDCM = frozenset(
    f"1.2.840.10008.1.2.{end}"
    for end in ("5", "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91")
)
#: By which pydicom decodes others, which are of High-Throughput JPEG 2000.
_PACKAGES = "pylibjpeg pylibjpeg-openjpeg"
#: Of the image pixel module, what a decoder must know.
_PIXEL_TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
)


def decode(item: SliceHeader) -> NDArray[Any]:
    """Pixels of a slice as stored, before any rescaling.

    Args:
        item: Which slice.

    Returns:
        ``(rows, columns)`` of integers.

    Raises:
        ScanError: The file is truncated or damaged, or nothing that is installed decodes it.
    """
    from pydicom.pixels import pixel_array

    try:
        pixels = pixel_array(item.path, index=item.frame, raw=True)
    except Exception as error:  # pydicom's decoders fail in many ways on damaged files
        pixels = _decode_otherwise(item, error)
    if pixels.shape != item.size[::-1]:
        raise ScanError(
            f"{item.label} is damaged: it has pixels {pixels.shape}, by its header "
            f"{item.size[::-1]}"
        )
    return pixels


def _decode_otherwise(item: SliceHeader, reason: Exception) -> NDArray[Any]:
    """What pydicom does not decode from the file at once."""
    import pydicom
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

    try:
        dataset = pydicom.dcmread(item.path, force=True)
        # Files without preamble and meta information are not compressed.
        default = ImplicitVRLittleEndian if dataset.original_encoding[1] else ExplicitVRBigEndian
        dataset.file_meta.setdefault("TransferSyntaxUID", default)
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated:
            # The whole of it may be packed, as DICOM's deflated syntax does.
            return pixel_array(dataset, index=item.frame, raw=True)
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    except Exception as error:
        raise _damaged(item, error) from error
    if available:
        raise _damaged(item, reason) from reason
    if syntax in _BY_GDCM:
        try:
            return _decode_by_gdcm(dataset, item.frame)
        except Exception as error:
            raise _damaged(item, error) from error
    raise ScanError(
        f"{item.label} is compressed as {syntax.name}, which nothing installed decodes: pip "
        f"install {_PACKAGES}, or decompress it first (gdcmconv --raw)"
    ) from reason


def _decode_by_gdcm(dataset: Any, frame: int | None) -> NDArray[Any]:
    import pydicom
    import SimpleITK
    from pydicom.encaps import encapsulate, get_frame

    # Without the tags of rescaling, which ITK would apply.
    bare = pydicom.Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality", *_PIXEL_TAGS):
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    count = int(dataset.get("NumberOfFrames") or 1)
    bare.PixelData = encapsulate([get_frame(dataset.PixelData, frame or 0, number_of_frames=count)])
    bare["PixelData"].is_undefined_length = True
    bare.file_meta = dataset.file_meta
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slice.dcm")
        bare.save_as(path, enforce_file_format=True)
        image = SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")
    return SimpleITK.GetArrayFromImage(image).reshape(dataset.Rows, dataset.Columns)


def _damaged(item: SliceHeader, error: Exception) -> ScanError:
    said = " ".join(str(error).split()) or type(error).__name__
    return ScanError(
        f"{item.path} is DICOM but its pixels are truncated or damaged; copy it again "
        f"({said[:200]})"
    )
