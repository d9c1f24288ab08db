"""The data of an old config: data sets, pipelines, loaders."""

from __future__ import annotations

import re
from collections.abc import Mapping

from deeplesion.legacy.config_steps import Step, map_steps
from deeplesion.legacy.families import FAMILIES, Family
from deeplesion.legacy.ledger import Ledger, Status

__all__ = ["SPLITS", "map_data"]

SPLITS = ("train", "val", "test")
LOADERS = tuple(f"{split}_dataloader" for split in SPLITS)
DEFAULT_ROOT = "data/deeplesion"
ROOT_VARIABLE = "DEEPLESION_ROOT"
SPLIT_IN_NAME = re.compile(r"(?:^|[^a-z])(train|val|test)(?:[^a-z]|$)")
LOADED_ELSEWHERE = "DL_info.csv of the data root is read, tools/make_masks.py makes masks"
PACKED = "PackDetInputs packs what our networks take"
NO_EFFECT = "it did nothing there"
# Fields of dicm2png_cfg that the published loaders did not look at.
WITHOUT_EFFECT = ("IMG_DO_CLIP", "DATA_AUG_POSITION", "NORM_SPACING", "PIXEL_MEAN")
GROUPED = "GROUNP_ZSAPACING"
# Of the others, those that change what a network sees.
ESSENTIAL = ("WINDOWING", "SLICE_INTV")
WINDOW = (-1024, 2050)
SLICE_INTERVAL = 2.0


def map_data(ledger: Ledger, family: Family, legacy: bool) -> dict[str, list[Step]]:
    """Map data sets, pipelines and loaders.

    Args:
        ledger: Of the whole config with its network mapped; gets the settings of the loaders, but
            for their pipelines.
        family: Which network it is.
        legacy: Whether slices are loaded with the mistakes of the published loader.

    Returns:
        Steps of each split: ``LoadCTSlices``, ``WindowCT`` and what follows it. Annotations and
        packing are not among them.
    """
    pipelines = {}
    for split in SPLITS:
        load, window = _loading(ledger, split, family, legacy)
        after = map_steps(ledger, split, window)
        pipelines[split] = [load, window, *after]
        _map_dataset(ledger, split)
    if ledger.get("model.mask_head") is None:
        ledger.settings["train_dataloader.dataset.mask_file"] = None
    ledger.drop(("data.with_mask", "data.with_label"), NO_EFFECT)
    _map_loaders(ledger)
    _map_root(ledger)
    return pipelines


def _loading(ledger: Ledger, split: str, family: Family, legacy: bool) -> tuple[Step, Step]:
    """``LoadCTSlices`` and ``WindowCT`` of a split."""
    path = f"data.{split}.dicm2png_cfg"
    old = ledger.get(path)
    made_for = network_slices(ledger)
    load: Step = {"type": "LoadCTSlices", "num_slices": made_for, "slice_interval": SLICE_INTERVAL}
    window: Step = {"type": "WindowCT", "window": WINDOW}
    for key, value in old.items() if isinstance(old, Mapping) else ():
        field = f"{path}.{key}"
        match key, value:
            case _ if key in WITHOUT_EFFECT or (key == GROUPED and value is False):
                ledger.drop(ledger.below(field), NO_EFFECT)
            case "WINDOWING", [int() | float() as low, int() | float() as high] if low < high:
                window["window"] = (low, high)
                ledger.note(field, Status.MAPPED, "WindowCT.window")
            case "NUM_SLICES", int() if value == made_for:
                ledger.note(field, Status.MAPPED, "LoadCTSlices.num_slices")
            case "NUM_SLICES", _:
                ledger.lose(field, f"the network is made for {made_for}", essential=True)
            case "SLICE_INTV", int() | float() if value > 0:
                load["slice_interval"] = float(value)
                ledger.note(field, Status.MAPPED, "LoadCTSlices.slice_interval")
            case _:
                for part in ledger.below(field):
                    ledger.lose(part, "nothing here does that", essential=key in ESSENTIAL)
    if (interpolate := _interpolate(ledger, f"data.{split}.type", family)) != "thin":
        load["interpolate"] = interpolate
    return {**load, "legacy": True} if legacy else load, window


def network_slices(ledger: Ledger) -> int:
    """The number of slices that a mapped network is made for."""
    settings = ledger.settings
    number: int = settings.get("model.backbone.num_slices", settings["model.neck.num_slices"])
    return number


def _interpolate(ledger: Ledger, field: str, family: Family) -> str:
    """Which slices a data set resampled; those of the network's own where it is not known."""
    kind = ledger.fields.get(field)
    of_kind = {one.dataset: one.interpolate for one in FAMILIES.values()}
    mode = of_kind.get(str(kind), family.interpolate)
    what = f"DeepLesionDataset, LoadCTSlices.interpolate={mode!r}"
    if str(kind) in of_kind:
        ledger.note(field, Status.MAPPED, what)
    else:
        ledger.lose(field, f"it is not known and taken as that of the network: {what}")
    return mode


def _map_dataset(ledger: Ledger, split: str) -> None:
    """Map what one split reads."""
    path = f"data.{split}"
    ledger.drop((f"{path}.image_path", f"{path}.data_root"), "it is found in the data root")
    ledger.drop(ledger.below(f"{path}.pipeline"), PACKED)
    ledger.drop((f"{path}.seg_prefix", f"{path}.proposal_file"), NO_EFFECT)
    ledger.drop(f"{path}.test_mode", "it is that of the split")
    file = str(ledger.fields.get(f"{path}.ann_file", "")).rpartition("/")[2]
    setting = f"{split}_dataloader.dataset.split"
    if found := SPLIT_IN_NAME.findall(file):
        ledger.settings[setting] = found[-1]
        ledger.note(f"{path}.ann_file", Status.MAPPED, f"{setting}; {LOADED_ELSEWHERE}")
    else:
        ledger.lose(f"{path}.ann_file", f"its name tells no split; {LOADED_ELSEWHERE}")


def _map_loaders(ledger: Ledger) -> None:
    """Map batch size and workers."""
    ledger.map("data.imgs_per_gpu", "train_dataloader.batch_size")
    for loader in LOADERS:
        ledger.map("data.workers_per_gpu", f"{loader}.num_workers")
        if ledger.get("data.workers_per_gpu") == 0:
            ledger.settings[f"{loader}.persistent_workers"] = False
    if f"{LOADERS[0]}.num_workers" in ledger.settings:
        ledger.note("data.workers_per_gpu", Status.MAPPED, "num_workers of each dataloader")


def _map_root(ledger: Ledger) -> None:
    """Map the folder of the data; the published default is ours."""
    root = ledger.get("data_root")
    if not isinstance(root, str):
        ledger.lose("data_root", f"give --data-root, or set {ROOT_VARIABLE}")
    elif root.rstrip("/") == DEFAULT_ROOT:
        ledger.note("data_root", Status.MAPPED, f"data_root, or {ROOT_VARIABLE}")
    else:
        for path in ("data_root", *(f"{loader}.dataset.data_root" for loader in LOADERS)):
            ledger.settings[path] = root
        ledger.note("data_root", Status.MAPPED, f"data_root; {ROOT_VARIABLE} is not looked at")
