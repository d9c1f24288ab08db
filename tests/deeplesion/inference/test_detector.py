"""A whole scan gives what every key slice gives by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.config import UsageError
from deeplesion.engine.flip_views import predict_views
from deeplesion.inference import LesionDetector
from deeplesion.inference.network import StackNetwork, clip_boxes
from deeplesion.lesions.lesion import SliceDetections
from deeplesion.scans import ScanError, read_scan
from deeplesion.scans.scan import Scan
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_slice
from tests.deeplesion.inference.detectors import steps_of, write_mask_rcnn

SERIES, SLICES = "000001_01_01", 6
Files = tuple[Path, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Config and checkpoint of a tiny Mask R-CNN."""
    return write_mask_rcnn(tmp_path_factory.mktemp("mask_rcnn"))


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """DeepLesion's layout, every slice a key slice, by slice interval in mm."""
    made = {}
    for interval in (0.7, 1.0, 2.0, 5.0):
        root = made[interval] = tmp_path_factory.mktemp("deeplesion")
        noise = np.random.default_rng(0).normal(0, 2000, (SLICES, 64, 48))
        for index, plane in enumerate(noise, start=1):
            blurred = cv2.GaussianBlur(plane, (0, 0), 3)
            write_slice(root / "Images_png" / SERIES / f"{index:03d}.png", np.rint(blurred))
        spacing = f"0.5, 0.5, {interval}"
        rows = [row_of(SERIES, key, Spacing_mm_px_=spacing) for key in range(1, SLICES + 1)]
        write_csv(root / "DL_info.csv", rows)
    return made


def scan_of(root: Path) -> Scan:
    """The series as a scan."""
    return read_scan(root / "Images_png" / SERIES, check_hu=False)


def configured(files: Files, steps: list[dict]) -> Config:
    """The config with another test pipeline."""
    cfg = Config.fromfile(files[0])
    cfg.test_dataloader.dataset.pipeline = steps
    return cfg


def one_by_one(
    detector: LesionDetector, cfg: Config, root: Path, views: Sequence[str] = ()
) -> Iterator[InstanceData]:
    """Detections of every key slice as tools/test.py gets them."""
    where = {"data_root": str(root), "split": None}
    dataset = DATASETS.build({**cfg.test_dataloader.dataset.to_dict(), **where})
    for sample in dataset:
        with torch.no_grad():
            model, batch = detector.network.model, pseudo_collate([sample])
            (seen,) = predict_views(model, batch, views) if views else model.test_step(batch)
        yield seen.pred_instances


def whole_masks(found: SliceDetections, size: tuple[int, int]) -> np.ndarray:
    """Masks of a slice, ``(n, H, W)``."""
    masks = np.zeros((len(found.masks), *size), bool)
    for whole, crop in zip(masks, found.masks, strict=True):
        height, width = crop.pixels.shape
        whole[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
    return masks


def assert_same(found: SliceDetections, wanted: InstanceData, shift: float = 0.0) -> None:
    """The same boxes but for a shift, scores and masks."""
    assert len(found.scores) == len(wanted) > 0
    boxes = clip_boxes(wanted.bboxes.double().numpy() + shift, (64, 48))
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-4)
    np.testing.assert_allclose(found.scores, wanted.scores.numpy(), atol=1e-4)
    differing = whole_masks(found, (64, 48)) ^ wanted.masks.numpy()
    assert differing.mean() <= 1e-4


@pytest.mark.parametrize("interval", [0.7, 2.0, 5.0])
@pytest.mark.parametrize("interpolate", ["thin", "always"])
def test_each_key_slice_is_found_as_by_the_test_loop(
    files: Files, roots: dict[float, Path], interval: float, interpolate: str
) -> None:
    cfg = configured(files, steps_of({"interpolate": interpolate}))
    detector = LesionDetector(cfg, files[1], "cpu", batch_size=4, score_threshold=0)
    findings = detector.detect(scan_of(roots[interval]))
    assert [found.z for found in findings.detections] == list(range(SLICES))
    expected = one_by_one(detector, cfg, roots[interval])
    for found, wanted in zip(findings.detections, expected, strict=True):
        assert_same(found, wanted)


def test_published_loading_is_followed_with_its_mistakes(
    files: Files, roots: dict[float, Path]
) -> None:
    cfg = configured(files, steps_of({"legacy": True}))
    detector = LesionDetector(cfg, files[1], "cpu", score_threshold=0)
    findings = detector.detect(scan_of(roots[0.7]))
    for found, wanted in zip(
        findings.detections, one_by_one(detector, cfg, roots[0.7]), strict=True
    ):
        assert_same(found, wanted)


def test_resized_slices_differ_by_the_half_pixel_alone(
    files: Files, roots: dict[float, Path]
) -> None:
    resize = {"type": "Resize", "scale": (96, 96), "keep_ratio": True}
    cfg = configured(files, steps_of({}, resize))
    detector = LesionDetector(cfg, files[1], "cpu", score_threshold=0)
    findings = detector.detect(scan_of(roots[2.0]), slices=[1, 4])
    expected = list(one_by_one(detector, cfg, roots[2.0]))
    # 64 px become 96 here, 512 in training: (96 / 512 / (96 / 64) - 1) / 2.
    for found in findings.detections:
        assert_same(found, expected[found.z], shift=-0.4375)


@pytest.mark.parametrize("views", [True, ["diagonal", "slices"]])
def test_flipped_views_are_fused_as_by_the_test_loop(
    files: Files, roots: dict[float, Path], views: bool | list[str]
) -> None:
    cfg = configured(files, steps_of({}))
    detector = LesionDetector(cfg, files[1], "cpu", batch_size=2, score_threshold=0, tta=views)
    names = ["horizontal"] if views is True else views
    findings = detector.detect(scan_of(roots[2.0]), slices=[1, 4])
    assert findings.document["generator"]["settings"]["flipped_views"] == names
    expected = list(one_by_one(detector, cfg, roots[2.0], names))
    for found in findings.detections:
        assert_same(found, expected[found.z])


def test_a_box_that_is_faint_in_one_view_counts(files: Files, roots: dict[float, Path]) -> None:
    scan = scan_of(roots[2.0])
    every = LesionDetector(*files, "cpu", score_threshold=0, tta=True).detect(scan, [2])
    scores = np.sort(every.detections[0].scores)
    middle = float(np.median(scores))
    some = LesionDetector(
        *files, "cpu", score_threshold=middle, link_threshold=middle, tta=True
    ).detect(scan, [2])
    np.testing.assert_allclose(np.sort(some.detections[0].scores), scores[scores >= middle])


def test_unknown_views_are_refused(files: Files) -> None:
    with pytest.raises(UsageError, match="some of horizontal, vertical, diagonal, slices"):
        LesionDetector(*files, "cpu", tta=["sideways"])


def test_a_threshold_takes_boxes_away_and_changes_none(
    files: Files, roots: dict[float, Path]
) -> None:
    scan = scan_of(roots[2.0])
    every = LesionDetector(*files, "cpu", score_threshold=0).detect(scan, [2]).detections[0]
    middle = float(np.median(every.scores))
    some = LesionDetector(*files, "cpu", score_threshold=middle, link_threshold=middle)
    kept = every.scores >= middle
    assert 0 < kept.sum() < len(kept)
    (found,) = some.detect(scan, [2]).detections
    np.testing.assert_allclose(found.boxes, every.boxes[kept], atol=1e-4)


def test_a_slice_goes_through_the_stem_once(
    files: Files, roots: dict[float, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = LesionDetector(*files, "cpu", batch_size=1)
    seen = []
    original = StackNetwork.slice_features

    def counting(self: StackNetwork, slices: list, thickness: float) -> Any:
        seen.extend(slices)
        return original(self, slices, thickness)

    monkeypatch.setattr(StackNetwork, "slice_features", counting)
    detector.detect(scan_of(roots[2.0]))
    assert len(seen) == SLICES


def test_single_images_and_strides_are_seen_with_their_neighbors(
    files: Files, roots: dict[float, Path]
) -> None:
    scan = scan_of(roots[1.0])
    detector = LesionDetector(*files, "cpu", score_threshold=0)
    every = detector.detect(scan).detections
    strided = detector.detect(scan, slice(1, None), stride_mm=2.0).detections
    assert [found.z for found in strided] == [1, 3, 5]
    for found in strided:
        np.testing.assert_allclose(found.boxes, every[found.z].boxes, atol=1e-4)


def test_mixed_precision_finds_about_the_same(files: Files, roots: dict[float, Path]) -> None:
    scan = scan_of(roots[2.0])
    exact, mixed = (
        LesionDetector(*files, "cpu", amp=amp, score_threshold=0).detect(scan, [3]).detections[0]
        for amp in (False, True)
    )
    assert 0 < np.abs(exact.scores.max() - mixed.scores.max()) < 0.05


def test_memory_that_is_not_enough_halves_the_batch(
    files: Files, roots: dict[float, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = scan_of(roots[2.0])
    detector = LesionDetector(*files, "cpu", batch_size=4, score_threshold=0)
    calm = detector.detect(scan).detections
    original, batches = StackNetwork.predict, []

    def greedy(self: StackNetwork, stacks: list, meta: dict) -> Any:
        batches.append(len(stacks))
        if len(stacks) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, stacks, meta)

    monkeypatch.setattr(StackNetwork, "predict", greedy)
    found = detector.detect(scan).detections
    assert batches == [4, 2, *[1] * SLICES]
    np.testing.assert_allclose(found[5].boxes, calm[5].boxes, atol=1e-4)

    def hopeless(self: StackNetwork, stacks: list, meta: dict) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(StackNetwork, "predict", hopeless)
    with pytest.raises(UsageError, match="out of memory with one key slice at a time"):
        detector.detect(scan)


def test_findings_say_what_found_them(files: Files, roots: dict[float, Path]) -> None:
    findings = LesionDetector(*files, "cpu", score_threshold=0.2).detect(scan_of(roots[2.0]), [2])
    generator = findings.document["generator"]
    assert (generator["config"], generator["checkpoint"]) == ("tiny.py", "tiny.pth")
    assert len(generator["checkpoint_sha256"]) == len(generator["config_sha256"]) == 64
    assert generator["settings"]["score_threshold"] == 0.2
    assert generator["settings"]["key_slices"] == [2, 2]
    assert generator["settings"]["stride"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score_threshold": 1.5}, "thresholds must be 0 <= .* got 0.1 and 1.5"),
        ({"score_threshold": 0.3, "link_threshold": 0.4}, "got 0.4 and 0.3"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"device": "abacus"}, "device abacus cannot be used"),
    ],
)
def test_what_cannot_be_is_refused(files: Files, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LesionDetector(*files, **arguments)


def test_a_checkpoint_of_another_network_is_refused(files: Files, tmp_path: Path) -> None:
    weights = torch.load(files[1], weights_only=True)
    weights["state_dict"].pop("backbone.conv0.weight")
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"1 missing \(backbone.conv0.weight\)"):
        LesionDetector(files[0], tmp_path / "other.pth", "cpu")


def test_a_scan_that_is_none_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="does not exist"):
        LesionDetector(*files, "cpu").detect(tmp_path / "nothing")
