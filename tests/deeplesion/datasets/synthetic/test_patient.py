"""One patient in DeepLesion's format: RECIST, boxes, masks, coarse types, stored slices."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deeplesion.datasets.synthetic.patient import (
    ABDOMEN,
    KIDNEY,
    LIVER,
    MEDIASTINUM,
    SOFT_TISSUE,
    Patient,
    PatientOutput,
    Scan,
    coarse_type,
    generate_patient,
    key_slice_indices,
    lesion_row,
    neighbors_stored,
    recist_points,
    true_mask,
)
from deeplesion.datasets.synthetic.scene import Ellipse, Lesion, Section, draw_anatomy

SIZE = 128


def lesion_at(x: float, y: float, a: float = 8.0, b: float = 6.0, angle: float = 0.0) -> Lesion:
    return Lesion(Section(Ellipse(x, y, a, b, angle), 180.0, 1.5), 75.0, 75.0, 6.0)


def cells(text: str) -> list[float]:
    return [float(cell) for cell in text.split(", ")]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Patient, Path, PatientOutput]:
    images = tmp_path_factory.mktemp("patient")
    patient = Patient(7, "test", 5.0, np.random.SeedSequence(3))
    return patient, images, generate_patient(patient, SIZE, images)


@pytest.mark.parametrize(("interval", "stored"), [(1.0, 6), (2.0, 3), (5.0, 3)])
def test_neighbors_reach_far_enough_for_seven_slices(interval: float, stored: int) -> None:
    assert neighbors_stored(interval) == stored


@pytest.mark.parametrize("interval", [1.0, 2.0, 5.0])
def test_key_slices_share_nothing(interval: float) -> None:
    for seed in range(20):
        keys = key_slice_indices(np.random.default_rng(seed), interval)
        assert 1 <= len(keys) <= 3
        assert keys[0] - neighbors_stored(interval) >= 1
        assert all(b - a > 2 * neighbors_stored(interval) for a, b in pairwise(keys))


def test_recist_points_of_an_ellipse_along_the_axes() -> None:
    points = recist_points(lesion_at(10.0, -4.0), SIZE, spacing=2.0)
    center = np.array([10.0, -4.0]) / 2.0 + 63.5
    np.testing.assert_allclose(points - center, [[4, 0], [-4, 0], [0, 3], [0, -3]], atol=1e-9)


def test_true_mask_has_the_ellipse_area() -> None:
    mask = true_mask(lesion_at(0.0, 0.0, 20.0, 10.0, 0.5), SIZE, spacing=1.0)
    assert mask.sum() == pytest.approx(math.pi * 200, rel=0.02)


@pytest.mark.parametrize("angle", np.linspace(0, math.pi, 7))
def test_row_holds_recist_box_and_diameters(angle: float) -> None:
    anatomy = draw_anatomy(np.random.default_rng(0))
    scan = Scan(anatomy, 20, 5.0, SIZE, 1.875)
    lesion = lesion_at(5.0, 3.0, 12.0, 8.5, float(angle))
    columns, box = lesion_row(lesion, scan)
    recist = np.array(cells(columns["Measurement_coordinates"])).reshape(4, 2)
    x1, y1, x2, y2 = cells(columns["Bounding_boxes"])
    np.testing.assert_allclose([x1, y1], recist.min(axis=0) - 5, atol=2e-3)
    np.testing.assert_allclose([x2, y2], recist.max(axis=0) + 5, atol=2e-3)
    long, short = cells(columns["Lesion_diameters_Pixel_"])
    assert long == pytest.approx(np.hypot(*(recist[0] - recist[1])), abs=2e-3)
    assert short == pytest.approx(np.hypot(*(recist[2] - recist[3])), abs=2e-3)
    assert (recist[0] - recist[1]) @ (recist[2] - recist[3]) == pytest.approx(0, abs=0.05)
    np.testing.assert_allclose(box, np.array([x1, y1, x2, y2]) - 1)
    rows, columns_of = np.nonzero(true_mask(lesion, SIZE, 1.875))
    assert box[0] + 3 < columns_of.min() <= columns_of.max() < box[2] - 3
    assert box[1] + 3 < rows.min() <= rows.max() < box[3] - 3


def test_coarse_type_is_that_of_the_organ() -> None:
    anatomy = draw_anatomy(np.random.default_rng(0))
    kidney = next(outline for name, outline, _ in anatomy.organs if name == "kidney")
    liver = next(outline for name, outline, _ in anatomy.organs if name == "liver")
    assert coarse_type(lesion_at(liver.x, liver.y), anatomy) == LIVER
    assert coarse_type(lesion_at(kidney.x, kidney.y), anatomy) == KIDNEY
    assert coarse_type(lesion_at(0.0, 20.0), anatomy) == ABDOMEN
    assert coarse_type(lesion_at(0.0, -0.9 * anatomy.interior.b), anatomy) == SOFT_TISSUE
    assert coarse_type(lesion_at(12.0, -5.0), anatomy) == MEDIASTINUM


def test_slices_are_16_bit_hounsfield(generated: tuple[Patient, Path, PatientOutput]) -> None:
    patient, images, output = generated
    row = output.rows[0]
    first, last = (int(cell) for cell in row["Slice_range"].split(", "))
    key = int(row["Key_slice_index"])
    assert (key - first, last - key) == (3, 3)
    for index in range(first, last + 1):
        stored = cv2.imread(str(images / patient.series / f"{index:03d}.png"), -1)
        assert stored.dtype == np.uint16
        assert stored.shape == (SIZE, SIZE)
        assert -1100 < stored.min() - 32768.0 < -950
        assert 300 < stored.max() - 32768.0 < 700


def test_every_lesion_has_its_mask(generated: tuple[Patient, Path, PatientOutput]) -> None:
    _, _, output = generated
    assert sum(len(masks) for masks in output.masks.values()) == len(output.rows)
    for name, masks in output.masks.items():
        boxes = [cells(row["Bounding_boxes"]) for row in output.rows if row["File_name"] == name]
        for mask, box in zip(masks, boxes, strict=True):
            np.testing.assert_allclose(mask["bbox"], np.array(box) - 1)
            assert coco_mask.decode(mask).sum() >= 4


def test_key_slice_shows_what_is_annotated(
    generated: tuple[Patient, Path, PatientOutput],
) -> None:
    patient, images, output = generated
    for name, masks in output.masks.items():
        path = images / patient.series / f"{name[13:16]}.png"
        hu = cv2.imread(str(path), -1).astype(float) - 32768
        for mask in masks:
            assert hu[coco_mask.decode(mask).astype(bool)].mean() > 100
