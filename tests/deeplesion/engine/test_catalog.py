"""What can be chosen, told from what is there."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest
from mmdet.registry import MODELS

import deeplesion  # noqa: F401  (registers everything)
from alignshift.operators import OPERATORS, AlignShiftConv
from deeplesion.engine import catalog
from deeplesion.engine.catalog import Entry
from deeplesion.engine.checkpoint import describe_operators
from deeplesion.engine.config import UsageError
from tests.deeplesion.models.detectors import TINY
from tests.tools.running import REPO_ROOT


def test_operators_have_their_settings_and_a_summary() -> None:
    entries = {entry.name: entry for entry in catalog.list_operators()}
    assert list(entries) == list(OPERATORS)
    assert entries["SliceConv"].settings == ""
    assert entries["I3DConv"].settings == "inflate='mean'"
    assert entries["A3DConv"].settings == "dimension=3, enable_shift=True"
    assert all(entry.summary.endswith(".") for entry in entries.values())


def test_settings_as_they_are_listed_make_an_operator() -> None:
    (settings,) = (e.settings for e in catalog.list_operators() if e.name == "AlignShiftConv")
    conv = AlignShiftConv(16, 8, 3, **eval(f"dict({settings})"))
    assert str(conv) == str(AlignShiftConv(16, 8, 3))


def test_registered_models_by_the_module_that_defines_them() -> None:
    ours = [entry.name for entry in catalog.list_registered(catalog.OUR_BACKBONES)]
    assert ours == sorted([*catalog.NATIVE_OPERATORS, "SliceBackbone"])
    theirs = {entry.name for entry in catalog.list_registered(catalog.MMDET_BACKBONES)}
    assert {"ResNet", "ResNeXt", "SwinTransformer"} <= theirs
    assert not theirs & {*ours, "TimmBackbone", "FPN"}
    detectors = {entry.name for entry in catalog.list_registered(catalog.MMDET_DETECTORS)}
    assert {"MaskRCNN", "RetinaNet", "FCOS", "ATSS", "DINO", "DeformableDETR"} <= detectors


def test_summaries_are_plain_text() -> None:
    (entry,) = (e for e in catalog.list_registered(catalog.OUR_BACKBONES) if "Slice" in e.name)
    assert entry == Entry(
        "SliceBackbone", "", "A 2D backbone, converted by alignshift.convert_to_3d."
    )


@pytest.mark.parametrize("name", catalog.NATIVE_OPERATORS)
def test_operators_that_names_imply(name: str) -> None:
    kind: Any = MODELS.get(name)
    operators = [*describe_operators(kind(**TINY))]
    implied = catalog.NATIVE_OPERATORS[name]
    assert operators == ([] if implied.startswith("none") else [implied])
    assert inspect.isclass(kind)


def test_networks_of_timm_by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    found = catalog.list_timm("resnet1?")
    assert found is not None
    assert "resnet18" in found
    assert all(name.startswith("resnet1") for name in found)
    assert catalog.list_timm("no-such-*") == []
    monkeypatch.setattr(catalog, "find_spec", lambda _: None)
    assert catalog.list_timm("resnet18") is None
    assert importlib.util.find_spec("timm") is not None


@pytest.mark.parametrize(
    ("backbone", "operator", "name"),
    [
        ({"type": "DenseNetCustomTrunc3dTSM"}, "TSMConv", "DenseNetCustomTrunc3dTSM"),
        ({"type": "DenseNetTrunc3d", "operator": "I3DConv"}, "I3DConv", "DenseNetTrunc3d"),
        ({"type": "DenseNetTrunc3d", "operator": None}, "none", "DenseNetTrunc3d"),
        (
            {
                "type": "SliceBackbone",
                "operator": {"type": "ACSConv"},
                "backbone": {"type": "ResNeXt", "depth": 101, "groups": 32, "base_width": 4},
            },
            "ACSConv",
            "ResNeXt-101 32x4d",
        ),
        (
            {
                "type": "SliceBackbone",
                "operator": "TSMConv",
                "backbone": {"type": "TimmBackbone", "model_name": "convnext_tiny"},
            },
            "TSMConv",
            "timm convnext_tiny",
        ),
        ({"type": "RegNet", "arch": "regnetx_400mf"}, "none", "RegNet-regnetx_400mf"),
        ({}, "none", ""),
    ],
)
def test_what_a_config_is_made_of(backbone: dict, operator: str, name: str) -> None:
    entry = catalog.describe_config("a.py", {"model": {"type": "FCOS", "backbone": backbone}})
    assert entry == catalog.ConfigEntry("a.py", "FCOS", operator, name)


def test_configs_of_a_folder(tmp_path: Path) -> None:
    entries = catalog.list_configs(REPO_ROOT / "configs")
    assert not [entry.path for entry in entries if "_base_" in entry.path]
    assert all(entry.detector and entry.backbone for entry in entries)
    # The operator of each is the one in the name of its folder.
    for entry in entries:
        folder = Path(entry.path).parent.name
        assert entry.operator.lower().startswith("none" if folder == "25d" else folder)
    with pytest.raises(UsageError, match="give --configs"):
        catalog.list_configs(tmp_path)
