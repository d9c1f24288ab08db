"""The data set as a whole: plan, format, reproducibility, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from pycocotools import mask as coco_mask

from deeplesion.datasets.dl_info import COLUMNS, find_image_root, key_slice_path, read_dl_info
from deeplesion.datasets.synthetic.generate import (
    SyntheticConfig,
    make_synthetic,
    plan_patients,
)

SMALL = SyntheticConfig(patients=6, size=64, seed=5)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "data"
    make_synthetic(root, SMALL)
    return root


def test_default_plan_is_80_10_35_and_mixes_intervals_in_every_split() -> None:
    patients = plan_patients(SyntheticConfig())
    assert [p.number for p in patients] == list(range(1, 126))
    assert Counter(p.split for p in patients) == {"train": 80, "val": 10, "test": 35}
    for split in ("train", "val", "test"):
        counts = Counter(p.slice_interval for p in patients if p.split == split)
        assert set(counts) == {1.0, 2.0, 5.0}
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("patients", [3, 4, 5, 7])
def test_no_split_and_no_interval_is_empty(patients: int) -> None:
    plan = plan_patients(SyntheticConfig(patients=patients))
    assert {p.split for p in plan} == {"train", "val", "test"}
    assert {p.slice_interval for p in plan} == {1.0, 2.0, 5.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 2}, r"patients must be 3 \(one per split\) to 100000, got 2"),
        ({"patients": -1}, "patients must be 3"),
        ({"size": 16}, "size must be 64 to 512 px, got 16"),
        ({"size": 100_000}, "size must be 64 to 512 px"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
    ],
)
def test_absurd_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**arguments)


def test_bytes_depend_on_the_seed_alone(small: Path, tmp_path: Path) -> None:
    make_synthetic(tmp_path / "again", SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(small)
    make_synthetic(tmp_path / "other", SyntheticConfig(6, 64, seed=6))
    assert digests(tmp_path / "other")["DL_info.csv"] != digests(small)["DL_info.csv"]


def test_read_dl_info_takes_every_row(small: Path) -> None:
    records = read_dl_info(small / "DL_info.csv")
    root = find_image_root(small)
    meta = json.loads((small / "meta.json").read_text())
    assert (meta["patients"], meta["size"], meta["seed"], meta["version"]) == (6, 64, 5, 1)
    assert {record.patient_id for record in records} == set(range(1, 7))
    assert {record.split for record in records} == {"train", "val", "test"}
    assert {record.slice_interval for record in records} == {1.0, 2.0, 5.0}
    for record in records:
        assert 1 <= record.coarse_type <= 8
        assert record.image_size == (64, 64)
        assert record.window == (-175.0, 275.0)
        assert 8 < record.diameters_mm[0] < 30
        for index in range(record.slice_range[0], record.slice_range[1] + 1):
            assert key_slice_path(root, record.series, index).is_file()


def test_csv_is_spelled_as_the_published_one(small: Path, shared_data: Path) -> None:
    ours = (small / "DL_info.csv").read_text().splitlines()
    real = (shared_data / "DL_info_rows.csv").read_text().splitlines()
    assert ours[0] == real[0] == ",".join(COLUMNS)
    shape = re.compile(r"\d+")
    assert shape.sub("0", ours[1].split(",")[0]) == shape.sub("0", real[1].split(",")[0])
    assert ours[1].count('"') == real[1].count('"')
    assert ours[1].count(", ") == real[1].count(", ")


def test_boxes_enclose_the_true_masks(small: Path) -> None:
    masks = {}
    for split in ("train", "val", "test"):
        content = json.loads((small / f"masks_true_{split}.json").read_text())
        assert content["meta"]["source"] == "synthetic truth"
        masks |= content["masks"]
    records = read_dl_info(small / "DL_info.csv")
    assert sum(len(found) for found in masks.values()) == len(records)
    for record in records:
        found = [m for m in masks[record.file_name] if m["bbox"] == pytest.approx(record.bbox)]
        assert len(found) == 1
        x, y, w, h = coco_mask.toBbox(found[0])
        x1, y1, x2, y2 = record.bbox
        assert x1 + 3.5 < x < x + w - 1 < x2 - 3.5
        assert y1 + 3.5 < y < y + h - 1 < y2 - 3.5


def test_summary_counts_what_was_written(tmp_path: Path) -> None:
    summary = make_synthetic(tmp_path / "data", SMALL)
    records = read_dl_info(tmp_path / "data" / "DL_info.csv")
    assert summary.patients == {"train": 3, "val": 1, "test": 2}
    assert summary.lesions == Counter(record.split for record in records)
    names = {(record.split, record.file_name) for record in records}
    assert summary.key_slices == Counter(split for split, _ in names)
    assert "train" in str(summary)
    assert "1 mm: 1" in str(summary)


def test_a_folder_in_use_is_refused(small: Path, tmp_path: Path) -> None:
    before = digests(small)
    with pytest.raises(FileExistsError, match="is not empty; give another folder or --overwrite"):
        make_synthetic(small, SMALL)
    assert digests(small) == before
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds something else than a synthetic data set"):
        make_synthetic(tmp_path, SMALL, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_overwrite_leaves_nothing_of_the_old_set(tmp_path: Path) -> None:
    root = tmp_path / "data"
    make_synthetic(root, SyntheticConfig(7, 64, seed=1))
    (root / "masks_train.json").write_text("{}")
    make_synthetic(root, SMALL, overwrite=True)
    make_synthetic(tmp_path / "fresh", SMALL)
    assert digests(root) == digests(tmp_path / "fresh")


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        make_synthetic(tmp_path / "data", SMALL, workers=0)
