"""Figures by stratum, the table and the JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from deeplesion.evaluation.report import (
    ScoredImage,
    build_report,
    format_table,
    report_as_json,
)

HIT = [0.0, 0, 9, 9]
FAR = [50.0, 50, 59, 59]
OTHER = [20.0, 20, 29, 29]


def image(
    detections: list,
    lesions: list,
    interval: float,
    axes: Sequence[float] = (),
    types: Sequence[int] = (),
) -> ScoredImage:
    return ScoredImage(
        np.array(detections, float).reshape(-1, 5),
        np.array(lesions, float).reshape(-1, 4),
        interval,
        list(axes) or [20.0] * len(lesions),
        list(types) or [-1] * len(lesions),
    )


# Two thin images, of which one has false positives only, and a thick one, found at a low score.
IMAGES = [
    image([[*HIT, 0.9], [*FAR, 0.8]], [HIT, OTHER], 1.0, [8.0, 35.0], [5, 4]),
    image([[*FAR, 0.7]], [], 2.0),
    image([[*HIT, 0.2]], [HIT], 5.0, [15.0], [5]),
]


def test_image_strata_are_scored_both_ways() -> None:
    report = build_report(IMAGES)
    assert (report.overall.images, report.overall.lesions) == (3, 3)
    assert list(report.own) == ["thin", "thick"]
    # Alone the thick image has no false positive, so its one hit counts everywhere.
    assert report.own["thick"].mean == 1.0
    # In the whole set its hit comes at 2 / 3 false positives per image.
    whole = report.intervals["thick"].sensitivity
    assert [whole[0.5], whole[1.0]] == [0.0, 1.0]
    assert (report.own["thin"].images, report.own["thin"].lesions) == (2, 2)
    assert report.own["thin"].mean == 0.5


def test_strata_of_lesions() -> None:
    report = build_report(IMAGES)
    assert {name: row.lesions for name, row in report.sizes.items()} == {
        "small": 1,
        "medium": 1,
        "large": 1,
    }
    assert report.sizes["large"].mean == 0
    assert report.sizes["small"].mean == 1
    assert {name: row.lesions for name, row in report.types.items()} == {"liver": 1, "lung": 2}
    # The second comes at 2 / 3 false positives per image.
    lung = report.types["lung"].sensitivity
    assert [lung[0.5], lung[1.0]] == [0.5, 1.0]
    assert report.types["lung"].images == 2


def test_table() -> None:
    lines = format_table(build_report(IMAGES)).splitlines()
    head = ["FPs per image", "images", "lesions", "0.5", "1", "2", "4", "8", "16", "mean"]
    assert re.split(r"\s{2,}", lines[0]) == head
    assert lines[2].split() == ["all", "3", "3", "0.333", *["0.667"] * 5, "0.583"]
    assert lines[3].split()[:6] == ["thin", "(<=", "2", "mm)", "2", "2"]
    assert lines[4].split()[-1] == "1.000"
    assert len({len(line) for line in lines[:6]}) == 1
    assert "sets of their own" in lines[-1]


def test_table_without_lesions() -> None:
    report = build_report([image([], [], 1.0)])
    assert math.isnan(report.overall.mean)
    lines = format_table(report).splitlines()
    assert lines[2].split() == ["all", "1", "0", *"-------"]
    assert lines[-1] == "There are no lesions: sensitivity is not defined."


def test_nothing_found() -> None:
    report = build_report([image([], [HIT], 1.0)])
    assert report.overall.mean == 0
    assert set(report.overall.sensitivity.values()) == {0.0}


def test_no_images() -> None:
    assert math.isnan(build_report([]).overall.mean)


def test_json_is_strict_and_complete() -> None:
    report = build_report([*IMAGES, image([], [], math.nan)], fps=(1, 2))
    content = json.loads(
        json.dumps(report_as_json(report, {"iou_threshold": 0.5}), allow_nan=False)
    )
    assert content["settings"]["iou_threshold"] == 0.5
    assert content["settings"]["mean_fps"] == [0.5, 1, 2, 4]
    assert content["counts"] == {"images": 4, "lesions": 3, "detections": 4}
    assert content["table"]["all"]["sensitivity"] == {
        "1": pytest.approx(2 / 3),
        "2": pytest.approx(2 / 3),
    }
    assert content["table"]["other"]["mean"] is None
    assert content["metrics"] == {
        "sens@1": pytest.approx(2 / 3),
        "sens@2": pytest.approx(2 / 3),
        "mean": content["table"]["all"]["mean"],
        "thin_mean": content["table"]["thin"]["mean"],
        "thick_mean": 1.0,
        "other_mean": None,
    }
    assert content["table"]["thin"]["scored"] == "own set"
    assert list(content["strata"]["long_axis"]) == ["small", "medium", "large"]
    assert list(content["strata"]["slice_interval"]) == ["thin", "thick"]
    curve = content["curves"]["all"]
    assert curve["sensitivity"][-1] == pytest.approx(2 / 3)
    assert len({len(values) for values in curve.values()}) == 1


def test_malformed_boxes_name_the_image() -> None:
    bad = image([[9.0, 0, math.inf, 9, 0.5]], [], 1.0)
    with pytest.raises(ValueError, match="detections of image 3: box must be finite"):
        build_report([*IMAGES, bad])
