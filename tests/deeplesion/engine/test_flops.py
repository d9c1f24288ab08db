"""FLOPs and parameters against hand counts and against networks that really run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alignshift.operators import OPERATORS, I3DConv, SliceConv
from deeplesion.engine.flops import InputSize, Parts, count_flops, count_parameters, flops_of
from deeplesion.models.inputs import CTInputs
from tests.deeplesion.models.detectors import CHANNELS, SIZE, STOCK_CONFIGS, stock_detector

N, C_IN, C_OUT, D, H, W, K = 2, 8, 16, 3, 10, 12, 3
CONV_FLOPS = 2 * N * D * C_OUT * C_IN * K * K * H * W


def volume(depth: int = D) -> Tensor:
    return torch.randn(N, C_IN, depth, H, W)


def really_counted(function: Any, *inputs: Any) -> int:
    """FLOPs of a function that really runs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "I3DConv"])
def test_operators_with_2d_kernels_cost_the_2d_convolution_of_every_slice(name: str) -> None:
    conv = OPERATORS[name](C_IN, C_OUT, K, padding=1)
    out, flops = flops_of(conv, volume(), torch.ones(N))
    assert out.shape == (N, C_OUT, D, H, W)
    assert flops == CONV_FLOPS


def test_i3d_costs_its_depth_times_more() -> None:
    _, flops = flops_of(I3DConv(C_IN, C_OUT, K, padding=1), volume())
    assert flops == K * CONV_FLOPS


def test_stride_groups_and_matrix_products() -> None:
    conv = SliceConv(C_IN, C_OUT, K, stride=2, padding=1, groups=4)
    assert flops_of(conv, volume())[1] == CONV_FLOPS // (2 * 2 * 4)
    assert flops_of(nn.Linear(5, 7), torch.empty(3, 5))[1] == 2 * 3 * 5 * 7
    assert flops_of(nn.ReLU(), volume())[1] == 0


def test_shapes_need_no_memory() -> None:
    # 4 TB of input.
    out, flops = flops_of(nn.Conv2d(1, 1, 1), torch.empty(1, 1, 10**6, 10**6, device="meta"))
    assert out.shape == (1, 1, 10**6, 10**6)
    assert flops == 2 * 10**12


def test_what_depends_on_values_is_computed() -> None:
    linear = nn.Linear(4, 4)

    def decide(x: Tensor) -> Tensor:
        return linear(x) if x.sum().item() == 0 else x

    assert flops_of(decide, torch.ones(2, 4))[1] == 2 * 2 * 4 * 4


def test_errors_of_the_function_come_through() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        flops_of(nn.Linear(4, 4), torch.ones(2, 5))


def test_nested_inputs_keep_shape_and_type() -> None:
    seen = []

    def look(inputs: CTInputs, flags: dict[str, Tensor]) -> None:
        seen.append((type(inputs), inputs.volume.shape, flags["valid"].dtype))

    flops_of(look, CTInputs(volume(), torch.ones(N)), {"valid": torch.ones(N, dtype=torch.bool)})
    assert seen == [(CTInputs, (N, C_IN, D, H, W), torch.bool)]


def test_parts_sum_up_unless_one_is_not_known() -> None:
    assert Parts(1, 2, 3).total == 6
    assert Parts(1, 2, None).total is None


@pytest.mark.parametrize("name", STOCK_CONFIGS)
def test_parts_of_a_detector(name: str) -> None:
    model = stock_detector(name).eval()
    parameters = count_parameters(model)
    assert parameters.total == sum(p.numel() for p in model.parameters())
    assert parameters.backbone == sum(p.numel() for p in model.backbone.parameters())
    assert parameters.neck == sum(p.numel() for p in model.neck.parameters())

    inputs = CTInputs(torch.zeros(1, 1, 3, SIZE, SIZE), torch.ones(1))
    with torch.no_grad():
        maps = model.backbone(inputs)
        features = model.neck(maps)
    count = count_flops(model, InputSize(3, SIZE, SIZE))
    assert not count.unknown
    assert count.flops.backbone == really_counted(model.backbone, inputs)
    assert count.flops.neck == really_counted(model.neck, maps)
    if not name.endswith("rcnn"):
        assert count.rois is None
        assert count.flops.heads == really_counted(model.bbox_head.forward, features)


def boxes(number: int) -> Tensor:
    """RoIs of a batch of one that lie on levels of all kinds."""
    sizes = torch.linspace(4, SIZE, number)
    return torch.stack([0 * sizes, 0 * sizes, 0 * sizes, sizes, sizes], dim=1)


@pytest.mark.parametrize("name", ["faster-rcnn", "mask-rcnn", "cascade-mask-rcnn"])
def test_roi_heads_are_counted_for_as_many_rois_as_allowed(name: str) -> None:
    model = stock_detector(name).eval()
    model.test_cfg.rpn.max_per_img, model.test_cfg.rcnn.max_per_img = 6, 4
    count = count_flops(model, InputSize(3, SIZE, SIZE))
    assert count.rois is not None
    assert (count.rois.boxes, count.rois.masks) == (6, 4 if "mask" in name else 0)

    head = model.roi_head
    maps = [torch.zeros(1, c, 3, SIZE >> i, SIZE >> i) for i, c in enumerate(CHANNELS, start=2)]
    with torch.no_grad():
        features = model.neck(maps)
    stages: list[tuple] = [(i,) for i in range(head.num_stages)] if "cascade" in name else [()]
    expected = really_counted(model.rpn_head.forward, features)
    for stage in stages:
        expected += really_counted(head._bbox_forward, *stage, features, boxes(6))
        if "mask" in name:
            expected += really_counted(head._mask_forward, *stage, features, boxes(4))
    assert count.flops.heads == expected


def test_numerics_of_version_1_cost_the_same(repo_root: Path) -> None:
    init_default_scope("mmdet")
    counts = []
    for suffix in ("", "_legacy"):
        path = repo_root / f"configs/_base_/models/mask-rcnn_densenet121{suffix}.py"
        model = Config.fromfile(path).model
        model.backbone = {"type": "DenseNetCustomTrunc3dAlign"}
        # The fully connected layers of the full head alone have 56 million weights.
        model.roi_head.bbox_head.fc_out_channels = 64
        counts.append(count_flops(MODELS.build(model).eval(), InputSize(3, SIZE, SIZE)))
    assert not counts[0].unknown
    assert counts[0] == counts[1]


def test_heads_that_cannot_be_counted_are_not_guessed() -> None:
    model = stock_detector("faster-rcnn").eval()
    model.test_cfg.rpn.max_per_img = -1
    count = count_flops(model, InputSize(3, SIZE, SIZE))
    assert count.flops.backbone > 0
    assert (count.flops.heads, count.flops.total, count.rois) == (None, None, None)
    assert count.unknown == "test_cfg sets no limit (max_per_img) to the number of RoIs"


def test_roi_heads_of_other_kinds_are_named() -> None:
    model = stock_detector("mask-rcnn").eval()

    class OtherRoIHead(type(model.roi_head)):  # type: ignore[misc]
        pass

    model.roi_head.__class__ = OtherRoIHead
    unknown = count_flops(model, InputSize(3, SIZE, SIZE)).unknown
    assert unknown == "RoIs take a way of their own through OtherRoIHead"


def test_extractors_that_compute_are_named() -> None:
    model = stock_detector("mask-rcnn").eval()
    extractor = model.roi_head.bbox_roi_extractor

    class OtherExtractor(type(extractor)):  # type: ignore[misc]
        pass

    extractor.__class__ = OtherExtractor
    unknown = count_flops(model, InputSize(3, SIZE, SIZE)).unknown
    assert unknown == "OtherExtractor computes with the maps of RoIs itself"


def test_detectors_of_other_kinds_are_named() -> None:
    model = stock_detector("retinanet").eval()

    class OtherDetector(type(model)):  # type: ignore[misc]
        def _forward(self, *_: Any) -> None:
            raise NotImplementedError

    model.__class__ = OtherDetector
    unknown = count_flops(model, InputSize(3, SIZE, SIZE)).unknown
    assert unknown.startswith("OtherDetector does not run like a single-stage")
