"""DeepLesion's folders of 16-bit PNG slices."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.ct import SliceError, read_slice
from deeplesion.datasets.lesion_record import INFO_FILE
from deeplesion.scans import checks
from deeplesion.scans.formats import named_path, safe_name
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.orientation import WANTED
from deeplesion.scans.scan import Scan, ScanError

_NUMBER = re.compile(r"(\d+)\.png", re.IGNORECASE)
_SPACING_COLUMN = "Spacing_mm_px_"
_LEVELS_ABOVE = 3


def read_png_slices(
    files: Sequence[Path],
    spacing: tuple[float, float, float] | None = None,
    check_hu: bool = True,
) -> Scan:
    """Read slices named by their number, ``.../000001_01_01/109.png``.

    DeepLesion stores slices about each key slice only, so that numbers may have gaps; the longest
    run of numbers is read. Where the patient lay is not stored: positions are counted from slice
    number 0, with rows and columns along the patient's axes.

    Args:
        files: Of one folder; what is not ``<number>.png`` is skipped.
        spacing: Pixel spacing x, y and slice interval in mm; None looks into ``DL_info.csv`` above.
        check_hu: Whether to refuse what does not look like a CT in HU.

    Raises:
        ScanError: The spacing is unknown, or a slice is damaged or of another size.
    """
    folder = files[0].parent
    if any(path.parent != folder for path in files):
        raise ScanError("PNG slices of several folders; give one series")
    numbered = {int(m[1]): path for path in files if (m := _NUMBER.fullmatch(path.name))}
    if not numbered:
        raise ScanError("no PNG is named by its number (109.png), as DeepLesion's slices are")
    run, warnings = _longest_run(numbered)
    checks.check_slice_count(len(run))
    if spacing is None:
        spacing = _spacing_of(folder)
    if len(spacing) != 3:
        raise ScanError(f"spacing must be 3 numbers (x, y, z) in mm, got {spacing}")
    hu = _read([numbered[number] for number in run])
    geometry = _geometry(spacing, run[0], hu.shape)
    checks.check_geometry(geometry)
    if check_hu:
        checks.check_hu(hu)
    if skipped := [path for path in files if not _NUMBER.fullmatch(path.name)]:
        warnings.append(f"files that are no numbered PNG were skipped: {len(skipped)}")
    return Scan(
        name=safe_name(named_path(folder).name),
        format="DeepLesion",
        hu=hu,
        geometry=geometry,
        stored=geometry,
        files=tuple(numbered[number] for number in run),
        warnings=tuple(warnings),
    )


def _read(files: Sequence[Path]) -> NDArray[np.int16]:
    """``(D, H, W)`` in HU."""
    try:
        first = read_slice(files[0])
        hu = np.empty((len(files), *first.shape), np.int16)
        for plane, path in zip(hu, files, strict=True):
            plane[...] = read_slice(path, (first.shape[0], first.shape[1]))
    except SliceError as error:
        raise ScanError(str(error)) from error
    return hu


def _longest_run(numbers: Iterable[int]) -> tuple[list[int], list[str]]:
    """The longest run of numbers without a gap, the first of those as long, and the warnings."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    longest = max(runs, key=len)
    if len(runs) == 1:
        return longest, []
    others = ", ".join(f"{run[0]}-{run[-1]}" for run in runs if run is not longest)
    return longest, [
        f"the numbers of the slices have gaps; {longest[0]}-{longest[-1]} were taken, not "
        f"{others}: give those files to read them"
    ]


def _geometry(spacing: tuple[float, float, float], first: int, shape: tuple[int, ...]) -> Geometry:
    return Geometry(
        origin=np.array([0.0, 0.0, -first * spacing[2]]),
        spacing=np.array(spacing, np.float64),
        direction=WANTED.copy(),
        size=(shape[2], shape[1], shape[0]),
    )


def info_file_above(folder: Path) -> Path | None:
    """The ``DL_info.csv`` nearest above a folder of slices, if there is one."""
    above = [parent / INFO_FILE for parent in list(folder.resolve().parents)[:_LEVELS_ABOVE]]
    return next((path for path in above if path.is_file()), None)


def _spacing_of(folder: Path) -> tuple[float, float, float]:
    """Spacing that ``DL_info.csv`` has for the lesions of a folder."""
    series = folder.resolve()
    remedy = "give spacing=(x, y, z) in mm (--spacing X Y Z), z the slice interval"
    info = info_file_above(folder)
    if info is None:
        raise ScanError(f"the spacing is unknown, for there is no {INFO_FILE} above it; {remedy}")
    with info.open(encoding="utf-8", errors="replace", newline="") as stream:
        rows = [
            row[_SPACING_COLUMN] or ""
            for row in csv.DictReader(stream)
            if (row.get("File_name") or "").startswith(f"{series.name}_") and _SPACING_COLUMN in row
        ]
    if not rows:
        raise ScanError(f"{info} has no row of {series.name}; {remedy}")
    try:
        x, y, z = (abs(float(part)) for part in rows[0].split(","))
    except ValueError as error:
        raise ScanError(f"{info} has spacing {rows[0]!r} for {series.name}; {remedy}") from error
    return x, y, z
