"""What a conversion tells of itself."""

from __future__ import annotations

from pathlib import Path

import torch

import deeplesion  # noqa: F401
from deeplesion.legacy.conversion import Options, convert_content
from deeplesion.legacy.description import describe
from tests.deeplesion.legacy.published import checkpoint, state_dict


def test_tells_what_was_done(repo_root: Path) -> None:
    content = checkpoint("a3d", 7, optimizer={}, scheduler={})
    content["meta"]["hook"] = object()
    content["meta"]["config"] += "\nmystery = 3\n"
    half = {f"module.{k}": v for k, v in content["state_dict"].items()}
    half["module.rpn_head.rpn_cls.bias"] = half["module.rpn_head.rpn_cls.bias"].half()
    conversion = convert_content({**content, "state_dict": half}, Options(repo_root / "configs"))
    lines = [" ".join(line.split()) for line in describe(conversion)]
    assert lines[0] == (
        "network: A3D, 7 slices, DenseNet of 1 + 2 + 1 layers, growth 4, neck of 16 channels, "
        "1 class(es)"
    )
    for line in (
        "backbone.reductionz* 3 -> neck.collapse.reductions.*",
        "backbone.lateral* 6 -> neck.laterals.*",
        "bbox_head.* 4 -> roi_head.bbox_head.*",
        "bbox_head.fc_cls.bias 1 roi_head.bbox_head.fc_cls.bias: background first -> last",
        "bbox_head.fc_reg.bias 1 roi_head.bbox_head.fc_reg.bias: 4 first row(s), background, taken "
        "out",
        "backbone.conv0.adaptive_align_weights 1 taken out, it has no effect",
        "names: 'module.' of the wrapper taken off",
        "precision: 1 tensors of float16 made float32",
        "dropped: optimizer, scheduler, meta.hook (a new training begins without them)",
        "mystery 3 not mapped: nothing here has it",
    ):
        assert line in lines
    numbers = [int(line.split()[1]) for line in lines if line.startswith(("backbone", "rpn_"))]
    heads = [int(line.split()[1]) for line in lines if line.startswith(("bbox", "mask"))]
    assert sum(numbers) + sum(heads) == len(half)


def test_tells_where_settings_are_from_without_a_config(repo_root: Path) -> None:
    state = state_dict("25d")
    state["rpn_head.rpn_cls.bias"] = state["rpn_head.rpn_cls.bias"].double() / 3
    conversion = convert_content({"state_dict": state}, Options(repo_root / "configs"))
    lines = [*describe(conversion)]
    assert lines[-1].startswith("config: the meta has none that was used")
    assert "precision: 1 tensors rounded, so that there is no way back" in lines
    assert torch.is_tensor(conversion.weights.state["rpn_head.rpn_cls.bias"])
