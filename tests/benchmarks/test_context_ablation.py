"""What the context benchmark makes of predictions."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import context_ablation as ablation
from benchmarks.context_ablation import Figures, Image

BOX = [10.0, 10.0, 30.0, 30.0]
ELSEWHERE = [50.0, 50.0, 60.0, 60.0]


def image(patient: int, interval: float = 1.0) -> Image:
    return Image(patient, interval, np.array([BOX]))


def detection(box: list[float], score: float = 0.9) -> np.ndarray:
    return np.array([[*box, score]])


def test_variants_are_configs(repo_root: Path) -> None:
    assert all((repo_root / config).is_file() for config, _ in ablation.VARIANTS.values())


def test_images_are_the_key_slices_of_the_test_split(synthetic_root: Path) -> None:
    images = ablation.read_images(synthetic_root)
    lines = (synthetic_root / "DL_info.csv").read_text().splitlines()
    expected = {line.split(",")[0].strip('"') for line in lines if line.endswith(",3")}
    assert set(images) == expected
    assert all(one.lesions.shape[1] == 4 for one in images.values())
    assert {one.slice_interval for one in images.values()} <= {1.0, 2.0, 5.0}
    assert sum(len(one.lesions) for one in images.values()) == sum(
        line.endswith(",3") for line in lines
    )


def test_detections_come_in_the_order_of_the_names(tmp_path: Path) -> None:
    entries = [
        {"file_name": "a.png", "bboxes": [[*BOX, 0.9]]},
        {"file_name": "b.png", "bboxes": []},
    ]
    (tmp_path / "predictions.json").write_text(json.dumps({"images": entries}))
    detections = ablation.read_detections(tmp_path / "predictions.json", ["b.png", "a.png"])
    assert [len(boxes) for boxes in detections] == [0, 1]


def test_interval_of_certain_results_is_a_point() -> None:
    images = [image(0), image(1), image(1)]
    hits = [detection(BOX)] * 3
    assert ablation.bootstrap([hits, hits], images, 20, seed=0) == Figures(1.0, 1.0, 1.0)
    misses = [np.empty((0, 5))] * 3
    assert ablation.bootstrap([misses], images, 20, seed=0) == Figures(0.0, 0.0, 0.0)


def test_patients_are_drawn_whole() -> None:
    images = [image(0), image(0), image(1), image(1)]
    half = [detection(BOX), detection(BOX), np.empty((0, 5)), np.empty((0, 5))]
    figures = ablation.bootstrap([half], images, 200, seed=0)
    assert figures == Figures(0.5, 0.0, 1.0)
    assert figures == ablation.bootstrap([half], images, 200, seed=0)


def test_seeds_are_drawn_too() -> None:
    images = [image(0)]
    figures = ablation.bootstrap([[detection(BOX)], [detection(ELSEWHERE)]], images, 200, seed=0)
    assert figures.mean == pytest.approx(0.5)
    assert (figures.low, figures.high) == (0.0, 1.0)


def test_strata_are_images_of_one_slice_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {f"{mm}.png": image(patient, mm) for patient, mm in enumerate((1.0, 2.0, 5.0))}
    found = [{"file_name": name, "bboxes": []} for name in ("1.0.png", "2.0.png")]
    found.append({"file_name": "5.0.png", "bboxes": [[*BOX, 0.9]]})
    (tmp_path / "predictions.json").write_text(json.dumps({"images": found}))
    monkeypatch.setattr(ablation, "read_images", lambda data: images)
    predictions = {"TSM": [tmp_path / "predictions.json"]}
    row = ablation.analyze(predictions, tmp_path, replicates=5, seed=0)["TSM"]
    means = {stratum: figures.mean for stratum, figures in row.items()}
    assert means == {"all": pytest.approx(1 / 3), "1 mm": 0, "2 mm": 0, "5 mm": 1}


def test_table_is_in_percent() -> None:
    row = dict.fromkeys(ablation.STRATA, Figures(0.5, 0.25, 0.756))
    assert ablation.markdown({"TSM": row}).splitlines() == [
        "| trained on | all | 1 mm | 2 mm | 5 mm |",
        "|---|---|---|---|---|",
        "| TSM | 50.0 (25.0-75.6) | 50.0 (25.0-75.6) | 50.0 (25.0-75.6) | 50.0 (25.0-75.6) |",
    ]


def test_plot_is_drawn(tmp_path: Path) -> None:
    row = dict.fromkeys(ablation.STRATA, Figures(0.5, 0.25, 0.75))
    ablation.plot({"TSM": row, "A3D": row}, tmp_path / "plot.png")
    assert cv2.imread(str(tmp_path / "plot.png")).std() > 0
