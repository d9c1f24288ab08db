"""Strata of lesions and of images: by slice interval, size, type, height in the body, sex, age.

Lesions of a stratum are counted at the score thresholds of the whole set, as
:func:`deeplesion.evaluation.froc.curve_from_matches` does; images of a stratum can also be scored
as a set of their own, as papers do with slice intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplesion.datasets.lesion_record import COARSE_TYPES
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.matching import Bools, Floats

#: Strata of images by slice interval in mm, as papers on DeepLesion have them.
THIN_MM = 2.0
THICK_MM = 5.0
#: Values this close to an edge, relatively, are on it, for pixels times spacing are rounded.
EDGE = 1e-6
INTERVAL_LABELS = {"thin": "thin (<= 2 mm)", "thick": "thick (5 mm)", "other": "other intervals"}
#: Strata of lesions by long axis in mm.
SMALL_MM = 10.0
LARGE_MM = 30.0
SIZE_LABELS = {
    "small": "long axis < 10 mm",
    "medium": "long axis 10 to 30 mm",
    "large": "long axis > 30 mm",
    "unknown": "long axis unknown",
}
GENDER_LABELS = {"F": "female", "M": "male", "unknown": "sex unknown"}
UNKNOWN = "unknown"
#: Thirds of the height in the body, and decades of age in years.
HEIGHT_EDGES = (1 / 3, 2 / 3)
AGE_EDGES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
#: What strata are made by: the first three are properties of an image, the others of a lesion.
IMAGE_KINDS = ("slice_interval", "gender", "age")
LESION_KINDS = ("long_axis", "coarse_type", "height")
KINDS = ("slice_interval", "long_axis", "coarse_type", "height", "gender", "age")
#: Kinds that edges cut into bins: what the label calls the value, and its unit.
MEASURES = {
    "slice_interval": ("slice interval", " mm"),
    "long_axis": ("long axis", " mm"),
    "height": ("body height", ""),
    "age": ("age", " years"),
}

Names = NDArray[np.str_]


class Stratum(NamedTuple):
    """Some of the lesions of a set, or all lesions of some of its images.

    Attributes:
        kind: What it is made by, of :data:`KINDS`.
        name: Within the kind, such as ``thin``.
        label: For people, such as ``thin (<= 2 mm)``.
        lesions: ``(m,)`` which lesions are in it, image after image.
        images: ``(num_images,)`` which images make it; None for a stratum of lesions.
    """

    kind: str
    name: str
    label: str
    lesions: Bools
    images: Bools | None


def strata_of(
    cases: Sequence[Case],
    kinds: Sequence[str] = KINDS,
    edges: Mapping[str, Sequence[float]] | None = None,
) -> list[Stratum]:
    """Strata of a set.

    Slice intervals and long axes are cut as the design of DeepLesion's reports has them (see
    :func:`interval_stratum` and :func:`size_stratum`), heights into thirds, ages into decades.
    What is unknown forms the stratum ``unknown`` of its kind; a slice interval that is NaN or not
    above 0 is unknown here, not ``other``.

    Args:
        cases: The images.
        kinds: Of :data:`KINDS`, in the order wanted.
        edges: Other edges for a kind of :data:`MEASURES`, see :func:`binned`. A slice interval on
            an edge is in the bin below it, as ``<= 2 mm`` has it, any other value in that above.

    Returns:
        Strata by kind, from low to high, unknown last; those without images or lesions are left
        out.

    Raises:
        ValueError: If a kind is unknown or has no edges, or edges do not rise.
    """
    edges = edges or {}
    for kind in (*kinds, *edges):
        if kind not in KINDS:
            raise ValueError(f"kind of strata must be one of {', '.join(KINDS)}, got {kind!r}")
    if wrong := sorted(set(edges) - set(MEASURES)):
        raise ValueError(f"{wrong[0]} is not a measure: edges are for {', '.join(MEASURES)}")
    lesion_image = np.repeat(np.arange(len(cases)), [len(case.lesions) for case in cases])
    found = []
    for kind in kinds:
        names, labels = _names(cases, kind, edges.get(kind))
        for name, label in labels.items():
            chosen = names == name
            if not chosen.any():
                continue
            if kind in IMAGE_KINDS:
                found.append(Stratum(kind, name, label, chosen[lesion_image], chosen))
            else:
                found.append(Stratum(kind, name, label, chosen, None))
    return found


def binned(
    values: ArrayLike, edges: Sequence[float], upper: bool = False
) -> tuple[Names, list[str]]:
    """Cut values into bins.

    Args:
        values: ``(n,)``; NaN is unknown. A value within :data:`EDGE` of an edge is on it.
        edges: Rising, one or more: k edges make k + 1 bins.
        upper: Whether a value on an edge is in the bin below it.

    Returns:
        ``(n,)`` names of the bins and :data:`UNKNOWN`, and the names in their order.

    Raises:
        ValueError: If the edges are none, not finite, or do not rise.

    Example:
        >>> binned([4, 10, 12], [5, 10])
        (array(['< 5', '>= 10', '>= 10'], dtype='<U9'), ['< 5', '5 to < 10', '>= 10', 'unknown'])
    """
    cuts = np.asarray(edges, np.float64)
    if cuts.ndim != 1 or not cuts.size or not np.isfinite(cuts).all() or (np.diff(cuts) <= 0).any():
        raise ValueError(f"edges must be finite numbers that rise, got {list(edges)}")
    given = np.array(values, np.float64)
    for cut in cuts:
        given[np.isclose(given, cut, rtol=EDGE, atol=0)] = cut
    shown = [f"{cut:.3g}" for cut in cuts]
    pairs = list(pairwise(shown))
    if upper:
        names = [f"<= {shown[0]}", *(f"> {a} to {b}" for a, b in pairs), f"> {shown[-1]}"]
    else:
        names = [f"< {shown[0]}", *(f"{a} to < {b}" for a, b in pairs), f">= {shown[-1]}"]
    names.append(UNKNOWN)
    index = np.searchsorted(cuts, given, side="left" if upper else "right")
    return np.array(names, np.str_)[np.where(np.isnan(given), len(names) - 1, index)], names


def interval_stratum(slice_interval: float) -> str:
    """``thin``, ``thick`` or ``other`` for a slice interval in mm; unknown (NaN, <= 0): other."""
    if 0 < slice_interval < THIN_MM or math.isclose(slice_interval, THIN_MM, rel_tol=EDGE):
        return "thin"
    return "thick" if math.isclose(slice_interval, THICK_MM, rel_tol=EDGE) else "other"


def size_stratum(long_axis: float) -> str:
    """``small``, ``medium``, ``large``, or ``unknown`` for a long axis in mm."""
    if math.isnan(long_axis):
        return UNKNOWN
    if any(math.isclose(long_axis, edge, rel_tol=EDGE) for edge in (SMALL_MM, LARGE_MM)):
        return "medium"
    if long_axis < SMALL_MM:
        return "small"
    return "medium" if long_axis < LARGE_MM else "large"


def _names(
    cases: Sequence[Case], kind: str, edges: Sequence[float] | None
) -> tuple[Names, dict[str, str]]:
    """Name of the stratum of each image or lesion, and the labels of the names in their order."""
    if kind == "gender":
        genders = [case.gender if case.gender in GENDER_LABELS else UNKNOWN for case in cases]
        return np.array(genders, np.str_), GENDER_LABELS
    if kind == "coarse_type":
        keys = [key for case in cases for key in case.coarse_types.tolist()]
        known = [name for key, name in COARSE_TYPES.items() if key != -1]
        labels = {**{name: name for name in known}, UNKNOWN: "type unknown"}
        return np.array([COARSE_TYPES.get(key, UNKNOWN) for key in keys], np.str_), labels
    values = _values(cases, kind)
    if kind == "slice_interval" and edges is None:
        named = [UNKNOWN if math.isnan(mm) else interval_stratum(mm) for mm in values.tolist()]
        return np.array(named, np.str_), {**INTERVAL_LABELS, UNKNOWN: "slice interval unknown"}
    if kind == "long_axis" and edges is None:
        return np.array([size_stratum(mm) for mm in values.tolist()], np.str_), SIZE_LABELS
    if edges is None:
        edges = HEIGHT_EDGES if kind == "height" else AGE_EDGES
    names, order = binned(values, edges, upper=kind == "slice_interval")
    measure, unit = MEASURES[kind]
    labels = {name: f"{measure} {name}{unit}" for name in order[:-1]}
    return names, {**labels, UNKNOWN: f"{measure} {UNKNOWN}"}


def _values(cases: Sequence[Case], kind: str) -> Floats:
    """The measure of each image or lesion; NaN where unknown."""
    if kind == "age":
        return np.array([case.age for case in cases], np.float64)
    if kind == "slice_interval":
        intervals = np.array([case.slice_interval for case in cases], np.float64)
        return np.where(intervals > 0, intervals, np.nan)
    rows = [case.long_axes if kind == "long_axis" else case.heights for case in cases]
    return np.concatenate([np.empty(0), *rows])
