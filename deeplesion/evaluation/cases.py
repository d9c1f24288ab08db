"""The ground truth of an evaluation: one :class:`Case` for each key slice of a split.

It is made of ``DL_info.csv`` or of data infos; :mod:`deeplesion.evaluation.ground_truth` reads it
from any file. Cases are in the order of their file names, in which
:class:`deeplesion.evaluation.froc_metric.FROCMetric` counts boxes of equal score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.datasets.dl_info import group_by_key_slice
from deeplesion.datasets.lesion_record import DataError, LesionRecord
from deeplesion.evaluation.matching import Floats, Ints

_SPELLING = re.compile(r"(?:.*[/\\])?(\d+_\d+_\d+)[/\\_](\d+)(?:\.png)?")


@dataclass(frozen=True)
class Case:
    """One key slice: what is known of it and what is there.

    Attributes:
        file_name: As in ``DL_info.csv``, ``000001_01_01_109.png``; no two cases share one.
        patient: Slices of one patient have the same; the unit that the bootstrap draws.
        slice_interval: mm; NaN where unknown.
        lesions: ``(m, 4)`` x1, y1, x2, y2 in px, 0-based.
        long_axes: ``(m,)`` mm; NaN where unknown.
        short_axes: ``(m,)`` mm; NaN where unknown.
        coarse_types: ``(m,)`` keys of :data:`deeplesion.datasets.lesion_record.COARSE_TYPES`.
        heights: ``(m,)`` height in the body, 0 to 1, the third of
            ``Normalized_lesion_location``; NaN where unknown.
        recists: ``(m, 4, 2)`` ends of long and short axis in px; NaN where unknown.
        gender: ``M``, ``F`` or empty.
        age: Years; NaN where unknown.
        spacing: mm per px; NaN where unknown.
        window: Lower and upper end of the window in HU.
        key_slice: Number of the slice in its series.
        series: Folder of the slices, ``000001_01_01``.
        image_id: Number of the image in a COCO ground truth; None elsewhere.
    """

    file_name: str
    patient: str
    slice_interval: float
    lesions: Floats
    long_axes: Floats
    short_axes: Floats
    coarse_types: Ints
    heights: Floats
    recists: Floats
    gender: str
    age: float
    spacing: float
    window: tuple[float, float]
    key_slice: int
    series: str
    image_id: int | None = None


def canonical_name(file_name: str) -> str:
    """The name that ``DL_info.csv`` gives a key slice, from any way of writing it.

    Args:
        file_name: Such as ``000001_01_01/109.png``, a path that ends so, or without ``.png``.

    Returns:
        ``000001_01_01_109.png``; a name that is not DeepLesion's as it is.
    """
    match = _SPELLING.fullmatch(file_name)
    return f"{match[1]}_{int(match[2]):03d}.png" if match else file_name


def cases_of_records(
    records: Iterable[LesionRecord], split: str | None = None, keep_noisy: bool = False
) -> list[Case]:
    """Cases of lesions.

    Args:
        records: Of :func:`deeplesion.datasets.dl_info.read_dl_info`.
        split: ``train``, ``val``, ``test``, or None for all.
        keep_noisy: Whether lesions marked as possibly noisy stay. A key slice all of whose lesions
            go, goes.

    Returns:
        Cases by file name.

    Raises:
        ValueError: If ``split`` is unknown.
    """
    cases = []
    for group in group_by_key_slice(records, split, keep_noisy):
        first, lesions = group.first, group.lesions
        case = Case(
            file_name=canonical_name(first.file_name),
            patient=f"{first.patient_id:06d}",
            slice_interval=first.slice_interval,
            lesions=_rows([lesion.bbox for lesion in lesions], 4),
            long_axes=_rows([lesion.diameters_mm[0] for lesion in lesions]),
            short_axes=_rows([lesion.diameters_mm[1] for lesion in lesions]),
            coarse_types=np.array([lesion.coarse_type for lesion in lesions], np.int64),
            heights=_rows([lesion.location[2] for lesion in lesions]),
            recists=_rows([lesion.recist for lesion in lesions], 4, 2),
            gender=first.gender,
            age=first.age,
            spacing=first.spacing[0],
            window=first.window,
            key_slice=first.key_slice,
            series=first.series,
        )
        cases.append(case)
    return in_order(cases)


def cases_of_infos(infos: Iterable[dict[str, Any]]) -> list[Case]:
    """Cases of data infos, as the data set has them.

    Args:
        infos: As :mod:`deeplesion.datasets.data_infos` describes them. They do not tell height in
            the body, sex and age.

    Returns:
        Cases by file name.

    Raises:
        DataError: If two are of one key slice.
    """
    unknown = [math.nan, math.nan]
    nowhere = [unknown] * 4
    cases = []
    for info in infos:
        lesions = info["instances"]
        axes = _rows([lesion.get("diameters_mm", unknown) for lesion in lesions], 2)
        patient = info.get("patient_id", -1)
        types = [lesion.get("coarse_type", -1) for lesion in lesions]
        case = Case(
            file_name=canonical_name(info["file_name"]),
            patient=f"{patient:06d}" if patient >= 0 else patient_of(info["series"]),
            slice_interval=float(info["slice_interval"]),
            lesions=_rows([lesion["bbox"] for lesion in lesions], 4),
            long_axes=axes[:, 0],
            short_axes=axes[:, 1],
            coarse_types=np.array(types, np.int64),
            heights=np.full(len(lesions), math.nan),
            recists=_rows([lesion.get("recist", nowhere) for lesion in lesions], 4, 2),
            gender="",
            age=math.nan,
            spacing=float(info["spacing"][0]),
            window=(float(info["window"][0]), float(info["window"][1])),
            key_slice=info["key_slice"],
            series=info["series"],
        )
        cases.append(case)
    return in_order(cases)


def patient_of(series: str) -> str:
    """The patient of a series: ``000001`` of ``000001_01_01``."""
    return series.split("_", 1)[0]


def in_order(cases: Iterable[Case]) -> list[Case]:
    """Cases by file name.

    Raises:
        DataError: If two are of one key slice.
    """
    ordered = sorted(cases, key=lambda case: case.file_name)
    for case, following in pairwise(ordered):
        if case.file_name == following.file_name:
            raise DataError(f"key slice {case.file_name} is there twice: keep one of the two")
    return ordered


def _rows(values: ArrayLike, *shape: int) -> Floats:
    return np.asarray(values, np.float64).reshape(-1, *shape)
