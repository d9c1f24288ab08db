"""Data sets and loaders."""

from __future__ import annotations

from typing import Any

import pytest

from deeplesion.legacy.config_data import map_data, network_slices
from deeplesion.legacy.config_model import map_model
from deeplesion.legacy.families import FAMILIES
from deeplesion.legacy.ledger import Ledger
from tests.deeplesion.legacy.mapping import ABSENT, essential, ledger, lost
from tests.deeplesion.legacy.published import FAMILY_NAMES


def mapped(name: str = "align", slices: int = 3, legacy: bool = True, **changes: Any) -> Any:
    """Pipelines and ledger of a config."""
    found = ledger(name, slices, **changes)
    family = map_model(found, legacy)
    assert family is not None
    return map_data(found, family, legacy), found


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_slices_are_loaded_as_they_were(name: str) -> None:
    pipelines, found = mapped(name, 7)
    load = {"type": "LoadCTSlices", "num_slices": 7, "slice_interval": 2.0}
    always = {} if name == "align" else {"interpolate": "always"}
    for steps in pipelines.values():
        assert steps[0] == {**load, **always, "legacy": True}
        assert steps[1] == {"type": "WindowCT", "window": (-1024, 2050)}
    assert network_slices(found) == 7
    assert not essential(found)
    assert not [field for field in found.open_fields() if field.startswith("data.")]


def test_modern_numerics_load_without_the_mistakes() -> None:
    pipelines, _ = mapped(legacy=False)
    assert "legacy" not in pipelines["test"][0]


def test_the_data_set_tells_which_slices_are_resampled() -> None:
    pipelines, found = mapped(data__test__type="DeepLesionDatasetTSM")
    assert pipelines["test"][0]["interpolate"] == "always"
    assert "interpolate" not in pipelines["train"][0]
    pipelines, found = mapped("tsm", data__test__type="Mine")
    assert pipelines["test"][0]["interpolate"] == "always"
    assert "taken as that of the network" in lost(found.in_order())["data.test.type"]


def test_splits_are_those_of_the_files() -> None:
    # One of the published configs tests on what it calls val.
    _, found = mapped(data__test__ann_file="/mnt/test/val_ann.pkl", data__val__ann_file="a/my.pkl")
    splits = {
        name: found.settings.get(f"{name}_dataloader.dataset.split")
        for name in ("train", "val", "test")
    }
    # Where the path is made of an imported name, its end still tells.
    assert splits == {"train": "train", "val": None, "test": "val"}
    assert "its name tells no split" in lost(found.in_order())["data.val.ann_file"]


def test_loaders() -> None:
    _, found = mapped(data__imgs_per_gpu=4, data__workers_per_gpu=2)
    assert found.settings["train_dataloader.batch_size"] == 4
    assert found.settings["test_dataloader.num_workers"] == 2
    _, found = mapped(data__workers_per_gpu=0)
    assert found.settings["val_dataloader.persistent_workers"] is False


@pytest.mark.parametrize(
    ("root", "expected"), [("data/deeplesion/", None), ("/mnt/data", "/mnt/data")]
)
def test_root_of_the_data(root: str, expected: str | None) -> None:
    _, found = mapped(data_root=root)
    assert found.settings.get("data_root") == expected
    assert found.settings.get("test_dataloader.dataset.data_root") == expected


def test_networks_without_masks_read_none() -> None:
    _, found = mapped(model__mask_head=ABSENT, model__mask_roi_extractor=ABSENT)
    assert found.settings["train_dataloader.dataset.mask_file"] is None


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("NUM_SLICES", 5, "the network is made for 3"),
        ("SLICE_INTV", 0.0, "nothing here does that"),
        ("WINDOWING", [100, 0], "nothing here does that"),
    ],
)
def test_what_the_network_would_not_see_is_essential(key: str, value: Any, why: str) -> None:
    transform = {"WINDOWING": [-1024, 2050], "NUM_SLICES": 3, "SLICE_INTV": 2.0, key: value}
    _, found = mapped(data__val__dicm2png_cfg=transform)
    assert essential(found) == {f"data.val.dicm2png_cfg.{key}": why}


def test_windows_and_intervals_are_kept() -> None:
    transform = {"WINDOWING": [-175, 275], "NUM_SLICES": 3, "SLICE_INTV": 1, "GROUNP_ZSAPACING": 1}
    pipelines, found = mapped(data__test__dicm2png_cfg=transform)
    load, window, *_ = pipelines["test"]
    assert (load["slice_interval"], window["window"]) == (1.0, (-175, 275))
    grouped = "data.test.dicm2png_cfg.GROUNP_ZSAPACING"
    assert lost(found.in_order())[grouped] == "nothing here does that"


def test_a_root_that_is_not_in_the_text_is_asked_for() -> None:
    found = Ledger({"data_root": 3, "model": {"mask_head": {}}})
    found.settings["model.neck.num_slices"] = 3
    map_data(found, FAMILIES["align"], legacy=True)
    assert "give --data-root, or set DEEPLESION_ROOT" in lost(found.in_order())["data_root"]
