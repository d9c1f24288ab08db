"""Tests of what samplers know of samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")

from mmengine.dataset import ConcatDataset

import deeplesion  # noqa: F401
from deeplesion.datasets.deeplesion import DeepLesionDataset
from deeplesion.datasets.samplers.sample_table import (
    SamplingError,
    check_edges,
    lesion_classes,
    read_table,
    thickness_groups,
)
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_series
from tests.deeplesion.datasets.samplers.described import Described, lesion


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three key slices of 1, 5 and 2.5 mm, the first with two lesions."""
    root = tmp_path_factory.mktemp("deeplesion")
    first = dict(Coarse_lesion_type=5, Normalized_lesion_location="0.1, 0.2, 0.9")
    second = dict(Bounding_boxes="13, 17, 31, 35", Normalized_lesion_location="NaN, NaN, NaN")
    rows = [
        row_of("000001_01_01", 5, Spacing_mm_px_="0.5, 0.5, 1", **first),
        row_of("000001_01_01", 5, Spacing_mm_px_="0.5, 0.5, 1", **second),
        row_of("000002_01_01", 5, Spacing_mm_px_="0.5, 0.5, 5"),
        row_of("000003_01_01", 5, Spacing_mm_px_="0.5, 0.5, 2.5"),
    ]
    write_csv(root / "DL_info.csv", rows)
    write_series(root, "000001_01_01", [5])
    return root


def test_table_tells_what_the_csv_says_without_reading_a_slice(root: Path) -> None:
    dataset = DeepLesionDataset(str(root), pipeline=[])
    table = read_table(ConcatDataset([dataset, dataset]))
    assert table.slice_interval.tolist() == [1, 5, 2.5] * 2
    assert table.sample.tolist() == [0, 0, 1, 2, 3, 3, 4, 5]
    assert table.coarse_type.tolist() == [5, -1, -1, -1] * 2
    np.testing.assert_array_equal(table.height, [0.9, math.nan, 0.6, 0.6] * 2)
    assert table.long_axis.tolist() == [5.0] * 8


def test_table_of_a_json_file_is_that_of_the_csv(root: Path) -> None:
    dataset = DeepLesionDataset(str(root), pipeline=[])
    dataset.dump(root / "infos.json")
    again = read_table(DeepLesionDataset(str(root), ann_file="infos.json", pipeline=[]))
    for name, column in vars(read_table(dataset)).items():
        np.testing.assert_array_equal(getattr(again, name), column)


def test_other_data_sets_are_told_what_they_lack() -> None:
    with pytest.raises(SamplingError, match=r"get_data_info\(index\), such as .* got range"):
        read_table(range(3))

    class Photographs(Described):
        def get_data_info(self, index: int) -> dict:
            return {"img_path": "a.jpg"}

    lacking = r"needs slice_interval and instances .* sample 0 of Photographs, .*'img_path'"
    with pytest.raises(SamplingError, match=lacking):
        read_table(Photographs([1.0]))


def test_an_interval_on_an_edge_is_in_the_outer_group() -> None:
    intervals = [0.5, 2.0, 2.0000001, 2.1, 4.9, 4.9999999, 5.0, 10.0, math.nan]
    assert thickness_groups(np.array(intervals)).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, -1]
    assert thickness_groups(np.array([1.0, 2.9, 3.0]), [3]).tolist() == [0, 0, 1]
    three = thickness_groups(np.array([1.0, 2.0, 2.5, 4.0, 5.0]), [1, 2.5, 5])
    assert three.tolist() == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("edges", [[], [5, 2], [2, 2], [0, 2], [math.nan], [[1, 2]]])
def test_edges_must_rise(edges: list) -> None:
    with pytest.raises(
        SamplingError, match=r"edges must be slice intervals in mm > 0 that rise, got"
    ):
        check_edges(edges)


def test_classes_are_those_of_the_first_key_that_is_known() -> None:
    lesions = [[lesion(5, 0.2), lesion(-1, 0.2)], [lesion(-1, 0.9)], [lesion(5)], [lesion()], []]
    table = read_table(Described([1.0] * 5, lesions))
    samples, classes = lesion_classes(table, ["coarse_type", "height"])
    assert samples.tolist() == [0, 0, 1, 2]
    assert classes[0] == classes[3]
    assert len(set(classes.tolist())) == 3
    assert lesion_classes(table, ["height"])[1].tolist() == [0, 0, 2]


def test_sizes_are_cut_as_in_reports() -> None:
    axes = [9.9, 10.0, 29.0, 31.0, math.nan]
    table = read_table(Described([1.0] * 5, [[lesion(long_axis=axis)] for axis in axes]))
    samples, classes = lesion_classes(table, ["long_axis"])
    assert (samples.tolist(), classes.tolist()) == ([0, 1, 2, 3], [0, 1, 1, 2])


def test_thickness_is_a_class_of_samples_without_lesions_too() -> None:
    table = read_table(Described([1.0, 5.0, math.nan]))
    samples, classes = lesion_classes(table, ["slice_interval"])
    assert (samples.tolist(), classes.tolist()) == ([0, 1], [0, 2])


def test_nothing_known_is_an_error_that_says_where_to_look() -> None:
    table = read_table(Described([1.0], [[lesion()]]))
    wanted = r"no sample has any coarse_type .*DeepLesion has for val and test alone.*height"
    with pytest.raises(SamplingError, match=wanted):
        lesion_classes(table, ["coarse_type"])
    with pytest.raises(
        ValueError, match=r"by must name some of slice_interval, .* got \['organ'\]"
    ):
        lesion_classes(table, ["organ"])
