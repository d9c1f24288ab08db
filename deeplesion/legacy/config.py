"""An old config into one of ours: differences on top of our bases, and a report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from deeplesion.engine.config import UsageError, load_config
from deeplesion.evaluation.froc import REPORT_FPS
from deeplesion.legacy.config_data import SPLITS, map_data
from deeplesion.legacy.config_model import map_model
from deeplesion.legacy.config_schedule import map_schedule
from deeplesion.legacy.config_steps import Step
from deeplesion.legacy.config_text import ConfigText
from deeplesion.legacy.config_types import refuse_types
from deeplesion.legacy.families import Family
from deeplesion.legacy.leaf import (
    MISSING,
    Code,
    base_path,
    by_reference,
    difference,
    nest,
    render_leaf,
    value_at,
)
from deeplesion.legacy.ledger import Ledger, Outcome, Status

__all__ = ["ConvertedConfig", "convert_config", "load_text", "published_config", "read_bases"]

MODEL_BASES = {
    True: "_base_/models/mask-rcnn_densenet121_legacy.py",
    False: "_base_/models/mask-rcnn_densenet121.py",
}
DATASET_BASE = "_base_/datasets/deeplesion_{}x2mm{}.py"
OTHER_BASES = ("_base_/schedules/schedule_20e.py", "_base_/default_runtime.py")
# Numbers of slices that there is a base for; others take the first.
BASE_SLICES = (3, 7)
# Settings that no base has, and what is there without them.
DEFAULTS = {
    "model.backbone.n_fold": 8,
    "model.backbone.ref_thickness": 2.0,
    "model.backbone.shift_padding_zero": False,
    "model.backbone.memory_efficient": False,
    "model.backbone.num_init_features": 64,
    "model.backbone.growth_rate": 32,
    "model.backbone.bn_size": 4,
    "model.backbone.block_config": [6, 12, 24],
    "model.rpn_head.anchor_generator.base_sizes": None,
    "model.roi_head.mask_head.class_agnostic": False,
    "model.roi_head.mask_head.roi_feat_size": 14,
    **{f"{split}_evaluator.iou_threshold": 0.5 for split in ("val", "test")},
    **{f"{split}_evaluator.fps": list(REPORT_FPS) for split in ("val", "test")},
}
ANNOTATIONS, PACK = 1, -1
# Of a training pipeline: packing, and what comes behind it.
TRAIN_PACK = -2


@dataclass
class ConvertedConfig:
    """An old config in our terms.

    Attributes:
        family: Which network it is; None where that is not known.
        outcomes: What became of each field.
        bases: Files below ``configs`` that it stands on.
        settings: Values by path, those of the bases included.
        pipelines: Steps of each split, without annotations and packing.
        configs: The folder ``configs``.
    """

    family: Family | None
    outcomes: list[Outcome]
    bases: list[str]
    settings: dict[str, Any]
    pipelines: dict[str, list[Step]]
    configs: Path

    @property
    def failures(self) -> list[Outcome]:
        """Essential fields that could not be mapped."""
        return [o for o in self.outcomes if o.essential and o.status is Status.LOST]

    def text(self, comment: str) -> str:
        """The config as a file: its bases and the differences.

        Args:
            comment: Stands above it.
        """
        base = read_bases(self.configs, self.bases)
        changed: dict[str, Any] = {}
        for path, value in self.settings.items():
            old = value_at(base, path, DEFAULTS.get(path, MISSING))
            if (part := difference(value, old)) is not MISSING:
                changed[path] = part
        assignments, loaders = self._pipelines(base)
        bases = [base_path(self.configs, name) for name in self.bases]
        return render_leaf(comment, bases, {**assignments, **nest({**changed, **loaders})})

    def _pipelines(self, base: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Assignments of pipelines that differ from the base's, and where they are used."""
        assignments: dict[str, Any] = {}
        loaders: dict[str, Any] = {}
        for split in SPLITS:
            new, path = self._pipeline(split, base), f"{split}_dataloader.dataset.pipeline"
            if difference(new, value_at(base, path)) is MISSING:
                continue
            known = "train_pipeline" if split == "train" else "test_pipeline"
            apart = split == "val" and new != self._pipeline("test", base)
            name = "val_pipeline" if apart else known
            assignments[name] = by_reference(new, base[known], f"_base_.{known}")
            loaders[path] = Code(name)
        return assignments, loaders

    def _pipeline(self, split: str, base: dict[str, Any]) -> list[Step]:
        """All steps of a split."""
        load, *after = self.pipelines[split]
        if split != "train":
            return [load, *after, base["test_pipeline"][PACK]]
        annotations = dict(base["train_pipeline"][ANNOTATIONS])
        if self.settings.get("model.roi_head.mask_head", MISSING) is None:
            annotations.pop("with_mask", None)
        return [load, annotations, *after, *base["train_pipeline"][TRAIN_PACK:]]


def convert_config(
    old: ConfigText, configs: str | Path, legacy: bool = True, weights_only: bool = False
) -> ConvertedConfig:
    """Turn a config of the published code into one of ours.

    Args:
        old: What it says.
        configs: The folder ``configs`` with our bases.
        legacy: Keep the numerics of version 1 of mmdetection and of the published loader, which
            published weights were trained with; else those of today.
        weights_only: The config is for published weights, not for a training of one's own: what
            belongs to the run that made them is left out.

    Returns:
        The config and the report; look at its ``failures`` first.
    """
    ledger = Ledger(old.values)
    family = map_model(ledger, legacy)
    pipelines: dict[str, list[Step]] = {}
    bases: list[str] = []
    if family is not None and "model.neck.num_slices" in ledger.settings:
        pipelines = map_data(ledger, family, legacy)
        load = pipelines["test"][0]
        bases = _bases(load["num_slices"], load.get("interpolate", "thin"), legacy)
    map_schedule(ledger, old.used, weights_only)
    refuse_types(ledger)
    return ConvertedConfig(
        family, ledger.in_order(), bases, ledger.settings, pipelines, Path(configs)
    )


def published_config(family: Family, num_slices: int, configs: str | Path) -> ConvertedConfig:
    """The config of a published network's weights where theirs is not known.

    Args:
        family: Which network it is.
        num_slices: Its number of slices.
        configs: The folder ``configs``.
    """
    settings = {
        "model.backbone.type": family.backbone,
        "model.backbone.init_cfg": None,
        "model.test_cfg.rcnn.score_thr": family.score_thr,
        **family.slice_settings(num_slices),
    }
    bases = _bases(num_slices, family.interpolate, legacy=True)
    base = read_bases(Path(configs), bases)
    load = dict(base["test_pipeline"][0], num_slices=num_slices, legacy=True)
    pipelines = {split: [load, *base["test_pipeline"][1:PACK]] for split in SPLITS}
    pipelines["train"] = [load, *base["train_pipeline"][ANNOTATIONS + 1 : TRAIN_PACK]]
    return ConvertedConfig(family, [], bases, settings, pipelines, Path(configs))


def read_bases(configs: Path, bases: Iterable[str]) -> dict[str, Any]:
    """What a config that adds nothing to its bases holds.

    Raises:
        FileNotFoundError: A base is not there.
    """
    merged: dict[str, Any] = {}
    for name in bases:
        merged |= Config.fromfile(configs / name).to_dict()
    return merged


def load_text(text: str) -> Config:
    """A config as it will be read from the file that it is going to be.

    Raises:
        UsageError: It cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.py"
        path.write_text(text, encoding="utf-8")
        try:
            return load_config(str(path), None, None)
        except UsageError as error:
            raise UsageError(str(error).replace(str(path), "made of it")) from error


def _bases(num_slices: int, interpolate: str, legacy: bool) -> list[str]:
    """The bases that a config differs from least."""
    number = num_slices if num_slices in BASE_SLICES else BASE_SLICES[0]
    mode = "" if interpolate == "thin" else "_always"
    return [MODEL_BASES[legacy], DATASET_BASE.format(number, mode), *OTHER_BASES]
