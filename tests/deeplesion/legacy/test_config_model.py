"""Fields of the network."""

from __future__ import annotations

from typing import Any

import pytest

from deeplesion.legacy.config_model import map_model
from deeplesion.legacy.families import FAMILIES
from tests.deeplesion.legacy.mapping import ABSENT, essential, ledger
from tests.deeplesion.legacy.published import FAMILY_NAMES

HEAD = "model.roi_head"


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_field_of_the_published_networks_is_mapped(name: str) -> None:
    found = ledger(name, 7)
    assert map_model(found, legacy=True) is FAMILIES[name]
    assert not essential(found)
    assert found.settings.items() >= FAMILIES[name].slice_settings(7).items()
    assert not [field for field in found.open_fields() if field.startswith(("model", "train_cfg"))]


def test_values_become_ours() -> None:
    found = ledger()
    map_model(found, legacy=True)
    expected = {
        "model.type": "MaskRCNN",
        "model.neck.out_channels": 16,
        "model.backbone.memory_efficient": True,
        "model.rpn_head.anchor_generator.scales": [4, 6, 8, 12, 24, 48],
        "model.rpn_head.bbox_coder.target_stds": [1.0] * 4,
        f"{HEAD}.bbox_head.num_classes": 1,
        f"{HEAD}.bbox_head.bbox_coder.target_stds": [0.1, 0.1, 0.2, 0.2],
        f"{HEAD}.mask_roi_extractor.roi_layer.output_size": 14,
        f"{HEAD}.mask_roi_extractor.roi_layer.sampling_ratio": 2,
        f"{HEAD}.mask_head.loss_mask": {"type": "MaskDiceLoss", "loss_weight": 1.0},
        "model.train_cfg.rpn.assigner.pos_iou_thr": 0.7,
        "model.train_cfg.rpn_proposal.nms.iou_threshold": 0.7,
        "model.train_cfg.rpn_proposal.max_per_img": 2000,
        "model.test_cfg.rcnn.score_thr": 5e-5,
        "model.test_cfg.rcnn.nms.iou_threshold": 0.5,
    }
    assert {path: found.settings.get(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({"model__type": "RetinaNet"}, "model.type", "it must be one of MaskRCNN"),
        ({"model__type": ABSENT}, "model.type", "it is missing"),
        ({"model__backbone__type": "ResNet"}, "model.backbone.type", "it must be one of Dense"),
        ({"model__backbone__type": ABSENT}, "model.backbone.type", "it is missing"),
        ({"model__backbone__n_cts": 4}, "model.backbone.n_cts", "it must be odd"),
        ({"model__backbone__fpn_finest_layer": 1}, "model.backbone.fpn_finest_layer", "only 2 is"),
        # What the published backbone took by default.
        (
            {"model__backbone__fpn_finest_layer": ABSENT},
            "model.backbone.fpn_finest_layer",
            "only 2 is supported",
        ),
        ({"model__backbone__new": 1}, "model.backbone.new", "nothing here has it"),
        ({"model__neck": {"type": "FPN"}}, "model.neck.type", "nothing here has it"),
        ({"model__rpn_head__anchor_scales": ABSENT}, "model.rpn_head.anchor_scales", "missing"),
        ({"model__rpn_head__anchor_strides": [8]}, "model.rpn_head.anchor_strides", "only [4]"),
        ({"model__bbox_head__num_fcs": 1}, "model.bbox_head.num_fcs", "only 2 is supported"),
        ({"model__bbox_head__num_classes": 1}, "model.bbox_head.num_classes", "counts background"),
        ({"train_cfg__rcnn": [{"a": 1}]}, "train_cfg.rcnn[0].a", "there is one stage"),
        ({"test_cfg__rcnn__nms": {"type": "soft_nms"}}, "test_cfg.rcnn.nms.type", "nms alone"),
    ],
)
def test_what_cannot_be_mapped_is_essential(change: dict[str, Any], field: str, why: str) -> None:
    found = ledger(**change)
    map_model(found, legacy=True)
    assert list(essential(found)) == [field]
    assert why in essential(found)[field]


def test_other_suppressions_need_the_numerics_of_today() -> None:
    found = ledger(test_cfg__rcnn__nms={"type": "soft_nms", "iou_thr": 0.4, "min_score": 0.01})
    map_model(found, legacy=False)
    assert not essential(found)
    part = "model.test_cfg.rcnn.nms."
    nms = {k.removeprefix(part): v for k, v in found.settings.items() if k.startswith(part)}
    assert nms == {"iou_threshold": 0.4, "type": "soft_nms", "min_score": 0.01}


@pytest.mark.parametrize("legacy", [True, False])
def test_fewer_boxes_of_a_level_than_of_all(legacy: bool) -> None:
    found = ledger(test_cfg__rpn__nms_post=100)
    map_model(found, legacy)
    limits = [found.settings.get(f"model.test_cfg.rpn.{n}") for n in ("nms_post", "max_per_img")]
    assert limits == ([100, 300] if legacy else [None, 100])


def test_networks_without_masks() -> None:
    found = ledger(model__mask_head=ABSENT, model__mask_roi_extractor=ABSENT)
    map_model(found, legacy=True)
    assert not essential(found)
    assert found.settings[f"{HEAD}.mask_head"] is None
    assert found.settings["model.data_preprocessor.pad_mask"] is False


def test_losses_are_mapped_as_a_whole() -> None:
    loss = {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 2.0}
    found = ledger(model__mask_head__loss_mask=loss)
    map_model(found, legacy=True)
    assert found.settings[f"{HEAD}.mask_head.loss_mask"] == loss
