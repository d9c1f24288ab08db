"""Test-time views, shown to a detector that finds exactly what there is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import LOOPS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import DataLoader

from deeplesion.engine.config import UsageError, use_test_amp
from deeplesion.engine.flip_views import (
    VIEWS,
    FlipTestLoop,
    check_views,
    fuse_instances,
    predict_views,
    use_views,
)

D, H, W = 3, 8, 12


class Bright(nn.Module):
    """Finds the box of the bright pixels of the key slice, and says how bright the first slice is.

    Boxes and masks are those of the original image, which is smaller by ``scale``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.autocast: list[bool] = []

    def test_step(self, batch: dict) -> list[DetDataSample]:
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        for stack, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            scale_x, scale_y = sample.metainfo["scale_factor"]
            rows, columns = np.nonzero(stack[D // 2].numpy())
            box = [columns.min(), rows.min(), columns.max(), rows.max()]
            scale = torch.tensor([scale_x, scale_y] * 2)
            masks = stack[D // 2][None, :: int(scale_y), :: int(scale_x)] > 0
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([box]) / scale,
                scores=stack[0].max()[None].double() * 0.5,
                labels=torch.zeros(1, dtype=torch.long),
                masks=masks,
            )
        return batch["data_samples"]


def batch_of(scale: float = 1.0) -> dict:
    """One stack with a bright spot away from the middle in all directions."""
    stack = torch.zeros(D, H, W)
    stack[D // 2, 1:3, 2:7] = 1
    stack[0, 0, 0] = 1
    sample = DetDataSample(metainfo={"scale_factor": (scale, scale), "img_shape": (H, W)})
    return {"inputs": [stack], "data_samples": [sample]}


@pytest.mark.parametrize("view", [v for v in VIEWS if v != "slices"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_what_is_found_flipped_comes_back_to_its_place(view: str, scale: float) -> None:
    (sample,) = predict_views(Bright(), batch_of(scale), [view])
    found = sample.pred_instances
    expected = torch.tensor([[2.0, 1.0, 6.0, 2.0]]) / scale
    torch.testing.assert_close(found.bboxes, expected)
    torch.testing.assert_close(found.scores, torch.tensor([0.5]))
    if scale == 1:
        assert found.masks[0].nonzero().amin(0).tolist() == [1, 2]
        assert found.masks[0].nonzero().amax(0).tolist() == [2, 6]


def test_reversed_slices_are_seen_reversed() -> None:
    (sample,) = predict_views(Bright(), batch_of(), ["slices"])
    found = sample.pred_instances
    torch.testing.assert_close(found.bboxes, torch.tensor([[2.0, 1.0, 6.0, 2.0]]))
    # The bright pixel of the first slice is now in the last: 0.5 and 0.
    torch.testing.assert_close(found.scores, torch.tensor([0.25]))


def test_batch_stays_as_it_is() -> None:
    batch = batch_of()
    before = batch["inputs"][0].clone()
    predict_views(Bright(), batch, list(VIEWS))
    assert torch.equal(batch["inputs"][0], before)
    assert "pred_instances" not in batch["data_samples"][0]


def test_what_one_view_alone_finds_counts_half() -> None:
    empty = InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    box = torch.tensor([[0.0, 0, 5, 5]])
    one = InstanceData(bboxes=box, scores=torch.tensor([0.8]), labels=torch.tensor([0]))
    found = fuse_instances([one, empty])
    torch.testing.assert_close(found.scores, torch.tensor([0.4]))
    assert found.labels.tolist() == [0]
    assert "masks" not in found
    assert len(fuse_instances([empty, empty])) == 0


def test_boxes_of_bfloat16_that_are_inside_out_are_taken_as_narrow() -> None:
    box = torch.tensor([[5.0, 0, 4.9, 5]], dtype=torch.bfloat16)
    one = InstanceData(bboxes=box, scores=torch.tensor([0.8]), labels=torch.tensor([0]))
    assert fuse_instances([one]).bboxes.tolist() == [[5, 0, 5, 5]]


@pytest.mark.parametrize("views", [[], ["sideways"], ["horizontal", "horizontal"]])
def test_unknown_views_are_refused(views: list[str]) -> None:
    with pytest.raises(UsageError, match="some of horizontal, vertical, diagonal, slices"):
        check_views(views)


def test_mixed_precision_chosen_before_stays() -> None:
    cfg = Config({"test_cfg": {"type": "TestLoop"}})
    use_test_amp(cfg)
    use_views(cfg, ["horizontal"])
    assert cfg.test_cfg == {"type": "FlipTestLoop", "views": ["horizontal"], "dtype": "bfloat16"}


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_loop_evaluates_what_is_fused(dtype: str | None) -> None:
    results, hooks = [], []
    evaluator = SimpleNamespace(
        process=lambda data_samples, data_batch: results.extend(data_samples)
    )
    runner = SimpleNamespace(
        model=Bright(),
        visualizer=SimpleNamespace(),
        call_hook=lambda name, **_: hooks.append(name),
    )
    options = {"views": ("slices",), "dtype": dtype}
    loop = LOOPS.get("FlipTestLoop")(runner, DataLoader(torch.ones(1, 4)), evaluator, **options)
    assert isinstance(loop, FlipTestLoop)
    loop.run_iter(0, batch_of())
    assert results[0].pred_instances.scores.tolist() == [0.25]
    assert hooks == ["before_test_iter", "after_test_iter"]
    assert runner.model.autocast == [dtype is not None] * 2
