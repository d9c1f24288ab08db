"""The four published networks."""

from __future__ import annotations

import pytest
from mmdet.registry import MODELS

import deeplesion  # noqa: F401
from alignshift.operators import OPERATORS
from deeplesion.legacy.families import FAMILIES, family_of_backbone


@pytest.mark.parametrize("name", FAMILIES)
def test_backbones_and_operators_are_ours(name: str) -> None:
    family = FAMILIES[name]
    assert MODELS.get(family.backbone) is not None
    assert family.operator is None or family.operator in OPERATORS
    assert family_of_backbone(family.backbone) is family


def test_unknown_backbones_have_no_family() -> None:
    assert family_of_backbone("DenseNetCustomTrunc3dACS") is None
    assert family_of_backbone({"type": "x"}) is None


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("align", {"model.neck.num_slices": 7}),
        ("tsm", {"model.neck.num_slices": 7}),
        ("a3d", {"model.backbone.num_slices": 7, "model.neck.num_slices": 7}),
        ("25d", {"model.backbone.num_slices": 7, "model.neck.num_slices": 1}),
    ],
)
def test_numbers_of_slices(name: str, settings: dict[str, int]) -> None:
    assert FAMILIES[name].slice_settings(7) == settings
