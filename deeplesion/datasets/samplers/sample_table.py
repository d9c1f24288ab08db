"""What samplers know of samples without loading them, and the classes that they put them in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.lesion_record import COARSE_TYPES, DataError
from deeplesion.evaluation.strata import EDGE, HEIGHT_EDGES, LARGE_MM, SMALL_MM, THICK_MM, THIN_MM

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: By what samples can be told apart, and what to see to where all of them lack it.
KEYS = {
    "slice_interval": "Spacing_mm_px_ of DL_info.csv",
    "coarse_type": "Coarse_lesion_type of DL_info.csv, which DeepLesion has for val and test alone",
    "height": "Normalized_lesion_location of DL_info.csv",
    "long_axis": "Lesion_diameters_Pixel_ of DL_info.csv",
}
UNKNOWN_TYPE = -1
#: Slice intervals of thin and thick images in mm, as in the strata of reports.
THICKNESS_EDGES = (THIN_MM, THICK_MM)
# Keys of one list of preferences have classes of their own: more than any key has.
CLASSES_OF_A_KEY = 1000
UNKNOWN = -1


class SamplingError(DataError):
    """A setting of a sampler that cannot be, or that the data have nothing for."""


@dataclass(frozen=True)
class SampleTable:
    """The samples of a data set and their lesions.

    Attributes:
        slice_interval: ``(n,)`` in mm; NaN unknown.
        sample: ``(m,)``, the sample of each lesion.
        coarse_type: ``(m,)`` of the lesions; -1 unknown.
        height: ``(m,)`` in the body, 0 to 1; NaN unknown.
        long_axis: ``(m,)`` in mm; NaN unknown.
    """

    slice_interval: Floats
    sample: Ints
    coarse_type: Ints
    height: Floats
    long_axis: Floats

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.slice_interval)


def read_table(dataset: Any) -> SampleTable:
    """Look through the data infos of a data set; nothing is loaded.

    Args:
        dataset: Such as ``DeepLesionDataset``, also within mmengine's wrappers: what has
            ``get_data_info(index)``.

    Raises:
        SamplingError: It has not, or its samples are not described so.
    """
    if not hasattr(dataset, "get_data_info"):
        raise SamplingError(
            f"sampling by thickness or lesion needs a data set with get_data_info(index), such as "
            f"DeepLesionDataset, got {type(dataset).__name__}"
        )
    intervals: list[float] = []
    lesions: list[tuple[float, ...]] = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if "slice_interval" not in info or "instances" not in info:
            missing = [key for key in ("slice_interval", "instances") if key not in info]
            raise SamplingError(
                f"sampling by thickness or lesion needs {' and '.join(missing)} in the data info "
                f"of sample {index} of {type(dataset).__name__}, which has {sorted(info)}"
            )
        intervals.append(_number(info["slice_interval"]))
        lesions.extend((index, *_measures(lesion)) for lesion in info["instances"])
    table = np.array(lesions, np.float64).reshape(-1, 4)
    spacing = np.array(intervals, np.float64)
    return SampleTable(
        np.where(spacing > 0, spacing, np.nan),
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2],
        table[:, 3],
    )


def _measures(lesion: Mapping[str, Any]) -> tuple[float, float, float]:
    """Coarse type, height and long axis."""
    coarse_type = lesion.get("coarse_type")
    location, diameters = lesion.get("location"), lesion.get("diameters_mm")
    return (
        coarse_type if coarse_type in COARSE_TYPES else UNKNOWN_TYPE,
        _number(location[2]) if location else math.nan,
        _number(diameters[0]) if diameters else math.nan,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def check_edges(edges: Sequence[float]) -> tuple[float, ...]:
    """Edges of thickness groups as numbers.

    Raises:
        SamplingError: They are none, not positive or do not rise.
    """
    cuts = np.asarray(edges, np.float64)
    good = cuts.ndim == 1 and cuts.size > 0 and np.isfinite(cuts).all() and cuts[0] > 0
    if not good or (np.diff(cuts) <= 0).any():
        raise SamplingError(f"edges must be slice intervals in mm > 0 that rise, got {edges}")
    return tuple(cuts.tolist())


def thickness_groups(
    slice_interval: Floats, edges: Sequence[float] = THICKNESS_EDGES
) -> NDArray[np.int64]:
    """The thickness group of each slice interval.

    Args:
        slice_interval: ``(n,)`` in mm; NaN unknown.
        edges: In mm, rising. An interval on an edge is in the thinner group, but on the last edge
            in the thickest one: (2, 5) makes <= 2 mm, 2 to 5 mm without either, and >= 5 mm.

    Returns:
        ``(n,)`` numbers from 0 for the thinnest; -1 unknown.
    """
    cuts = np.array(check_edges(edges))
    # The last edge belongs to what is above it; all are as wide as rounding in files.
    limits = cuts * (1 + EDGE)
    limits[-1] = cuts[-1] * (1 - EDGE)
    groups = np.searchsorted(limits, slice_interval, side="left")
    return np.where(np.isnan(slice_interval), UNKNOWN, groups).astype(np.int64)


def lesion_classes(
    table: SampleTable, by: Sequence[str], edges: Sequence[float] = THICKNESS_EDGES
) -> tuple[Ints, Ints]:
    """Classes that the samples have, by the first key that is known of a lesion.

    Args:
        table: The samples.
        by: Some of :data:`KEYS`, the preferred one first. ``height`` is cut into thirds of the
            body, ``long_axis`` at 10 and 30 mm, ``slice_interval`` at the edges.
        edges: See :func:`thickness_groups`.

    Returns:
        Two of ``(k,)``: a sample, and the number of a class that it has; unknown ones are left out.
        An entry for each lesion, or by ``slice_interval`` alone for each sample.

    Raises:
        SamplingError: If a key is none of them, or nothing is known of any sample.
    """
    unknown_keys = [key for key in by if key not in KEYS]
    if unknown_keys or not by:
        raise SamplingError(f"by must name some of {', '.join(KEYS)}, got {list(by)}")
    intervals = thickness_groups(table.slice_interval, edges)
    alone = list(by) == ["slice_interval"]
    samples = np.arange(len(table), dtype=np.int64) if alone else table.sample
    values = {
        "slice_interval": intervals[samples],
        "coarse_type": table.coarse_type,
        "height": _cut(table.height, HEIGHT_EDGES),
        "long_axis": _cut(table.long_axis, (SMALL_MM, LARGE_MM)),
    }
    classes = np.full(len(samples), UNKNOWN, np.int64)
    for number, key in enumerate(by):
        found = (classes == UNKNOWN) & (values[key] != UNKNOWN)
        classes[found] = values[key][found] + number * CLASSES_OF_A_KEY
    known = classes != UNKNOWN
    if not known.any():
        raise SamplingError(
            f"no sample has any {' or '.join(by)} to sample by ("
            f"{'; '.join(f'{key}: {KEYS[key]}' for key in by)}): "
            f"name another key, of {', '.join(KEYS)}"
        )
    return samples[known], classes[known]


def _cut(values: Floats, edges: Sequence[float]) -> Ints:
    bins = np.searchsorted(np.asarray(edges), values, side="right")
    return np.where(np.isnan(values), UNKNOWN, bins).astype(np.int64)
