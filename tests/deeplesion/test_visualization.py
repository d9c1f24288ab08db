"""Overlays: what is where, in which color."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from deeplesion import visualization
from deeplesion.canvas import STYLES
from deeplesion.visualization import (
    CTVisualizationHook,
    draw_overlay,
)

WINDOW = (-160.0, 240.0)
HIT = [20.0, 30, 39, 49]
FAR = [80.0, 80, 99, 99]


def color(kind: str) -> list[int]:
    return list(STYLES[kind].color)


def has(image: np.ndarray, kind: str) -> bool:
    return bool((image == color(kind)).all(axis=-1).any())


def overlay(gt: list, boxes: list, scores: list, size: int = 128, **options: object) -> np.ndarray:
    return draw_overlay(np.zeros((size, size)), WINDOW, gt, boxes, scores, min_side=1, **options)


def test_boxes_cover_their_first_and_last_pixel() -> None:
    image = overlay([], [FAR], [0.5])[:128]
    for x, y in ((80, 80), (99, 80), (80, 99), (99, 99), (90, 80), (99, 90)):
        assert image[y, x].tolist() == color("false positive")
    assert image[90, 90].tolist() == [102, 102, 102]  # 0 HU of -160 to 240
    assert image[90, 70].tolist() == [102, 102, 102]


def test_small_slices_are_enlarged() -> None:
    hu = np.zeros((64, 100))
    hu[10:20, 30:40] = 240
    image = draw_overlay(hu, WINDOW, [], [[50, 50, 59, 59]], [0.5], min_side=768)
    assert image.shape[1] == 800
    assert image.dtype == np.uint8
    assert image[15 * 8, 35 * 8].tolist() == [255, 255, 255]
    assert image[50 * 8, 50 * 8].tolist() == color("false positive")
    assert image[60 * 8 - 1, 60 * 8 - 1].tolist() == color("false positive")
    assert image[45 * 8, 45 * 8].tolist() == [102, 102, 102]


def test_colors_tell_what_became_of_boxes_and_lesions() -> None:
    duplicate = [21.0, 31, 40, 50]
    image = overlay([HIT], [duplicate, HIT, FAR], [0.4, 0.9, 0.3])[:128]
    for kind in ("hit", "duplicate", "false positive", "lesion found"):
        assert has(image, kind)
    assert not has(image, "lesion missed")
    assert has(overlay([HIT], [FAR], [0.3])[:128], "lesion missed")
    assert not has(overlay([HIT], [FAR], [0.3])[:128], "lesion found")
    nothing = overlay([], [], [])[:128]
    assert (nothing == 102).all()


def test_boxes_of_equal_score_have_their_own_colors() -> None:
    image = overlay([HIT], [FAR, HIT], [0.5, 0.5])[:128]
    assert image[80, 90].tolist() == color("false positive")
    assert image[99, 80].tolist() == color("false positive")


def test_lesions_are_dashed_over_solid_boxes() -> None:
    image = overlay([HIT], [HIT], [0.9], size=256)
    top = image[30, 20:40]
    found = (top == color("lesion found")).all(axis=-1)
    hit = (top == color("hit")).all(axis=-1)
    assert found[0]
    assert found[-1]
    assert hit.any()
    assert (found | hit).all()


def test_masks_tint_and_recist_lines() -> None:
    masks = np.zeros((1, 128, 128), bool)
    masks[0, 85:95, 85:95] = True
    image = overlay([], [FAR], [0.5], masks=masks)
    tinted = 0.75 * 102 + 0.25 * np.array(color("false positive"))
    np.testing.assert_allclose(image[90, 90], tinted, atol=1)
    axes = [[[60, 20], [60, 40], [50, 30], [70, 30]]]
    image = overlay([[45, 15, 75, 45]], [], [], gt_recist=axes)
    for x, y in ((60, 20), (60, 40), (50, 30), (70, 30), (60, 30)):
        red, _, blue = image[y, x].tolist()
        assert red > 150 > 100 > blue  # yellow on gray, smoothed


def test_labels_keep_inside_and_off_each_other() -> None:
    corners = [[0.0, 0, 9, 9], [246, 0, 255, 9], [0, 246, 9, 255], [246, 246, 255, 255]]
    image = overlay([], corners, [0.1, 0.2, 0.3, 0.4], size=256)
    assert image.shape[1] == 256
    # Two boxes in the same place: one label above, one below.
    image = overlay([], [[100, 100, 139, 119]] * 2, [0.6, 0.5], size=256)
    plates = (image[:256] == 102 // 4).all(axis=-1)
    assert plates[80:98, 95:145].any()
    assert plates[123:140, 95:145].any()
    assert not plates[140:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (240, 240)}, r"window must be .* got \(240, 240\)"),
        ({"hu_slice": np.zeros((8, 8, 3))}, r"hu_slice must be \(H, W\), got \(8, 8, 3\)"),
        ({"scores": [0.5]}, r"scores must be \(0,\), as pred_boxes, got \(1,\)"),
        (
            {"masks": np.zeros((1, 8, 8))},
            r"masks must be \(0, 8, 8\), as pred_boxes, got \(1, 8, 8\)",
        ),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    good = {"hu_slice": np.zeros((8, 8)), "window": WINDOW, "gt_boxes": [], "pred_boxes": []}
    with pytest.raises(ValueError, match=message):
        draw_overlay(**{**good, "scores": [], **options})


def data_sample(folder: Path, index: int, **meta: object) -> DetDataSample:
    """A tested data sample with its slice file."""
    path = folder / f"{index:03d}.png"
    if not path.exists():
        cv2.imwrite(str(path), np.full((128, 128), 32768 + 40, np.uint16))
    predicted = InstanceData(
        bboxes=torch.tensor([FAR, HIT], dtype=torch.bfloat16),
        scores=torch.tensor([0.9, 0.1], dtype=torch.bfloat16),
        masks=torch.zeros(2, 128, 128, dtype=torch.bool),
    )
    known = {
        "img_path": str(path),
        "file_name": f"000001_01_01_{index:03d}.png",
        "slice_interval": 5.0,
        "window": WINDOW,
        "instances": [{"bbox": HIT, "recist": [[20, 40], [39, 40], [30, 30], [30, 49]]}],
    }
    known = {key: value for key, value in {**known, **meta}.items() if value is not None}
    return DetDataSample(metainfo=known, pred_instances=predicted)


def test_hook_writes_overlays(tmp_path: Path) -> None:
    hook = HOOKS.build({"type": "CTVisualizationHook", "out_dir": str(tmp_path / "show")})
    samples = [data_sample(tmp_path, 5), data_sample(tmp_path, 6, instances=[])]
    hook.before_test(None)
    hook.after_test_iter(None, 0, None, samples)
    assert sorted(p.name for p in (tmp_path / "show").iterdir()) == [
        "000001_01_01_005.png",
        "000001_01_01_006.png",
    ]
    image = cv2.imread(str(tmp_path / "show" / "000001_01_01_005.png"))[..., ::-1]
    assert image.shape[1] == 768
    picture = image[:768]
    assert picture[300, 40].tolist() == [128, 128, 128]  # 40 HU of -160 to 240
    assert picture[80 * 6, 80 * 6].tolist() == color("false positive")
    assert has(picture, "lesion missed")  # its box scored below the threshold
    assert not has(picture, "hit")


def test_hook_options(tmp_path: Path) -> None:
    hook = CTVisualizationHook(tmp_path / "show", score_threshold=0.05, window=(0, 80))
    picture = hook.draw(data_sample(tmp_path, 5, window=None))[:768]
    assert has(picture, "hit")
    assert picture[300, 40].tolist() == [128, 128, 128]
    # By another criterion the same box reaches nothing.
    sample = data_sample(tmp_path, 5, instances=[{"bbox": [20, 30, 39, 45]}])
    strict = CTVisualizationHook(tmp_path / "show", score_threshold=0.05, iou_threshold=0.9)
    assert not has(strict.draw(sample)[:768], "hit")


@pytest.mark.parametrize(
    ("interval", "text"),
    [(5.0, "5 mm"), (math.nan, "unknown interval"), (None, "unknown interval")],
)
def test_caption_names_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: float | None, text: str
) -> None:
    captions = []

    def spy(*args: object, caption: str = "", **options: object) -> np.ndarray:
        captions.append(caption)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(visualization, "draw_overlay", spy)
    CTVisualizationHook(tmp_path).draw(data_sample(tmp_path, 5, slice_interval=interval))
    assert captions[0].split("   ")[1] == text


def test_hook_stops_at_its_limit_and_counts_anew(tmp_path: Path) -> None:
    hook = CTVisualizationHook(tmp_path / "show", max_images=2)
    for first in (1, 4):
        hook.before_test(None)
        hook.after_test_iter(None, 0, None, [data_sample(tmp_path, first + i) for i in range(3)])
        hook.after_test_iter(None, 1, None, [data_sample(tmp_path, first + 3)])
    names = sorted(p.stem[-3:] for p in (tmp_path / "show").iterdir())
    assert names == ["001", "002", "004", "005"]


def test_processes_share_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for rank, expected in ((0, 2), (1, 1)):
        monkeypatch.setattr(visualization, "get_dist_info", lambda rank=rank: (rank, 2))
        hook = CTVisualizationHook(tmp_path / f"show{rank}", max_images=3)
        hook.after_test_iter(None, 0, None, [data_sample(tmp_path, i) for i in range(3)])
        assert len(list((tmp_path / f"show{rank}").iterdir())) == expected


@pytest.mark.parametrize("key", ["img_path", "file_name", "instances", "window"])
def test_hook_names_missing_meta_keys(key: str, tmp_path: Path) -> None:
    hook = CTVisualizationHook(tmp_path)
    with pytest.raises(KeyError, match=rf"lack {key}: add to PackDetInputs"):
        hook.after_test_iter(None, 0, None, [data_sample(tmp_path, 5, **{key: None})])


def test_real_slice(shared_data: Path) -> None:
    path = shared_data / "deeplesion_mini/Images_png/000021_01_01/016.png"
    hu = visualization.read_slice(path)
    image = draw_overlay(hu, (-175, 275), [[262, 248, 286, 269]], [[262, 248, 286, 269]], [0.9])
    assert image.shape[1] == 1024
    assert has(image[:1024], "hit")
    assert 20 < image.mean() < 200
