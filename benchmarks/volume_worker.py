"""The contestants of `benchmarks/volume.py`; run as a script, one of them in its own process."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.baseline.volume import find_by_key_slice  # noqa: E402
from benchmarks.measuring import CLOCKS, _resident  # noqa: E402
from benchmarks.worker import serve  # noqa: E402
from deeplesion.engine.malloc import keep_freed_memory  # noqa: E402
from deeplesion.inference import LesionDetector  # noqa: E402
from deeplesion.inference.loading import build_detector  # noqa: E402
from deeplesion.inference.network import clip_boxes  # noqa: E402
from deeplesion.inference.pipeline import SlicePipeline, pipeline_steps  # noqa: E402
from deeplesion.inference.planes import plane_hu, stack_planes  # noqa: E402
from deeplesion.lesions.document import build_document, write_json  # noqa: E402
from deeplesion.lesions.lesion import SliceDetections  # noqa: E402
from deeplesion.lesions.linking import link_detections  # noqa: E402
from deeplesion.lesions.model_card import ModelCard  # noqa: E402
from deeplesion.models.inputs import CTInputs  # noqa: E402
from deeplesion.scans import read_scan  # noqa: E402
from deeplesion.scans.scan import Scan  # noqa: E402

PHANTOM_SHAPE, PHANTOM_SPACING = (40, 256, 256), (1.4, 1.4, 2.0)
SETTLING_STACKS = 2


def make_scan(path: Path) -> Path:
    """Write a phantom: an ellipse of soft tissue with blobs in it, in air."""
    generator = np.random.default_rng(0)
    z, y, x = np.indices(PHANTOM_SHAPE, np.float32)
    body = ((x - 128) / 110) ** 2 + ((y - 128) / 80) ** 2 < 1
    hu = np.where(body, 40, -1000) + generator.normal(0, 15, PHANTOM_SHAPE)
    for _ in range(60):
        center = generator.uniform([0, 70, 50], [40, 186, 206])
        inside = (z - center[0]) ** 2 * 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2
        hu[(inside < generator.uniform(16, 150)) & body] += generator.uniform(-80, 120)
    image = SimpleITK.GetImageFromArray(hu.astype(np.int16))
    image.SetSpacing(PHANTOM_SPACING)
    SimpleITK.WriteImage(image, str(path))
    return path


def middle_slices(scan: Scan, number: int) -> list[int]:
    """So many slices in the middle of a scan."""
    number = min(number, len(scan.hu))
    first = (len(scan.hu) - number) // 2
    return list(range(first, first + number))


def make_detector(cfg: Config, settings: dict[str, Any], boxes_per_slice: float) -> dict[str, Any]:
    """Write config and checkpoint of a detector with random weights; the threshold to use.

    Args:
        cfg: Its config.
        settings: ``scan``, ``slices``, ``out`` and ``device``.
        boxes_per_slice: How many boxes shall be above the threshold, on average.

    Returns:
        ``config``, ``checkpoint`` and ``threshold``.
    """
    out, scan = Path(settings["out"]), read_scan(settings["scan"])
    init_default_scope("mmdet")
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    logging.disable(logging.INFO)  # init_weights tells of every single weight
    model.init_weights()
    logging.disable(logging.NOTSET)
    pipeline, keys = SlicePipeline.from_config(cfg), middle_slices(scan, settings["slices"])
    settle_batch_norms(model, pipeline, scan, keys[:SETTLING_STACKS])
    paths = {"config": str(out / "detector.py"), "checkpoint": str(out / "detector.pth")}
    cfg.dump(paths["config"])
    torch.save(model.state_dict(), paths["checkpoint"])
    probe = find_by_key_slice(
        model.to(settings["device"]).eval(), pipeline_steps(cfg), scan, keys[:2], 0.0
    )
    scores = np.sort(np.concatenate([found.scores for found in probe]))[::-1]
    wanted = round(boxes_per_slice * len(probe))
    return {**paths, "threshold": float(scores[wanted - 1 : wanted + 1].mean())}


def settle_batch_norms(
    model: torch.nn.Module, pipeline: SlicePipeline, scan: Scan, keys: list[int]
) -> None:
    """Let the batch norms of the backbone learn what a scan looks like."""
    offsets = pipeline.offsets(scan.slice_interval)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    model.train()
    for z in keys:
        planes = stack_planes(z, len(scan.hu), offsets)
        images = [pipeline.prepare(plane_hu(scan.hu, plane)).image for plane in planes]
        volume = torch.from_numpy(np.stack(images))[None, None]
        with torch.no_grad():
            model.backbone(  # type: ignore[operator]
                CTInputs(volume, torch.tensor([pipeline.thickness(scan.slice_interval)]))
            )
    model.eval()


class Engine:
    """`deeplesion.inference` as its users call it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        threshold = settings["threshold"]
        self.detector = LesionDetector(
            settings["config"], settings["checkpoint"], settings["device"],
            score_threshold=threshold, link_threshold=threshold,
        )  # fmt: skip

    def find(self, scan: Scan, keys: list[int], path: Path) -> list[SliceDetections]:
        """Find lesions and write them."""
        findings = self.detector.detect(scan, keys)
        write_json(path, findings.document)
        return list(findings.detections)


class BySlice:
    """Key slice by key slice."""

    def __init__(self, settings: dict[str, Any]) -> None:
        cfg = Config.fromfile(settings["config"])
        self.model = build_detector(cfg, settings["checkpoint"], torch.device(settings["device"]))
        self.steps = pipeline_steps(cfg)
        self.shift = SlicePipeline(self.steps).box_shift
        self.prepare = SlicePipeline(self.steps).prepare
        self.threshold = settings["threshold"]
        self.card = ModelCard.of_files(settings["config"], settings["checkpoint"])

    def find(self, scan: Scan, keys: list[int], path: Path) -> list[SliceDetections]:
        """Find lesions and write them."""
        shift = self.shift(self.prepare(scan.hu[0].astype(np.float32)))
        found = find_by_key_slice(self.model, self.steps, scan, keys, self.threshold)
        height, width = scan.hu.shape[1:]
        found = [
            each._replace(boxes=clip_boxes(each.boxes + shift, (height, width))) for each in found
        ]
        limits = {"link_threshold": self.threshold, "score_threshold": self.threshold}
        lesions = link_detections(found, scan.geometry.spacing, **limits)
        write_json(path, build_document(scan, lesions, self.card, limits))
        return found


def save_detections(path: Path, found: list[SliceDetections], scan: Scan) -> None:
    """Write boxes, scores and whole masks as ``.npz``, by slice and descending score."""
    masks = []
    for each in found:
        for crop in each.masks:
            whole = np.zeros(scan.hu.shape[1:], bool)
            height, width = crop.pixels.shape
            whole[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
            masks.append(whole)
    np.savez_compressed(
        path,
        z=np.concatenate([np.full(len(each.scores), each.z) for each in found]),
        boxes=np.concatenate([each.boxes for each in found]),
        scores=np.concatenate([each.scores for each in found]),
        masks=np.array(masks),
    )


def lengthened(scan: Scan, slices: int) -> Scan:
    """The scan with another number of slices, its own again and again."""
    hu = np.ascontiguousarray(np.resize(scan.hu, (slices, *scan.hu.shape[1:])))
    size = (*scan.geometry.size[:2], slices)
    return replace(scan, hu=hu, geometry=replace(scan.geometry, size=size))


def main(kind: str, text: str) -> None:
    """Look at the scan whenever told to."""
    settings = json.loads(text)
    torch.set_num_threads(settings["threads"])
    if kind in settings["keep_memory"]:
        keep_freed_memory()
    contestant = Engine(settings) if kind == "engine" else BySlice(settings)
    out, clock = Path(settings["out"]), CLOCKS[settings["clock"]]

    def look() -> dict[str, Any]:
        start = clock()
        scan = read_scan(settings["scan"])
        if "scan_slices" in settings:
            scan = lengthened(scan, settings["scan_slices"])
        found = contestant.find(scan, middle_slices(scan, settings["slices"]), out / f"{kind}.json")
        seconds = clock() - start
        detections = out / f"{kind}.npz"
        save_detections(detections, found, scan)
        measured = {"seconds": seconds, "detections": str(detections)}
        return measured | {"peak_bytes": _resident("VmHWM"), "scan_bytes": scan.hu.nbytes}

    serve(look)


if __name__ == "__main__":
    main(*sys.argv[1:])
