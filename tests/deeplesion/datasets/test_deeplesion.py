"""Tests of the data set and of its files in JSON."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

pytest.importorskip("mmdet")

import deeplesion  # noqa: F401
from deeplesion.datasets.ct import SliceError
from deeplesion.datasets.deeplesion import DeepLesionDataset
from deeplesion.datasets.dl_info import DLInfoError
from deeplesion.datasets.info_files import write_infos
from deeplesion.datasets.lesion_record import DataError
from deeplesion.datasets.packed import PackError
from deeplesion.datasets.packing import pack_data_root
from deeplesion.datasets.samplers import Draw
from deeplesion.transforms.loading import LoadCTSlices
from tests.deeplesion.datasets.helpers import csv_row, row_of, write_csv, write_series

SERIES = ("000001_01_01", "000002_01_01", "000003_01_01", "000004_01_01")
LOAD = {"type": LoadCTSlices, "num_slices": 3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four key slices: two in train (one of two lesions), one each in val and test."""
    rows = [
        row_of(SERIES[0], 5),
        row_of(SERIES[1], 5),
        row_of(SERIES[0], 5, Bounding_boxes="3, 4, 20, 22"),
        row_of(SERIES[2], 5, split=2),
        row_of(SERIES[3], 5, split=3),
        row_of(SERIES[3], 6, split=3, Possibly_noisy="1"),
    ]
    write_csv(tmp_path / "DL_info.csv", rows)
    for series in SERIES:
        write_series(tmp_path, series, [4, 5, 6])
    return tmp_path


def dataset(root: Path, **kwargs: Any) -> DeepLesionDataset:
    return DeepLesionDataset(data_root=str(root), **{"pipeline": [LOAD], **kwargs})


def key_slice(root: Path, number: int) -> Path:
    return root / "Images_png" / SERIES[number] / "005.png"


def write_masks(path: Path, boxes: dict[str, list[list[float]]], size: Any = (64, 48)) -> None:
    masks = {}
    for name, of_image in boxes.items():
        masks[name] = []
        for x1, y1, x2, y2 in of_image:
            mask = np.zeros(size, np.uint8, order="F")
            mask[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = 1
            rle = coco_mask.encode(mask)
            entry = {"bbox": [x1, y1, x2, y2], "size": rle["size"]}
            masks[name].append({**entry, "counts": rle["counts"].decode()})
    path.write_text(json.dumps({"meta": {}, "masks": masks}))


def test_a_data_info(root: Path) -> None:
    data = dataset(root, split="train")
    assert len(data) == 2
    assert data.metainfo["classes"] == ("lesion",)
    info = data.get_data_info(0)
    instances = info.pop("instances")
    assert info == {
        "img_id": 2,
        "file_name": "000001_01_01_005.png",
        "series": "000001_01_01",
        "key_slice": 5,
        "patient_id": 1,
        "slice_interval": 1.0,
        "spacing": (0.5, 0.5),
        "window": (-175.0, 275.0),
        "height": 64,
        "width": 48,
        "split": "train",
        "row": 2,
        "image_root": str(root / "Images_png"),
        "img_path": str(root / "Images_png/000001_01_01/005.png"),
        "sample_idx": 0,
    }
    assert [instance["row"] for instance in instances] == [2, 4]
    assert instances[1]["bbox"] == [2, 3, 19, 21]
    assert instances[0] == {
        "bbox": [10, 16, 30, 34],
        "bbox_label": 0,
        "ignore_flag": 0,
        "recist": ((15, 25), (25, 25), (20, 21), (20, 29)),
        "diameters_mm": (5, 4),
        "coarse_type": -1,
        "location": (0.4, 0.5, 0.6),
        "row": 2,
    }


def test_data_infos_for_workers_are_those_that_were_read(root: Path) -> None:
    plain, data = dataset(root, serialize_data=False), dataset(root)
    assert data.data_list == []
    assert [data.get_data_info(n) for n in (3, -1, 0)] == [
        plain.get_data_info(n) for n in (3, -1, 0)
    ]
    part = data.get_subset([2, 0])
    assert [part.get_data_info(n)["img_id"] for n in range(2)] == [5, 2]


def test_splits_and_noisy_rows(root: Path) -> None:
    assert [len(dataset(root, split=s)) for s in ("train", "val", "test", None)] == [2, 1, 1, 4]
    assert len(dataset(root, split="test", keep_noisy=True)) == 2
    ids = [dataset(root).get_data_info(i)["img_id"] for i in range(4)]
    assert len(set(ids)) == 4


def test_bad_arguments(root: Path) -> None:
    with pytest.raises(ValueError, match=r"split must be one of .* got 'valid'"):
        dataset(root, split="valid")
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
        dataset(root, on_error="ignore")


def test_absent_data_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data_root .*x is not there: .*make_synthetic"):
        dataset(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match=r"DL_info\.csv is not there: .*make_synthetic"):
        dataset(tmp_path)


def test_nothing_left(root: Path) -> None:
    write_csv(root / "DL_info.csv", [row_of(SERIES[0], 5)])
    with pytest.raises(ValueError, match=r"DL_info\.csv has no key slice of split 'val'"):
        dataset(root, split="val")
    key_slice(root, 0).unlink()
    with pytest.raises(DataError, match="no key slice of split None to load; dropped: 1 key slic"):
        dataset(root, on_error="skip")


def test_nested_layout(root: Path) -> None:
    (root / "Images_png").rename(root / "inner")
    (root / "Images_png").mkdir()
    (root / "inner").rename(root / "Images_png/Images_png")
    assert dataset(root)[0]["img"].shape == (64, 48, 3)


def test_filter_cfg(root: Path, tmp_path: Path) -> None:
    infos = [dataset(root).get_data_info(index) for index in range(4)]
    infos[1]["instances"] = []
    write_infos(root / "a.json", infos)
    settings = {"ann_file": "a.json", "filter_cfg": {"filter_empty_gt": True}}
    assert len(dataset(root, ann_file="a.json")) == 4
    assert len(dataset(root, **settings)) == 3
    assert len(dataset(root, **settings, test_mode=True)) == 4
    assert len(dataset(root, filter_cfg={"min_size": 48})) == 4


@pytest.mark.parametrize("workers", ["fork", "spawn"])
def test_workers(root: Path, workers: str) -> None:
    data = dataset(root)
    loader = DataLoader(
        data, batch_size=1, num_workers=1, collate_fn=list, multiprocessing_context=workers
    )
    assert [batch[0]["img"][0, 0].tolist() for batch in loader] == [[40, 50, 60]] * 4


def test_first_malformed_row_is_named(root: Path) -> None:
    rows = [csv_row(), csv_row(Bounding_boxes="1"), csv_row(Spacing_mm_px_="0.5, 0.5, NaN")]
    write_csv(root / "DL_info.csv", rows)
    with pytest.raises(DLInfoError, match=r"Bounding_boxes must be.*\(row 3 of DL_info\.csv\)"):
        dataset(root)


def test_skip_drops_the_whole_key_slice_of_a_malformed_row(root: Path) -> None:
    rows = [
        row_of(SERIES[0], 5),
        row_of(SERIES[1], 5),
        row_of(SERIES[0], 5, Bounding_boxes="1"),
        row_of(SERIES[0], 5, Spacing_mm_px_="0.5, 0.5, NaN"),
        row_of(SERIES[2], 5, split=2, Bounding_boxes="1"),
        csv_row(File_name="?"),
    ]
    write_csv(root / "DL_info.csv", rows)
    data = dataset(root, split="train", on_error="skip")
    assert [data.get_data_info(i)["series"] for i in range(len(data))] == [SERIES[1]]
    assert data.skipped == {"malformed rows": 1, "key slices with malformed rows": 1}
    with pytest.raises(DataError, match="dropped: 1 key slices with malformed rows"):
        dataset(root, split="val", on_error="skip")


def test_a_missing_column_cannot_be_skipped(root: Path) -> None:
    (root / "DL_info.csv").write_text("File_name\n")
    with pytest.raises(DLInfoError, match="lacks the column"):
        dataset(root, on_error="skip")


def test_bad_key_slice_raises_when_loaded_and_names_file_and_row(root: Path) -> None:
    key_slice(root, 1).unlink()
    data = dataset(root, split="train")
    assert data[0]["num_slices"] == 3
    with pytest.raises(SliceError, match=r"000002_01_01/005\.png is missing \(row 3 of DL_info"):
        data[1]


@pytest.mark.parametrize("test_mode", [False, True])
@pytest.mark.parametrize("damage", ["missing", "truncated", "other size"])
def test_skip_drops_bad_key_slices(root: Path, test_mode: bool, damage: str) -> None:
    if damage == "missing":
        key_slice(root, 0).unlink()
    elif damage == "truncated":
        key_slice(root, 0).write_bytes(key_slice(root, 0).read_bytes()[:-20])
    else:
        rows = [row_of(series, 5) for series in SERIES]
        rows[0]["Image_size"] = "64, 64"
        write_csv(root / "DL_info.csv", rows)
    data = dataset(root, on_error="skip", test_mode=test_mode)
    assert len(data) == 3
    assert data.skipped == {"key slices": 1}
    assert all(sample["img"].shape == (64, 48, 3) for sample in (data[i] for i in range(3)))


def test_a_sample_in_the_place_of_a_bad_one_is_of_the_same_step(root: Path) -> None:
    data = dataset(root, on_error="skip")
    seen: list[dict] = []

    def load(info: dict) -> dict:
        seen.append(info)
        if len(seen) == 1:
            raise SliceError("damaged")
        return info

    data.pipeline = load
    assert data[Draw(0, seed=1, step_seed=7)]["step_seed"] == 7
    assert len(seen) == 2
    seen.clear()
    assert "step_seed" not in data[1]


def damage_inside(path: Path) -> None:
    """Spoil a file in a way that only decoding shows."""
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 8
    content[start : start + 8] = bytes(8)
    path.write_bytes(content)


def test_evaluation_finds_by_decoding_what_headers_do_not_show(root: Path) -> None:
    damage_inside(key_slice(root, 0))
    data = dataset(root, on_error="skip", test_mode=True)
    assert len(data) == 3
    assert {data[i]["series"] for i in range(3)} == set(SERIES[1:])


def test_training_replaces_what_fails_when_loaded(root: Path) -> None:
    damage_inside(key_slice(root, 0))
    data = dataset(root, on_error="skip")
    assert len(data) == 4
    assert data[0]["series"] in SERIES[1:]
    assert data.skipped["key slices while loading"] >= 1


def test_skip_takes_an_unreadable_neighbor_as_missing(root: Path) -> None:
    key_slice(root, 0).with_name("006.png").write_bytes(b"")
    with pytest.raises(SliceError, match=r"006\.png"):
        dataset(root)[0]
    for test_mode in (False, True):
        data = dataset(root, on_error="skip", test_mode=test_mode, pipeline=[{**LOAD}])
        assert data[0]["img"][0, 0].tolist() == [40, 50, 50]
        assert not data.skipped


def test_masks_are_matched_by_box(root: Path) -> None:
    boxes = {
        "000001_01_01_005.png": [[2, 3, 19, 21], [10.3, 16, 30, 34]],
        "000002_01_01_005.png": [[10, 16, 30, 34]],
    }
    write_masks(root / "masks_train.json", boxes)
    data = dataset(root, split="train", mask_file="masks_{split}.json")
    masks = [coco_mask.decode(i["mask"]) for i in data.get_data_info(0)["instances"]]
    assert [mask.sum() for mask in masks] == [21 * 19, 18 * 19]
    assert masks[0][16, 10] == 1


def test_key_slices_without_masks_are_dropped_by_skip(root: Path) -> None:
    write_masks(root / "masks_train.json", {"000002_01_01_005.png": [[10, 16, 30, 34]]})
    settings: dict[str, Any] = {"split": "train", "mask_file": "masks_{split}.json"}
    data = dataset(root, on_error="skip", **settings)
    assert [data.get_data_info(i)["series"] for i in range(len(data))] == [SERIES[1]]
    assert data.skipped == {"key slices without masks": 1}
    with pytest.raises(DataError, match=r"no mask in .*make_masks\.py --data-root .* train`"):
        dataset(root, **settings)
    for masks in ({"000002_01_01_005.png": [{"size": 3}]}, {"000002_01_01_005.png": 7}):
        (root / "masks_train.json").write_text(json.dumps({"meta": {}, "masks": masks}))
        with pytest.raises(DataError, match=r"no key slice .*dropped: 2 key slices without masks"):
            dataset(root, on_error="skip", **settings)


def test_advice_about_masks_of_noisy_rows(root: Path) -> None:
    settings: dict[str, Any] = {"split": "test", "mask_file": "m.json", "keep_noisy": True}
    with pytest.raises(FileNotFoundError, match="--split test --keep-noisy`") as caught:
        dataset(root, **settings)
    assert isinstance(caught.value, DataError)
    write_masks(root / "m.json", {})
    with pytest.raises(DataError, match="--split test --keep-noisy`"):
        dataset(root, **settings)


def test_masks_of_all_splits(root: Path) -> None:
    box = [[10, 16, 30, 34]]
    first = [*box, [2, 3, 19, 21]]
    train = {f"{SERIES[0]}_005.png": first, f"{SERIES[1]}_005.png": box}
    write_masks(root / "masks_train.json", train)
    write_masks(root / "masks_val.json", {f"{SERIES[2]}_005.png": box})
    write_masks(root / "masks_test.json", {f"{SERIES[3]}_005.png": box})
    data = dataset(root, mask_file="masks_{split}.json")
    assert all("mask" in i for n in range(4) for i in data.get_data_info(n)["instances"])


def test_mask_errors(root: Path) -> None:
    settings: dict[str, Any] = {"split": "val", "mask_file": "masks_{split}.json"}
    name = "000003_01_01_005.png"
    path = root / "masks_val.json"
    with pytest.raises(FileNotFoundError, match=r"masks_val\.json is not there: .*make_masks\.py"):
        dataset(root, **settings)
    write_masks(path, {})
    with pytest.raises(ValueError, match=rf"{name}, row 5 of DL_info\.csv, has no mask in masks_"):
        dataset(root, **settings)
    write_masks(path, {name: [[10, 16, 30, 39]]})
    with pytest.raises(ValueError, match=rf"{name}, row 5 .*has no mask"):
        dataset(root, **settings)
    write_masks(path, {name: [[10, 16, 30, 34]]}, size=(48, 64))
    with pytest.raises(ValueError, match=r"mask of \[48, 64\] px \(h, w\).*wanted is \[64, 48\]"):
        dataset(root, **settings)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"masks_val\.json must be"):
        dataset(root, **settings)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"masks_val\.json is not JSON"):
        dataset(root, **settings)


def test_dump_and_read_back(root: Path) -> None:
    before = dataset(root)
    before.dump(root / "infos.json")
    assert str(root) not in (root / "infos.json").read_text()
    after = dataset(root, ann_file="infos.json")

    def plain(data: DeepLesionDataset) -> Any:
        return json.loads(json.dumps([data.get_data_info(i) for i in range(len(data))]))

    assert plain(after) == plain(before)
    assert len(dataset(root, ann_file="infos.json", split="train")) == 2


def test_shortest_json(root: Path) -> None:
    entry = {"file_name": "000001_01_01_005.png", "height": 64, "width": 48}
    entry |= {"slice_interval": None, "instances": [{"bbox": [1, 2, 3, 4]}]}
    (root / "a.json").write_text(json.dumps({"data_list": [entry]}))
    sample = dataset(root, ann_file="a.json")[0]
    assert math.isnan(sample["thickness"])
    assert sample["img"][0, 0].tolist() == [40, 50, 60]
    assert sample["instances"] == [{"bbox": [1, 2, 3, 4], "bbox_label": 0, "ignore_flag": 0}]


def test_real_slices(shared_data: Path) -> None:
    """Neighbors are not stored there: every slice of a stack is the key slice."""
    root = shared_data / "deeplesion_mini"
    val, test = (dataset(root, split=s, pipeline=[{**LOAD}]) for s in ("val", "test"))
    lesions = [
        sum(len(d.get_data_info(i)["instances"]) for i in range(len(d))) for d in (val, test)
    ]
    assert lesions == [35, 16]
    assert len(val) + len(test) == 50
    seen = set()
    for index in range(len(val)):
        sample = val[index]
        assert sample["img"].shape == (512, 512, 3)
        assert (sample["img"] == sample["img"][..., :1]).all()
        assert -1100 < sample["img"].min() < -900
        seen.add((sample["slice_interval"], sample["thickness"]))
    assert seen == {(1.0, 2.0), (2.0, 2.0), (5.0, 5.0)} & seen
    assert len(seen) >= 2


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_packed_samples_are_those_of_the_files_in_workers(root: Path, context: str) -> None:
    pack_data_root(root, root / "packed")
    files, packed = dataset(root), dataset(root, packed="packed")
    loader = DataLoader(packed, num_workers=2, collate_fn=list, multiprocessing_context=context)
    samples = [sample for batch in loader for sample in batch]
    assert len(samples) == len(files) == 4
    for index, sample in enumerate(samples):
        wanted = files[index]
        assert np.array_equal(sample.pop("img"), wanted.pop("img"))
        assert sample.pop("packed") == str(root / "packed")
        assert sample == wanted


def test_packed_needs_no_files(root: Path, tmp_path: Path) -> None:
    pack_data_root(root, root / "packed")
    wanted = dataset(root)[1]["img"]
    (root / "Images_png").rename(tmp_path / "elsewhere")
    data = dataset(root, packed=str(root / "packed"))
    assert np.array_equal(data[1]["img"], wanted)
    assert data.get_data_info(1)["img_path"].endswith("Images_png/000002_01_01/005.png")
    data.dump(root / "infos.json")
    assert "packed" not in (root / "infos.json").read_text()


def test_a_cache_that_is_not_of_these_data(root: Path) -> None:
    with pytest.raises(PackError, match=r"packed cache .*packed is not there: make it by"):
        dataset(root, packed="packed")
    pack_data_root(root, root / "packed")
    (root / "packed" / f"{SERIES[1]}.ctpack").unlink()
    with pytest.raises(PackError, match="lacks 1 series of the data set, such as 000002_01_01"):
        dataset(root, packed="packed")
    assert len(dataset(root, packed="packed", split="val")) == 1


@pytest.mark.parametrize("test_mode", [True, False])
def test_packed_and_skip(root: Path, test_mode: bool) -> None:
    key_slice(root, 1).write_bytes(b"no png")
    pack_data_root(root, root / "packed", on_error="skip")
    arguments = {"packed": "packed", "test_mode": test_mode}
    data = dataset(root, on_error="skip", **arguments)
    assert len(data) == 3
    assert data.skipped["key slices"] == 1
    with pytest.raises(SliceError, match=r"slice 5 is missing in .*000002_01_01\.ctpack"):
        [dataset(root, **arguments)[index] for index in range(4)]


def jitter(results: dict) -> dict:
    """A step that draws from all generators that a pipeline may use."""
    return {"drawn": (random.random(), np.random.rand(), float(torch.rand(())))}


def test_a_draw_settles_what_is_random_in_the_pipeline(root: Path) -> None:
    data = dataset(root, split="train", pipeline=[jitter])
    plain = data[0]["drawn"]
    first, again, other = (data[Draw(0, seed)]["drawn"] for seed in (7, 7, 8))
    assert first == again
    assert not set(first) & {*other, *plain}
    draws = [Draw(0, 7), Draw(1, 9)]
    loader = DataLoader(data, sampler=draws, batch_size=None, num_workers=1, collate_fn=dict)
    assert [sample["drawn"] for sample in loader] == [first, data[Draw(1, 9)]["drawn"]]
