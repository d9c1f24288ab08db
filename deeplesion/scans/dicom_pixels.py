"""Pixels of DICOM slices to HU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.dicom_headers import SliceHeader
from deeplesion.scans.errors import ScanError

#: HU of what is outside the field of view.
OUTSIDE_HU = -1024
#: Padding values that lie among these HU are tissue's, too: a mistake of the writer.
TISSUE_HU = (-200, 300)
_INT16 = np.iinfo(np.int16)
#: Packages that decode what the installed ones may not.
_PACKAGES = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
}
_DEFAULT_PACKAGES = "pylibjpeg pylibjpeg-openjpeg"
#: Of the image pixel module, what a decoder must know.
_PIXEL_TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData"),
)


def stored_values(item: SliceHeader) -> NDArray[np.integer]:
    """Stored values of a slice before rescaling, padding included.

    Args:
        item: Which slice.

    Returns:
        ``(rows, columns)``, signed or not as stored.

    Raises:
        ScanError: The file is truncated, or nothing that is installed decodes it.
    """
    from pydicom.pixels import pixel_array

    try:
        pixels = pixel_array(item.path, index=item.frame, raw=True)
    except Exception as error:  # pydicom's decoders fail in many ways on damaged files
        pixels = _decode_by_itk(item, error)
    if pixels.shape != item.size[::-1]:
        raise ScanError(
            f"{item.label} is damaged: {pixels.shape} pixels, its header says {item.size[::-1]}"
        )
    return _significant_bits(pixels, item)


def read_hu(item: SliceHeader, out: NDArray[Any]) -> bool:
    """Read a slice in HU.

    Args:
        item: Which slice.
        out: ``(rows, columns)`` int16 or float32, to be filled.

    Returns:
        Whether there was padding that was left, because its value is among tissue's.

    Raises:
        ScanError: As :func:`stored_values`.
    """
    values = stored_values(item)
    hu = values * np.float32(item.slope) + np.float32(item.intercept)
    doubtful = False
    if item.padding is not None:
        first, last = (_as_stored(value, item) for value in item.padding)
        outside = (values >= min(first, last)) & (values <= max(first, last))
        padding_hu = first * item.slope + item.intercept
        doubtful = bool(TISSUE_HU[0] <= padding_hu <= TISSUE_HU[1] and outside.any())
        if not doubtful:
            hu[outside] = OUTSIDE_HU
    if out.dtype == np.int16:
        np.clip(np.rint(hu), _INT16.min, _INT16.max, out=hu)
    out[...] = hu
    return doubtful


def is_whole(item: SliceHeader) -> bool:
    """Whether HU of a slice are whole numbers, as those of nearly all scanners are."""
    return float(item.slope).is_integer() and float(item.intercept).is_integer()


def same_pixels(first: SliceHeader, second: SliceHeader) -> bool:
    """Whether two slices show the same, in HU."""
    if (first.slope, first.intercept) != (second.slope, second.intercept):
        return False
    return first.size == second.size and np.array_equal(stored_values(first), stored_values(second))


def _significant_bits(pixels: NDArray[Any], item: SliceHeader) -> NDArray[np.integer]:
    """Without what stands in bits that are not stored ones, such as overlays."""
    stored, high = item.bits
    allocated = pixels.dtype.itemsize * 8
    if stored >= allocated:
        return pixels
    above = allocated - 1 - high
    # Shifted up to the top and down again, the sign comes along.
    return (pixels << above) >> (allocated - stored)


def _as_stored(value: int, item: SliceHeader) -> int:
    """A padding value as pixels have it, though its header takes it for (un)signed."""
    bits = item.bits[0] if -(1 << (item.bits[0] - 1)) <= value < (1 << item.bits[0]) else 16
    value &= (1 << bits) - 1
    return value - (1 << bits) if item.signed and value >> (bits - 1) else value


def _decode_by_itk(item: SliceHeader, reason: Exception) -> NDArray[Any]:
    """Decode with the GDCM in SimpleITK what pydicom cannot."""
    import pydicom
    import SimpleITK

    try:
        dataset = pydicom.dcmread(item.path, force=True)
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated or "PixelData" not in dataset:
            raise ValueError("no compressed pixels")
    except Exception:
        raise _damaged(item, reason) from reason
    # Without the tags of rescaling, which ITK would apply.
    bare = pydicom.Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality", *_PIXEL_TAGS):
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.file_meta = dataset.file_meta
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "slice.dcm")
            bare.save_as(path, enforce_file_format=True)
            pixels = SimpleITK.GetArrayFromImage(
                SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")
            )
    except Exception as error:
        package = _PACKAGES.get(str(syntax), _DEFAULT_PACKAGES)
        raise ScanError(
            f"{item.label} is compressed as {syntax.name}, which cannot be decoded: "
            f"pip install {package}, or decompress it first (dcmdjpeg, gdcmconv --raw); it may "
            f"also be damaged ({_last_line(reason)})"
        ) from error
    return pixels[item.frame or 0]


def _damaged(item: SliceHeader, error: Exception) -> ScanError:
    return ScanError(f"{item.path} is DICOM but damaged: {_last_line(error)}; copy it again")


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
