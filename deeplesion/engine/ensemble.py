"""Evaluating several checkpoints as one detector."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope

from deeplesion.engine.config import UsageError, check_checkpoint, set_result_files
from deeplesion.engine.distributed import prepare_distributed
from deeplesion.engine.evaluation_report import report_sources
from deeplesion.engine.runner import CTRunner
from deeplesion.evaluation.box_fusion import IOU_THRESHOLD
from deeplesion.evaluation.cases import canonical_name
from deeplesion.evaluation.prediction_fusion import (
    MemberPredictions,
    check_same_images,
    fuse_predictions,
    read_member,
)


class Member(NamedTuple):
    """One detector of an ensemble.

    Attributes:
        config: Its config file; the one of the ensemble for finished predictions.
        source: A checkpoint, or the ``predictions.json`` of a finished evaluation.
    """

    config: str
    source: str

    @property
    def finished(self) -> bool:
        """Whether there are predictions already."""
        return self.source.endswith(".json")


def parse_members(config: str, texts: Sequence[str]) -> list[Member]:
    """The detectors that a command line names.

    Args:
        config: The config of those that name none.
        texts: Each ``CHECKPOINT``, ``CONFIG:CHECKPOINT`` or ``predictions.json``.

    Raises:
        UsageError: A file is not there, one is named twice, or a finished one is alone.
    """
    members = []
    for text in texts:
        own, colon, rest = text.partition(":")
        named = bool(colon) and own.endswith(".py")
        member = Member(own, rest) if named else Member(config, text)
        if member.finished and not Path(member.source).is_file():
            raise UsageError(f"predictions {member.source} do not exist: tools/test.py writes them")
        if not member.finished:
            check_checkpoint(member.source)
        if member in members:
            raise UsageError(f"{text} is given twice: an ensemble needs different members")
        members.append(member)
    if len(members) == 1 and members[0].finished:
        raise UsageError(f"{texts[0]} is evaluated already: look at it by tools/analyze.py")
    return members


def check_ensemble(members: Sequence[Member], cfg: Config, cfgs: Sequence[Config]) -> None:
    """Find what cannot be fused before anything is evaluated.

    Args:
        members: The members.
        cfg: The config that the fusion is scored by.
        cfgs: The config of each member.

    Raises:
        UsageError: A config has not one data set and one FROCMetric, or a member would be written
            over.
        DataError: Members are for different images, or a file of predictions is malformed.
    """
    images = {f"data of {Path(cfg.filename or 'the config').name}": list(lesions_by_image(cfg)[0])}
    for number, (member, own) in enumerate(zip(members, cfgs, strict=True), start=1):
        target = Path(report_sources(cfg)[1]["predictions_file"])
        if member.finished and target.resolve() == Path(member.source).resolve():
            raise UsageError(f"the fusion would be written over {target}: give another --work-dir")
        found = read_member(member.source).boxes if member.finished else lesions_by_image(own)[0]
        images[f"member {number} ({member.source})"] = list(found)
    check_same_images(images)


def lesions_by_image(cfg: Config) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What scoring must know of the images of a config's test data set; no slice is read.

    Args:
        cfg: The config.

    Returns:
        Data infos by canonical file name, and the data set's own meta information.
    """
    init_default_scope(cfg.get("default_scope", "mmdet"))
    dataset = DATASETS.build(report_sources(cfg)[0])
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return {canonical_name(info["file_name"]): info for info in infos}, dataset.metainfo


def evaluate_members(members: Sequence[Member], cfgs: Sequence[Config], folder: Path) -> list[Path]:
    """Evaluate the members one after the other; only one network is in memory at a time.

    Args:
        members: The members.
        cfgs: The config of each; changed in place.
        folder: Each member gets a folder there, with what an evaluation writes.

    Returns:
        The files of their predictions.
    """
    files = []
    for number, (member, cfg) in enumerate(zip(members, cfgs, strict=True), start=1):
        if member.finished:
            files.append(Path(member.source))
            continue
        cfg.work_dir = str(folder / f"member{number}_{Path(member.source).stem}")
        # mmengine tells runs that begin in one second apart by this alone.
        cfg.experiment_name = f"{cfg.get('experiment_name') or 'ensemble'}_{number}"
        cfg.load_from = member.source
        set_result_files(cfg, Path(cfg.work_dir))
        prepare_distributed(cfg)
        run_test(cfg)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        files.append(Path(cfg.work_dir) / "predictions.json")
    return files


def run_test(cfg: Config) -> None:
    """Evaluate one config; its network is given up afterwards."""
    CTRunner.from_cfg(cfg).test()


def score_ensemble(
    cfg: Config,
    files: Sequence[Path],
    weights: Sequence[float] | None = None,
    iou_threshold: float = IOU_THRESHOLD,
) -> dict[str, float]:
    """Fuse predictions and score them as the config's metric scores one detector's.

    Args:
        cfg: The config, its metric set to write files.
        files: Predictions of the members.
        weights, iou_threshold: Of the fusion, see
            :func:`deeplesion.evaluation.prediction_fusion.fuse_predictions`.

    Returns:
        Figures by name.

    Raises:
        DataError: The members are for different images.
    """
    members = [read_member(path) for path in files]
    fused = fuse_predictions(members, weights, iou_threshold)
    infos, metainfo = lesions_by_image(cfg)
    check_same_images({"the fused predictions": list(fused), "the data set": list(infos)})
    metric = METRICS.build(report_sources(cfg)[1])
    metric.dataset_meta = metainfo
    metric.provenance |= _provenance(members, weights, iou_threshold)
    results = []
    for name, info in infos.items():
        boxes, masks = fused[name]
        keys = ("img_id", "file_name", "slice_interval", "instances")
        result = {**{key: info[key] for key in keys}, "bboxes": boxes}
        results.append(result if masks is None else {**result, "masks": masks})
    print_log(f"{len(members)} members fused:", logger="current")
    figures: dict[str, float] = metric.compute_metrics(results)
    return figures


def _provenance(
    members: Sequence[MemberPredictions], weights: Sequence[float] | None, iou_threshold: float
) -> dict[str, Any]:
    known = ("config", "checkpoint", "split", "views")
    return {
        "checkpoint": " + ".join(str(m.meta.get("checkpoint", m.source)) for m in members),
        "members": [{key: m.meta[key] for key in known if key in m.meta} for m in members],
        "fusion": {
            "method": "weighted box fusion",
            "iou_threshold": iou_threshold,
            "weights": list(weights) if weights is not None else [1.0] * len(members),
        },
    }
