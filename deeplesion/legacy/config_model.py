"""The network of an old config: model, train_cfg and test_cfg."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deeplesion.legacy.families import FAMILIES, Family, family_of_backbone
from deeplesion.legacy.ledger import Ledger, Status, is_read

__all__ = ["map_model"]

DETECTORS = ("MaskRCNN", "AlignShiftMaskRCNN")
# What the published backbones took where a config said nothing.
BACKBONE_DEFAULTS = {"out_dim": 256, "fpn_finest_layer": 1}
SLICES_DEFAULT = 3
# The neck sums down to the map at stride 4, the second of the published numbering.
FINEST_LAYER, STRIDES = 2, [4]
ROI_HEAD = "model.roi_head"
LOSSES = {
    "model.rpn_head.loss_cls": "model.rpn_head.loss_cls",
    "model.rpn_head.loss_bbox": "model.rpn_head.loss_bbox",
    "model.bbox_head.loss_cls": f"{ROI_HEAD}.bbox_head.loss_cls",
    "model.bbox_head.loss_bbox": f"{ROI_HEAD}.bbox_head.loss_bbox",
    "model.mask_head.loss_mask": f"{ROI_HEAD}.mask_head.loss_mask",
}
MASK_PARTS = ("mask_roi_extractor", "mask_head")
ONE_LEVEL = "there is one level"
RULES_OF_V1 = "the numerics of version 1 have nms alone; --modern has others"
# Must be there, for version 1 had other values where they are not.
REQUIRED = (
    "type",
    "backbone.type",
    "rpn_head.anchor_scales",
    "rpn_head.anchor_strides",
    "bbox_head.num_classes",
)


def _same(*values: Any) -> Callable[[Any], Any]:
    """A check that a field has one of the values that are supported."""

    def check(value: Any) -> Any:
        value = list(value) if isinstance(value, tuple) else value
        if value not in values:
            raise ValueError(f"only {' or '.join(map(repr, values))} is supported")
        return value

    return check


def _without_background(classes: Any) -> int:
    if not isinstance(classes, int) or classes < 2:
        raise ValueError("it counts background and must be at least 2")
    return classes - 1


# Field below `model` -> setting, and how the value changes; no setting: it is what the base has.
Rule = tuple[str | None, Callable[[Any], Any] | None]
RULES: dict[str, Rule] = {
    "backbone.out_dim": ("model.neck.out_channels", None),
    "backbone.fpn_finest_layer": (None, _same(FINEST_LAYER)),
    "backbone.memory_efficient": ("model.backbone.memory_efficient", bool),
    "rpn_head.type": (None, _same("RPNHead")),
    "rpn_head.in_channels": ("model.rpn_head.in_channels", None),
    "rpn_head.feat_channels": ("model.rpn_head.feat_channels", None),
    "rpn_head.anchor_scales": ("model.rpn_head.anchor_generator.scales", list),
    "rpn_head.anchor_ratios": ("model.rpn_head.anchor_generator.ratios", list),
    "rpn_head.anchor_strides": ("model.rpn_head.anchor_generator.strides", _same(STRIDES)),
    "rpn_head.anchor_base_sizes": (None, _same(STRIDES, None)),
    "rpn_head.target_means": ("model.rpn_head.bbox_coder.target_means", list),
    "rpn_head.target_stds": ("model.rpn_head.bbox_coder.target_stds", list),
    "bbox_head.type": (None, _same("SharedFCBBoxHead")),
    "bbox_head.num_fcs": (None, _same(2)),
    "bbox_head.num_shared_convs": (None, _same(0)),
    "bbox_head.in_channels": (f"{ROI_HEAD}.bbox_head.in_channels", None),
    "bbox_head.fc_out_channels": (f"{ROI_HEAD}.bbox_head.fc_out_channels", None),
    "bbox_head.roi_feat_size": (f"{ROI_HEAD}.bbox_head.roi_feat_size", None),
    "bbox_head.num_classes": (f"{ROI_HEAD}.bbox_head.num_classes", _without_background),
    "bbox_head.target_means": (f"{ROI_HEAD}.bbox_head.bbox_coder.target_means", list),
    "bbox_head.target_stds": (f"{ROI_HEAD}.bbox_head.bbox_coder.target_stds", list),
    "bbox_head.reg_class_agnostic": (f"{ROI_HEAD}.bbox_head.reg_class_agnostic", bool),
    "mask_head.type": (None, _same("FCNMaskHead")),
    "mask_head.num_convs": (f"{ROI_HEAD}.mask_head.num_convs", None),
    "mask_head.in_channels": (f"{ROI_HEAD}.mask_head.in_channels", None),
    "mask_head.conv_out_channels": (f"{ROI_HEAD}.mask_head.conv_out_channels", None),
    "mask_head.num_classes": (f"{ROI_HEAD}.mask_head.num_classes", _without_background),
    "mask_head.class_agnostic": (f"{ROI_HEAD}.mask_head.class_agnostic", bool),
    "mask_head.roi_feat_size": (f"{ROI_HEAD}.mask_head.roi_feat_size", None),
    "mask_head.upsample_method": (None, _same("deconv")),
    "mask_head.upsample_ratio": (None, _same(2)),
}
for _extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
    _ours = f"{ROI_HEAD}.{_extractor}"
    RULES |= {
        f"{_extractor}.type": (None, _same("SingleRoIExtractor")),
        f"{_extractor}.roi_layer.type": (None, _same("RoIAlign")),
        f"{_extractor}.roi_layer.out_size": (f"{_ours}.roi_layer.output_size", None),
        f"{_extractor}.roi_layer.sample_num": (f"{_ours}.roi_layer.sampling_ratio", None),
        f"{_extractor}.out_channels": (f"{_ours}.out_channels", None),
        f"{_extractor}.featmap_strides": (f"{_ours}.featmap_strides", _same(STRIDES)),
    }
# Fields of the settings of proposals, and of detections.
RPN_FIELDS = {
    "nms_pre": "nms_pre",
    "nms_thr": "nms.iou_threshold",
    "min_bbox_size": "min_bbox_size",
}
RCNN_FIELDS = {
    "score_thr": "score_thr",
    "nms.iou_thr": "nms.iou_threshold",
    "max_per_img": "max_per_img",
    "mask_thr_binary": "mask_thr_binary",
}


def map_model(ledger: Ledger, legacy: bool) -> Family | None:
    """Map the network; whatever of it cannot be mapped is essential.

    Args:
        ledger: Of the whole config.
        legacy: Whether the new config has the numerics of version 1.

    Returns:
        Which network it is, or None where that is not known.
    """
    family = _map_backbone(ledger)
    _map_detector(ledger)
    for name, (setting, convert) in RULES.items():
        if f"model.{name}" in ledger.open_fields():
            _apply(ledger, f"model.{name}", setting, convert)
    for field in REQUIRED:
        ledger.miss(f"model.{field}")
    for field, setting in LOSSES.items():
        _map_loss(ledger, field, setting)
    _map_train_cfg(ledger)
    for part in ("train_cfg.rpn_proposal", "test_cfg.rpn"):
        _map_proposals(ledger, part, legacy)
    _map_detections(ledger, legacy)
    for field in ledger.open_fields():
        if field.startswith("model."):
            ledger.lose(field, "nothing here has it", essential=True)
    return family


def _apply(
    ledger: Ledger, field: str, setting: str | None, convert: Callable[[Any], Any] | None
) -> None:
    value = ledger.fields[field]
    try:
        if not is_read(value):
            raise ValueError("its value is not in the text")
        value = convert(value) if convert else value
    except (TypeError, ValueError) as error:
        ledger.lose(field, str(error), essential=True)
        return
    if setting is None:
        ledger.note(field, Status.MAPPED, "it is what our network is")
    else:
        ledger.map(field, setting, value)


def _map_backbone(ledger: Ledger) -> Family | None:
    """Map the operator and the number of slices."""
    name = ledger.get("model.backbone.type")
    family = family_of_backbone(name)
    if family is None:
        known = ", ".join(one.backbone for one in FAMILIES.values())
        for field in ledger.below("model.backbone"):
            ledger.lose(field, "the backbone is not known")
        ledger.lose("model.backbone.type", f"it must be one of {known}", essential=True)
        return None
    ledger.map("model.backbone.type", "model.backbone.type")
    for key, default in BACKBONE_DEFAULTS.items():
        ledger.fields.setdefault(f"model.backbone.{key}", default)
    slices = f"model.backbone.{'in_channels' if family.operator is None else 'n_cts'}"
    number = ledger.fields.setdefault(slices, SLICES_DEFAULT)
    if isinstance(number, int) and number > 0 and number % 2:
        ledger.settings |= family.slice_settings(number)
        ledger.note(slices, Status.MAPPED, ", ".join(family.slice_settings(number)))
    else:
        ledger.lose(slices, "it must be odd", essential=True)
    for key in family.settings:
        ledger.map(f"model.backbone.{key}", f"model.backbone.{key}")
    ledger.drop("model.backbone.syncbn", "batch norms are per process, see SyncBuffersHook")
    return family


def _map_detector(ledger: Ledger) -> None:
    """Map the type of the detector, and whether it has masks."""
    if ledger.get("model.type") in DETECTORS:
        ledger.map("model.type", "model.type", "MaskRCNN")
    else:
        ledger.lose("model.type", f"it must be one of {', '.join(DETECTORS)}", essential=True)
    why = "the backbone begins from ImageNet's densenet121 whatever it says, as the published did"
    ledger.drop("model.pretrained", why)
    for part in ("neck", "shared_head"):
        if ledger.get(f"model.{part}") is None:
            ledger.drop(f"model.{part}", "it has none")
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        ledger.drop(f"model.{extractor}.finest_scale", ONE_LEVEL)
    if ledger.get("model.mask_head") is None:
        for part in MASK_PARTS:
            ledger.settings[f"{ROI_HEAD}.{part}"] = None
            ledger.drop(ledger.below(f"model.{part}"), "it has no masks")
        ledger.settings["model.data_preprocessor.pad_mask"] = False


def _map_loss(ledger: Ledger, field: str, setting: str) -> None:
    """Map a loss as a whole, for its arguments are those of its type."""
    loss = ledger.get(field)
    if not isinstance(loss, Mapping):
        return
    new = dict(loss)
    if loss.get("type") == "DiceLoss":
        new.pop("use_mask", None)
        new["type"] = "MaskDiceLoss"
    if not is_read(new):
        ledger.lose(field, "its value is not in the text")
        return
    ledger.settings[setting] = new
    for part in ledger.below(field):
        key = part.removeprefix(f"{field}.")
        if key in new:
            ledger.note(part, Status.MAPPED, f"{setting}.{key}")
        else:
            ledger.drop(part, "MaskDiceLoss is for masks")


def _map_train_cfg(ledger: Ledger) -> None:
    """Map assigners and samplers, whose fields are named as they were."""
    for stage in ("rpn", "rcnn"):
        for field in ledger.below(f"train_cfg.{stage}"):
            if "[" in field:
                ledger.lose(field, "there is one stage", essential=True)
            elif field.endswith("sampler.type") and ledger.get(field) == "RandomSampler":
                # The same, but for what follows from the number of processes.
                ledger.map(field, f"model.{field}", "SeededRandomSampler")
            else:
                ledger.map(field, f"model.{field}")


def _map_proposals(ledger: Ledger, part: str, legacy: bool) -> None:
    """Map how many proposals go on; see ``V1RPNHead`` for ``nms_post``."""
    for key, new in RPN_FIELDS.items():
        ledger.map(f"{part}.{key}", f"model.{part}.{new}")
    most, of_level = ledger.get(f"{part}.max_num"), ledger.get(f"{part}.nms_post")
    ledger.drop(f"{part}.nms_across_levels", ONE_LEVEL)
    if legacy and of_level != most:
        ledger.map(f"{part}.nms_post", f"model.{part}.nms_post")
    else:
        ledger.drop(f"{part}.nms_post", f"{ONE_LEVEL}, and max_per_img is no more")
        if isinstance(of_level, int) and isinstance(most, int):
            most = min(of_level, most)
    ledger.map(f"{part}.max_num", f"model.{part}.max_per_img", most)


def _map_detections(ledger: Ledger, legacy: bool) -> None:
    """Map how detections are chosen."""
    part = "test_cfg.rcnn"
    for key, new in RCNN_FIELDS.items():
        ledger.map(f"{part}.{key}", f"model.{part}.{new}")
    if ledger.get(f"{part}.nms.type", "nms") != "nms" and legacy:
        ledger.lose(f"{part}.nms.type", RULES_OF_V1, essential=True)
    else:
        ledger.map(f"{part}.nms.type", f"model.{part}.nms.type")
    if not legacy:
        ledger.map(f"{part}.nms.min_score", f"model.{part}.nms.min_score")
