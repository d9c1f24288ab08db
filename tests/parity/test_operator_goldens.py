"""The operators against outputs and gradients measured on the published code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alignshift.operators import SliceConv, get_operator

RELATIVE_TOLERANCE = 1e-5
# What a case's description says besides the arguments of the operator.
NOT_ARGUMENTS = ("op", "D", "kernel", "thickness", "inplace")


@pytest.fixture(scope="module")
def cases(goldens: Path) -> dict[str, dict[str, Any]]:
    """Description of every case."""
    return json.loads((goldens / "operators.json").read_text())


@pytest.fixture(scope="module")
def tensors(goldens: Path) -> dict[str, dict[str, Tensor]]:
    """Tensors of every case, by the name within the case."""
    grouped: dict[str, dict[str, Tensor]] = {}
    with np.load(goldens / "operators.npz") as stored:
        for key in stored:
            case, _, name = key.rpartition("/")
            grouped.setdefault(case, {})[name] = torch.from_numpy(stored[key])
    return grouped


def build(case: dict[str, Any], stored: dict[str, Tensor], **kwargs: Any) -> SliceConv:
    """The operator of a case with its parameters."""
    kwargs |= {key: value for key, value in case.items() if key not in NOT_ARGUMENTS}
    if case["op"] == "A3DConv":
        kwargs["dimension"] = case["D"]
    channels_out, channels_in, kernel, _ = stored["p_weight"].shape
    operator = get_operator(case["op"])
    conv = operator(channels_in, channels_out, kernel, padding=kernel // 2, **kwargs)
    conv.load_state_dict(
        {key.removeprefix("p_"): value for key, value in stored.items() if key.startswith("p_")}
    )
    return conv


def assert_near(actual: Tensor | None, expected: Tensor, name: str) -> None:
    """Equal within a fraction of the largest value."""
    assert actual is not None, name
    error = (actual.detach() - expected).abs().max() / expected.abs().max()
    assert error < RELATIVE_TOLERANCE, f"{name}: {error:.2e}"


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_outputs_and_gradients(
    cases: dict[str, dict[str, Any]],
    tensors: dict[str, dict[str, Tensor]],
    inplace: bool,
    memory_format: torch.memory_format,
) -> None:
    assert cases
    for name, case in cases.items():
        stored = tensors[name]
        conv = build(case, stored, **({} if case["op"] == "A3DConv" else {"inplace": inplace}))
        x = stored["x"].clone(memory_format=memory_format).requires_grad_()
        out = conv(x, stored.get("thickness"))
        out.backward(stored["grad_out"])
        assert torch.equal(x, stored["x"]), name
        assert_near(out, stored["out"], f"{name} out")
        assert_near(x.grad, stored["grad_x"], f"{name} grad_x")
        for parameter, value in conv.named_parameters():
            assert_near(value.grad, stored[f"g_{parameter}"], f"{name} {parameter}")
