"""Masks of a whole split."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deeplesion.datasets import mask_files
from deeplesion.datasets.ct import SliceError, read_slice, window_to_uint8
from deeplesion.datasets.dl_info import DLInfoError, read_dl_info
from deeplesion.datasets.lesion_record import DataError
from deeplesion.datasets.mask_files import EmptySplitError, MaskJob, make_masks
from deeplesion.datasets.masks import published_gray
from deeplesion.datasets.synthetic.generate import SyntheticConfig, make_synthetic


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("masks") / "data"
    make_synthetic(root, SyntheticConfig(patients=6, size=96, seed=2))
    return root


@pytest.fixture
def root(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "data"))


def load(path: Path) -> dict[str, dict[str, list[dict[str, object]]]]:
    return json.loads(path.read_text())


def key_slice_files(root: Path, split: str) -> list[Path]:
    records = [r for r in read_dl_info(root / "DL_info.csv") if r.split == split]
    paths = [root / "Images_png" / r.series / f"{r.key_slice:03d}.png" for r in records]
    return list(dict.fromkeys(paths))


def edit_rows(root: Path, **columns: str) -> None:
    with (root / "DL_info.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (root / "DL_info.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, **columns} for row in rows)


def test_masks_match_the_truth(root: Path) -> None:
    summary = make_masks(root, MaskJob("train"))
    made, truth = load(root / "masks_train.json"), load(root / "masks_true_train.json")
    assert list(made["masks"]) == list(truth["masks"])
    ious = []
    for name, masks in made["masks"].items():
        for one, true in zip(masks, truth["masks"][name], strict=True):
            assert one["bbox"] == pytest.approx(true["bbox"])
            a, b = coco_mask.decode(one), coco_mask.decode(true)
            ious.append((a & b).sum() / (a | b).sum())
    assert np.mean(ious) > 0.75
    assert summary.grabcut + summary.ellipse == len(ious)
    assert summary.key_slices == len(made["masks"])
    assert made["meta"]["grabcut"] == summary.grabcut
    assert made["meta"]["ellipse"] == summary.ellipse
    assert (made["meta"]["seed"], made["meta"]["iterations"]) == (0, 3)
    assert not journals(root / "masks_train.json")


def test_workers_do_not_change_a_byte(root: Path) -> None:
    one, two = root / "one.json", root / "two.json"
    make_masks(root, MaskJob("train", out=one, workers=1))
    make_masks(root, MaskJob("train", out=two, workers=2))
    assert one.read_bytes() == two.read_bytes()


def test_resumed_masks_are_those_of_one_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_masks(root, MaskJob("train", out=root / "whole.json"))
    out = root / "resumed.json"
    original, calls = mask_files.mask_key_slice, []

    def stop_after_two(key_slice: object, **options: object) -> object:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(key_slice)
        return original(key_slice, **options)

    monkeypatch.setattr(mask_files, "mask_key_slice", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        make_masks(root, MaskJob("train", out=out))
    assert not out.exists()
    monkeypatch.setattr(mask_files, "mask_key_slice", original)
    summary = make_masks(root, MaskJob("train", out=out))
    assert summary.resumed == 2
    assert out.read_bytes() == (root / "whole.json").read_bytes()


def journals(out: Path) -> list[Path]:
    return list(out.parent.glob(f"{out.name}.*.partial.jsonl"))


def test_each_lesion_is_cut_in_its_own_window(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No number wraps around, and the window is that of the lesion's row; else with legacy."""
    edit_rows(root, DICOM_windows="-150, 250")
    original, seen = mask_files.lesion_mask, []

    def spy(gray: np.ndarray, *args: object, **options: object) -> object:
        seen.append((gray, options["legacy"]))
        return original(gray, *args, **options)

    monkeypatch.setattr(mask_files, "lesion_mask", spy)
    for legacy in (False, True):
        seen.clear()
        make_masks(root, MaskJob("val", legacy=legacy))
        hu = read_slice(key_slice_files(root, "val")[0])
        shown = published_gray(hu) if legacy else window_to_uint8(hu, (-150, 250))
        np.testing.assert_array_equal(seen[0][0], shown)
        assert seen[0][1] is legacy


def test_legacy_masks_are_no_others(root: Path) -> None:
    first = make_masks(root, MaskJob("val"))
    assert not make_masks(root, MaskJob("val", legacy=True)).already_made
    assert load(root / "masks_val.json")["meta"]["source"] == "published grabcut"
    assert make_masks(root, MaskJob("val", legacy=True)).already_made
    assert not make_masks(root, MaskJob("val")).already_made
    assert make_masks(root, MaskJob("val")).grabcut == first.grabcut


def test_journal_of_another_seed_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = root / "masks.json"
    original = mask_files.mask_key_slice
    calls = []

    def stop_at_the_second(key_slice: object, **options: object) -> object:
        calls.append(key_slice)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(key_slice, **options)

    monkeypatch.setattr(mask_files, "mask_key_slice", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_masks(root, MaskJob("train", out=out, seed=7))
    monkeypatch.setattr(mask_files, "mask_key_slice", original)
    assert make_masks(root, MaskJob("train", out=out)).resumed == 0
    assert len(journals(out)) == 1
    assert make_masks(root, MaskJob("train", out=out, seed=7)).resumed == 1
    assert not journals(out)


def test_what_is_made_is_not_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = MaskJob("train")
    first = make_masks(root, job)
    before = (root / "masks_train.json").read_bytes()
    original, calls = mask_files.mask_key_slice, []

    def spy(key_slice: object, **options: object) -> object:
        calls.append(key_slice)
        return original(key_slice, **options)

    monkeypatch.setattr(mask_files, "mask_key_slice", spy)
    again = make_masks(root, job)
    assert again.already_made
    assert str(again).startswith("already made: ")
    assert (again.key_slices, again.grabcut) == (first.key_slices, first.grabcut)
    assert not calls
    assert not make_masks(root, replace(job, overwrite=True)).already_made
    assert len(calls) == first.key_slices
    assert (root / "masks_train.json").read_bytes() == before
    assert not make_masks(root, replace(job, seed=1)).already_made
    for content in ("[]", "{", '{"meta": {}, "masks": {}}'):
        (root / "masks_train.json").write_text(content)
        assert not make_masks(root, job).already_made


def break_box(root: Path, split: str) -> str:
    """Spoil the box of the first lesion of a split; its key slice."""
    path = root / "DL_info.csv"
    first = next(r for r in read_dl_info(path) if r.split == split)
    lines = path.read_text().splitlines(keepends=True)
    cells = next(csv.reader([lines[first.row - 1]]))
    cells[lines[0].split(",").index("Bounding_boxes")] = "x"
    lines[first.row - 1] = ",".join(f'"{cell}"' for cell in cells) + "\n"
    path.write_text("".join(lines))
    return first.file_name


def test_malformed_rows(root: Path) -> None:
    name = break_box(root, "val")
    assert not make_masks(root, MaskJob("train")).skipped
    with pytest.raises(DLInfoError, match="Bounding_boxes must be 4 numbers"):
        make_masks(root, MaskJob("val"))
    summary = make_masks(root, MaskJob("val", on_error="skip"))
    assert len(summary.skipped) == 1
    assert "Bounding_boxes" in summary.skipped[0]
    content = load(root / "masks_val.json")
    assert name not in content["masks"]
    assert content["meta"]["skipped"] == 1
    assert not make_masks(root, MaskJob("val", on_error="skip")).already_made


def test_failure_of_opencv_names_the_key_slice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise cv2.error("out of luck")

    monkeypatch.setattr(mask_files, "lesion_mask", fail)
    name = key_slice_files(root, "val")[0].name
    with pytest.raises(DataError, match=rf"{name}: OpenCV failed: .*out of luck.*\(row \d+ of DL"):
        make_masks(root, MaskJob("val"))
    assert "out of luck" in make_masks(root, MaskJob("val", on_error="skip")).skipped[0]


def test_fallback_ellipses_are_counted(root: Path) -> None:
    """Boxes over the whole slice leave GrabCut no background."""
    edit_rows(root, Bounding_boxes="1, 1, 96, 96")
    summary = make_masks(root, MaskJob("val"))
    assert summary.grabcut == 0
    assert summary.ellipse > 0
    content = load(root / "masks_val.json")
    assert content["meta"]["ellipse"] == summary.ellipse
    assert all(coco_mask.decode(m).any() for found in content["masks"].values() for m in found)
    assert f"{summary.ellipse} RECIST ellipses" in str(summary)


def test_noisy_rows_are_left_out_unless_kept(root: Path) -> None:
    edit_rows(root, Possibly_noisy="1")
    with pytest.raises(EmptySplitError, match="no key slice of split 'val' in"):
        make_masks(root, MaskJob("val"))
    assert make_masks(root, MaskJob("val", keep_noisy=True)).key_slices > 0


@pytest.mark.parametrize("damage", ["missing", "truncated", "8 bit", "size"])
def test_a_bad_key_slice_is_named_or_skipped(root: Path, damage: str) -> None:
    path = key_slice_files(root, "train")[1]
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    else:
        dtype, size = (np.uint8, 96) if damage == "8 bit" else (np.uint16, 50)
        cv2.imwrite(str(path), np.zeros((size, size), dtype))
    with pytest.raises(SliceError, match=rf"{path.name} .*\(row \d+ of DL_info\.csv\)"):
        make_masks(root, MaskJob("train"))
    summary = make_masks(root, MaskJob("train", on_error="skip"))
    assert len(summary.skipped) == 1
    assert path.name in summary.skipped[0]
    assert "1 skipped" in str(summary)
    content = load(root / "masks_train.json")
    assert content["meta"]["skipped"] == 1
    assert len(content["masks"]) == summary.key_slices


def test_what_was_skipped_is_made_once_it_is_there(root: Path) -> None:
    path = key_slice_files(root, "val")[0]
    hidden = path.rename(path.with_suffix(".hidden"))
    assert len(make_masks(root, MaskJob("val", on_error="skip")).skipped) == 1
    hidden.rename(path)
    assert not make_masks(root, MaskJob("val", on_error="skip")).skipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid"}, "split must be one of train, val, test, got 'valid'"),
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"on_error": "ignore"}, "on_error must be raise or skip, got 'ignore'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskJob(**{"split": "val", **arguments})  # type: ignore[arg-type]


def test_real_lesions(shared_data: Path, tmp_path: Path) -> None:
    """GrabCut cuts all real validation lesions, to less than their box and more than a dot."""
    job = MaskJob("val", out=tmp_path / "masks.json")
    summary = make_masks(shared_data / "deeplesion_mini", job)
    assert (summary.grabcut, summary.ellipse) == (35, 0)
    for masks in load(job.out)["masks"].values():  # type: ignore[arg-type]
        for mask in masks:
            x1, y1, x2, y2 = mask["bbox"]  # type: ignore[misc]
            share = coco_mask.area(mask) / ((x2 - x1) * (y2 - y1))  # type: ignore[has-type]
            assert 0.1 < share < 0.95
