"""A small set with slices, two simulated detectors, and the report's data of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.froc import (
    MEAN_FPS,
    REPORT_FPS,
    curve_from_matches,
    mean_sensitivity,
    sensitivity_at,
)
from deeplesion.evaluation.matching import match_detections
from deeplesion.evaluation.outcomes import Method
from deeplesion.evaluation.report_data import curve_points, gallery_data, lesion_rows
from deeplesion.evaluation.strata import strata_of
from tests.deeplesion.datasets.helpers import write_series

#: Would end the element of the data and run a script, were it not escaped.
EVIL = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
SIZE = (64, 48)


def case_of(number: int, boxes: Any, **changes: Any) -> Case:
    """A key slice of 64 x 48 px (h x w) with lesions."""
    lesions = np.asarray(boxes, np.float64).reshape(-1, 4)
    count, series = len(lesions), f"{number + 1:06d}_01_01"
    known = {
        "file_name": f"{series}_005.png",
        "patient": series[:6],
        "slice_interval": (1.0, 2.0, 5.0)[number % 3],
        "lesions": lesions,
        "long_axes": (lesions[:, 2:] - lesions[:, :2]).max(axis=1, initial=0) * 0.8,
        "short_axes": np.full(count, 4.0),
        "coarse_types": np.arange(number, number + count) % 8 + 1,
        "heights": np.full(count, 0.5),
        "recists": np.stack([lesions[:, [0, 0, 2, 2]], lesions[:, [1, 3, 1, 3]]], axis=2),
        "gender": "MF"[number % 2],
        "age": 30.0 + number,
        "spacing": 0.8,
        "window": (-175.0, 275.0),
        "key_slice": 5,
        "series": series,
    }
    return Case(**{**known, **changes})


def method_of(name: str, cases: Sequence[Case], detections: Sequence[Any]) -> Method:
    """A method by the official protocol."""
    boxes = [np.asarray(rows, np.float64).reshape(-1, 5) for rows in detections]
    return Method(name, boxes, match_detections(boxes, [case.lesions for case in cases]))


def random_cases(count: int, seed: int = 0) -> list[Case]:
    """Key slices with one to three lesions each."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        corner = rng.uniform(2, 24, (rng.integers(1, 4), 2))
        boxes = np.hstack([corner, corner + rng.uniform(6, 18, corner.shape)])
        cases.append(case_of(number, boxes))
    return cases


def random_method(name: str, cases: Sequence[Case], seed: int, jitter: float = 0.6) -> Method:
    """Most lesions with shifted boxes, and false positives."""
    rng = np.random.default_rng(seed)
    detections = []
    for case in cases:
        near = case.lesions + rng.normal(0, jitter, case.lesions.shape)
        corner = rng.uniform(0, 30, (rng.integers(1, 8), 2))
        far = np.hstack([corner, corner + rng.uniform(4, 12, corner.shape)])
        boxes = np.vstack([near, far])
        scores = np.concatenate([rng.beta(4, 3, len(near)), rng.beta(2, 5, len(far))])
        kept = rng.random(len(boxes)) < 0.92
        detections.append(np.column_stack([boxes, scores])[kept])
    return method_of(name, cases, detections)


def write_slices(root: Path, cases: Sequence[Case]) -> Path:
    """The key slice of each case, and for the first half its neighbors; returns their folder."""
    for number, case in enumerate(cases):
        write_series(root, case.series, (4, 5, 6) if number < len(cases) / 2 else (5,))
    return root / "Images_png"


def figure(value: float) -> dict[str, float]:
    """A figure with an interval of 0.1."""
    return {"value": value, "low": max(value - 0.05, 0), "high": min(value + 0.05, 1)}


def report_of(
    cases: Sequence[Case], methods: Sequence[Method], image_root: Path | None = None
) -> dict[str, Any]:
    """Data of a report."""
    strata = strata_of(cases, ("slice_interval", "long_axis", "coarse_type"))
    described = []
    for method in methods:
        curve = curve_from_matches(method.matches)
        at = sensitivity_at(curve.sensitivity, curve.fps_per_image)
        rows = [
            {"kind": s.kind, "name": s.name, "label": s.label, "lesions": int(s.lesions.sum())}
            | figure(mean_sensitivity(curve_from_matches(method.matches, s.lesions)))
            for s in strata
        ]
        described.append(
            {
                "name": method.name,
                "figures": {f"{f:g}": figure(v) for f, v in zip(REPORT_FPS, at, strict=True)},
                "mean": figure(mean_sensitivity(curve)),
                "curve": curve_points(method.matches),
                "band": {"fps": REPORT_FPS, "low": at - 0.05, "high": at + 0.05},
                "strata": rows,
                "calibration": [{"score": 0.4, "precision": 0.3, "low": 0.2, "high": 0.4}],
                "calibration_error": 0.1,
            }
        )
    names = [method.name for method in methods]
    change = {"fps": "mean", "difference": -0.05, "low": -0.08, "high": -0.02, "p": 0.002}
    return {
        "title": f"Report {EVIL}",
        "provenance": [["Split", "test"], ["Predictions", EVIL]],
        "counts": {"images": len(cases), "lesions": sum(len(case.lesions) for case in cases)},
        "fps": list(REPORT_FPS),
        "mean_fps": list(MEAN_FPS),
        "level": 0.95,
        "methods": described,
        "comparisons": [
            {"first": names[0], "second": name, "rows": [change]} for name in names[1:]
        ],
        "references": [
            {"method": "A3D", "slices": 7, "mean": 88.11, "source": "?", "confirmed": False},
            {"method": "3DCE", "slices": 27, "mean": 1.0, "source": EVIL, "confirmed": True},
        ],
        "notes": [EVIL, f"nothing is known of {math.nan}"],
        "lesions": lesion_rows(cases, methods, strata),
        **gallery_data(cases, methods, image_root, count=4)[0],
    }
