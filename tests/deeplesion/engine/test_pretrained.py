"""Weights of 2D detectors fit slice detectors."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import deeplesion  # isort: skip  (mmdet imports mmcv.ops, which this serves)
import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import deeplesion.models.slice_backbone  # noqa: F401
from alignshift.operators import I3DConv
from alignshift.weights import UNKNOWN, LoadReport
from deeplesion.engine.pretrained import describe_load, fit_detector_weights
from deeplesion.models.inputs import CTInputs

STOCK = {
    "mask-rcnn": "_base_/models/mask-rcnn_r50_fpn.py",
    "cascade-mask-rcnn": "_base_/models/cascade-mask-rcnn_r50_fpn.py",
    "retinanet": "_base_/models/retinanet_r50_fpn.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "deformable-detr": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "dino": "dino/dino-4scale_r50_8xb2-12e_coco.py",
}
# The tensors of a head that depend on the number of classes, by pattern.
CLASS_TENSORS = {
    "mask-rcnn": r"roi_head\.(bbox_head\.fc_\w+|mask_head\.conv_logits)\.",
    # Its boxes are regressed for all classes together.
    "cascade-mask-rcnn": r"roi_head\.(bbox_head\.\d\.fc_cls|mask_head\.\d\.conv_logits)\.",
    "retinanet": r"bbox_head\.retina_cls\.",
    "fcos": r"bbox_head\.conv_cls\.",
    "atss": r"bbox_head\.atss_cls\.",
    "deformable-detr": r"bbox_head\.cls_branches\.",
    "dino": r"(bbox_head\.cls_branches|dn_query_generator\.label_embedding)\.",
}
SLICES = 3


def tiny_config(name: str, num_classes: int) -> Any:
    """A stock 2D detector with an eighth of its channels in the backbone."""
    register_all_modules(init_default_scope=False)
    init_default_scope("mmdet")
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    model = Config.fromfile(configs / STOCK[name]).model
    model.backbone.update(depth=50, base_channels=8, init_cfg=None)
    model.neck.in_channels = [channels // 8 for channels in model.neck.in_channels]
    heads = [model.bbox_head] if "bbox_head" in model else []
    if "roi_head" in model:
        for head in (model.roi_head.bbox_head, model.roi_head.mask_head):
            heads += head if isinstance(head, list) else [head]
    for head in heads:
        head.num_classes = num_classes
        if "fc_out_channels" in head:
            head.fc_out_channels = 16
    return model


def detector_2d(name: str = "mask-rcnn") -> nn.Module:
    """A detector of 80 classes in RGB images."""
    torch.manual_seed(0)
    detector = MODELS.build(tiny_config(name, 80))
    # mmdetection leaves some parameters without any value until then.
    detector.init_weights()
    return detector


def slice_detector(name: str = "mask-rcnn", **operator: Any) -> nn.Module:
    """The same on stacks of slices, for one class."""
    torch.manual_seed(1)
    model = tiny_config(name, 1)
    operator = operator or {"type": "AlignShiftConv", "n_fold": 8}
    channels = model.neck.in_channels
    collapse = {"type": "SliceCollapse", "in_channels": channels, "num_slices": SLICES}
    model.neck = [collapse, model.neck]
    model.backbone = {
        "type": "SliceBackbone",
        "operator": operator,
        "num_slices": SLICES,
        "backbone": model.backbone,
    }
    model.data_preprocessor = {"type": "CTDataPreprocessor"}
    return MODELS.build(model)


@pytest.mark.parametrize("name", STOCK)
def test_2d_detector_fits_but_for_its_classes(name: str) -> None:
    weights = detector_2d(name).state_dict()
    model = slice_detector(name)
    report = fit_detector_weights(model, weights)
    classes = re.compile(CLASS_TENSORS[name])
    assert report.skipped
    assert [key for key in weights if classes.match(key)] == list(report.skipped)
    own = model.state_dict()
    for key in report.missing:
        assert classes.match(key) or key.startswith("neck.0.reductions."), key
    for key in report.loaded:
        source = weights[key.replace("neck.1.", "neck.")]
        if key == "backbone.conv1.weight":
            source = source.sum(1, keepdim=True)
        torch.testing.assert_close(own[key], source)


def test_slices_of_a_loaded_backbone_are_the_2d_network_where_nothing_is_mixed() -> None:
    detector, model = detector_2d().eval(), slice_detector().eval()
    fit_detector_weights(model, detector.state_dict())
    volume = torch.randn(1, 1, SLICES, 64, 64)
    with torch.no_grad():
        maps = model.backbone(CTInputs(volume, torch.tensor([float("inf")])))
        images = volume[0].transpose(0, 1).expand(-1, 3, -1, -1)
        expected = detector.backbone(images)
    for got, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(got[0].transpose(0, 1), wanted, atol=1e-4, rtol=1e-4)


def test_skipped_tensors_say_their_shapes() -> None:
    report = fit_detector_weights(slice_detector(), detector_2d().state_dict())
    assert report.skipped["roi_head.bbox_head.fc_cls.weight"] == (
        "is of shape (81, 16) in the file, of shape (2, 16) in the model"
    )
    text = describe_load(report)
    assert "6 of the file skipped" in text
    assert "\n  skipped roi_head.mask_head.conv_logits.bias: is of shape (80,) in the file" in text
    assert "\n  missing neck.*.reductions.*.weight (4)" in text
    assert len(text.splitlines()) < 20


def test_mixing_weights_are_missing_and_of_the_other_operator_unknown() -> None:
    model = slice_detector(type="A3DConv")
    report = fit_detector_weights(model, detector_2d().state_dict())
    mixing = [key for key in report.missing if key.endswith("adaptive_align_weights")]
    assert len(mixing) == 52  # all convolutions of a ResNet-50 but the first
    assert "missing backbone.layer*.*.conv*.adaptive_align_weights (48)" in describe_load(report)
    back = fit_detector_weights(slice_detector(), model.state_dict())
    assert set(back.skipped) == set(mixing)
    assert set(back.skipped.values()) == {UNKNOWN}
    assert not back.missing


def test_inflated_kernels_take_2d_ones() -> None:
    weights = detector_2d().state_dict()
    model = slice_detector(type="I3DConv", inflate="center")
    report = fit_detector_weights(model, weights)
    assert len(report.skipped) == 6  # of the heads, as with every operator
    kernel = model.state_dict()["backbone.layer1.0.conv2.weight"]
    assert kernel.ndim == 5
    middle = kernel.shape[2] // 2
    torch.testing.assert_close(kernel[:, :, middle], weights["backbone.layer1.0.conv2.weight"])
    assert kernel.count_nonzero() == kernel[:, :, middle].count_nonzero()


def test_a_first_convolution_is_inflated_and_adapted() -> None:
    conv = I3DConv(1, 2, 3, bias=False)
    report = fit_detector_weights(nn.Sequential(conv), {"0.weight": torch.ones(2, 3, 3, 3)})
    assert report.loaded == ("0.weight",)
    # Three channels added up, and a third for each of three slices.
    torch.testing.assert_close(conv.weight.detach(), torch.ones(2, 1, 3, 3, 3))


def test_names_of_old_mmdetection_are_known_to_the_heads() -> None:
    weights = OrderedDict(
        (key.replace("conv_cls", "fcos_cls").replace("bbox_head.conv_reg", "bbox_head.fcos_reg"), w)
        for key, w in detector_2d("fcos").state_dict().items()
    )
    model = slice_detector("fcos")
    report = fit_detector_weights(model, weights)
    torch.testing.assert_close(
        model.bbox_head.conv_reg.weight, weights["bbox_head.fcos_reg.weight"]
    )
    assert list(report.skipped) == ["bbox_head.fcos_cls.weight", "bbox_head.fcos_cls.bias"]
    assert "of shape (80,) in the file" in report.skipped["bbox_head.fcos_cls.bias"]


class Layer(nn.Linear):
    """A layer that remembers of which version the file says that it is."""

    _version = 2
    version_of_the_file: int | None = None

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        self.version_of_the_file = local_metadata.get("version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class Part(nn.Module):
    """A neck of one layer, under a name of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, Layer(2, 1, bias=False))


class Detector(nn.Module):
    """No more of a detector than its neck and a first convolution."""

    def __init__(self, neck: nn.Module, in_channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 2, 1, bias=False)
        self.neck = neck


def stack(*names: str) -> Detector:
    """A detector with a neck made of a list."""
    return Detector(nn.Sequential(*(Part(name) for name in names)))


def test_a_neck_finds_its_place_behind_the_collapse() -> None:
    source, model = Detector(Part("fpn"), in_channels=3), stack("collapse", "fpn")
    report = fit_detector_weights(model, source.state_dict())
    assert report == LoadReport(
        loaded=("stem.weight", "neck.1.fpn.weight"),
        skipped={},
        missing=("neck.0.collapse.weight",),
    )
    assert torch.equal(model.neck[1].fpn.weight, source.neck.fpn.weight)
    assert model.neck[1].fpn.version_of_the_file == 2


def test_a_list_of_necks_moves_behind_the_collapse() -> None:
    source, model = stack("fpn", "refine"), stack("collapse", "fpn", "refine")
    report = fit_detector_weights(model, source.state_dict())
    assert report.missing == ("neck.0.collapse.weight",)
    assert torch.equal(model.neck[1].fpn.weight, source.neck[0].fpn.weight)
    assert torch.equal(model.neck[2].refine.weight, source.neck[1].refine.weight)
    assert model.neck[2].refine.version_of_the_file == 2


def test_a_checkpoint_of_a_slice_detector_stays_as_it_is() -> None:
    source, model = stack("collapse", "fpn", "fpn"), stack("collapse", "fpn", "fpn")
    report = fit_detector_weights(model, source.state_dict())
    assert not report.skipped
    assert not report.missing
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_unknown_tensors_and_other_things_are_reported() -> None:
    weights = {
        "stem.weight": [1.0],
        "neck.lateral.weight": torch.ones(1, 2),
        "head.num_batches_tracked": torch.tensor(1),
    }
    model = stack("collapse", "fpn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = fit_detector_weights(model, weights)
    assert report.loaded == ()
    assert report.skipped == {
        "stem.weight": "is a list in the file, of shape (2, 1, 1, 1) in the model",
        "neck.lateral.weight": UNKNOWN,
    }
    assert set(weights) == {"stem.weight", "neck.lateral.weight", "head.num_batches_tracked"}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("shape", [(2, 2, 1, 1), (3, 3, 1, 1), (2, 3, 2, 1), (2, 3, 1)])
def test_only_the_channels_of_rgb_images_are_adapted(shape: tuple[int, ...]) -> None:
    report = fit_detector_weights(stack("fpn"), {"stem.weight": torch.ones(shape)})
    assert list(report.skipped) == ["stem.weight"]


def test_layers_under_two_names_are_loaded_under_both() -> None:
    layer = nn.Linear(2, 1, bias=False)
    model = nn.ModuleList([layer, layer])
    weights = {"0.weight": torch.ones(1, 2), "1.weight": torch.ones(1, 2)}
    report = fit_detector_weights(model, weights)
    assert report == LoadReport(("0.weight", "1.weight"), {}, ())


def test_no_hook_stays_behind() -> None:
    model = stack("collapse", "fpn")
    fit_detector_weights(model, stack("fpn").state_dict())
    assert not any(module._load_state_dict_pre_hooks for module in model.modules())


def test_many_names_are_told_by_module() -> None:
    names = [f"head.tower.{letter}.weight" for letter in "abcdefghijklm"]
    report = LoadReport((), dict.fromkeys(names, UNKNOWN), (*names, "neck.0.fpn.bias"))
    assert describe_load(report) == (
        "0 tensors loaded, 13 of the file skipped, 14 of the model missing, which keep their "
        "values\n"
        f"  skipped head.tower.* (13): {UNKNOWN}\n"
        "  missing head.tower.* (13)\n"
        "  missing neck.0.fpn.bias"
    )
