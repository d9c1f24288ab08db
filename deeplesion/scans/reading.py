"""Reading a scan of any format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from deeplesion.scans.formats import files_below, safe_name, sniff, stem_of
from deeplesion.scans.scan import Scan, ScanError

PathLike = str | os.PathLike[str]
_ITK_FORMATS = ("NIfTI", "MetaImage", "NRRD")


def read_scan(
    source: PathLike | Sequence[PathLike],
    series: str | int | None = None,
    *,
    spacing: tuple[float, float, float] | None = None,
    check_hu: bool = True,
) -> Scan:
    """Read a CT scan and turn it to slices from head to feet.

    Formats are told by what is in the files: DICOM (a folder, searched with those below it, or
    files), NIfTI, MetaImage, NRRD (one file), or a folder or files of DeepLesion's PNG slices.

    Args:
        source: A path, or the paths of the slices of one series.
        series: Which DICOM series: its SeriesInstanceUID, the beginning of it, or its number;
            None takes the axial CT series of most slices, of thinner ones where equal.
        spacing: For PNG slices: pixel spacing x, y and slice interval in mm; None looks them up in
            ``DL_info.csv`` above them.
        check_hu: Whether to refuse what does not look like a CT in HU.

    Returns:
        The scan; ``warnings`` says what was found and mended, and which other series there are.

    Raises:
        ScanError: It cannot be read or is not a CT scan; the message says what to do.

    Example:
        >>> scan = read_scan("patient/CT", series="3")
        >>> scan.hu.shape, scan.slice_interval, scan.thickness
        ((310, 512, 512), 1.0, 1.25)
    """
    if isinstance(source, str | os.PathLike):
        paths = [Path(source)]
        label = str(paths[0])
    else:
        paths = [Path(item) for item in source]
        label = f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else str(paths[:1] or "")
    if not paths:
        raise ScanError("no files are given; give a folder, a file or the files of one series")
    for path in paths:
        if not path.exists():
            raise ScanError(f"{path} does not exist")
    try:
        return _read(paths, series, spacing, check_hu)
    except ScanError as error:
        text = str(error)
        raise ScanError(text if text.startswith(str(paths[0])) else f"{label}: {text}") from error


def _read(
    paths: list[Path],
    series: str | int | None,
    spacing: tuple[float, float, float] | None,
    check_hu: bool,
) -> Scan:
    from deeplesion.scans import dicom, itk_files, png_slices

    folder = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    files = files_below(folder) if folder else paths
    if any(path.is_dir() for path in files):
        raise ScanError("give one folder, or files; not several folders")
    kind = format_of(files)
    if spacing is not None and kind != "PNG":
        raise ScanError(f"spacing is for PNG slices, this is {kind}, which has its own; drop it")
    if kind == "DICOM":
        name = safe_name(stem_of(paths[0] if len(paths) == 1 else paths[0].parent))
        return dicom.read_dicom(files, name, series, check_hu)
    if series is not None:
        raise ScanError(f"series chooses among DICOM series, this is {kind}; leave it out")
    if kind == "PNG":
        return png_slices.read_png_slices(files, spacing, check_hu)
    if folder or len(files) > 1:
        raise ScanError(
            f"these are {len(files)} files without DICOM, of which one at least is {kind}: give "
            "the one file that is the scan"
        )
    return itk_files.read_itk(files[0], kind, check_hu)


def format_of(files: Sequence[Path]) -> str:
    """Format of some files: DICOM's if one is, else that of the first whose format is known.

    Raises:
        ScanError: None is known; or there are none.
    """
    if not files:
        raise ScanError("there is no file in it; give a folder that holds a scan")
    first = ""
    for path in files:
        try:
            kind = sniff(path)
        except ScanError:
            if len(files) == 1:
                raise
            continue
        if kind == "DICOM":
            return kind
        first = first or kind
    if not first:
        what = "it is not" if len(files) == 1 else f"none of its {len(files)} files is"
        raise ScanError(f"{what} DICOM, {', '.join(_ITK_FORMATS)} or a 16-bit PNG of DeepLesion")
    return first
