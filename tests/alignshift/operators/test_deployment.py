"""Compiling, exporting, copying and data-parallel training of every operator."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch

from tests.alignshift.operators.ddp_worker import gradients, whole_batch
from tests.alignshift.operators.operator_cases import (
    OPERATOR_KWARGS,
    THICKNESS,
    every_operator,
    make,
    volume,
)
from tests.forked import python


@every_operator
def test_compiles_as_one_graph(name: str) -> None:
    conv = make(name)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    x = volume().requires_grad_()
    results = []
    for call in (conv, compiled):
        out = call(x, THICKNESS)
        loss = out.square().sum()
        results.append((out, *torch.autograd.grad(loss, (x, *conv.parameters()))))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@every_operator
def test_exported_program_runs_on_other_input(name: str) -> None:
    conv = make(name).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        conv, (volume(), THICKNESS), dynamic_shapes=({0: batch}, {0: batch})
    )
    x, thickness = volume(5).flip(0), torch.tensor([0.5, 2.5, 4.0, float("nan"), 30.0])
    with torch.no_grad():
        out = program.module()(x, thickness)
        torch.testing.assert_close(out, conv(x, thickness))


@every_operator
@pytest.mark.parametrize("duplicate", ["deepcopy", "pickle"])
def test_copies_are_equal_and_on_their_own(name: str, duplicate: str) -> None:
    conv, x = make(name), volume()
    expected = conv(x, THICKNESS)
    copies = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}
    other = copies[duplicate](conv)
    assert repr(other) == repr(conv)
    assert torch.equal(other(x, THICKNESS), expected)
    with torch.no_grad():
        other.weight.zero_()
    assert torch.equal(conv(x, THICKNESS), expected)


def test_two_processes_compute_the_gradients_of_one(tmp_path: Path, repo_root: Path) -> None:
    script = Path(__file__).parent / "ddp_worker.py"
    command = [python(), "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    result = subprocess.run(
        [*command, str(script), str(tmp_path)],
        cwd=repo_root,
        env={**os.environ, "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name in OPERATOR_KWARGS:
        expected = gradients(make(name), *whole_batch())
        for rank in ranks:
            assert rank[name].keys() == expected.keys()
            for key, gradient in expected.items():
                torch.testing.assert_close(rank[name][key], gradient, msg=f"{name} {key}")
