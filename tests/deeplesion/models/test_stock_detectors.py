"""mmdetection's own detectors become thickness-aware without a subclass."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from tests.deeplesion.models.detectors import STOCK_CONFIGS, batch, stock_detector
from tests.forked import python


@pytest.mark.parametrize("name", STOCK_CONFIGS)
def test_loss_and_predict(name: str) -> None:
    torch.manual_seed(0)
    model = stock_detector(name)
    data = model.data_preprocessor(batch(), training=True)
    losses = model.loss(data["inputs"], data["data_samples"])
    total, _ = model.parse_losses(losses)
    total.backward()
    gradient = model.backbone.denseblock1.denselayer1.conv1.weight.grad
    assert torch.isfinite(total)
    assert gradient.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        predictions = model.test_step(batch())
    assert len(predictions) == 2
    assert all(torch.isfinite(p.pred_instances.bboxes).all() for p in predictions)


@pytest.mark.parametrize("name", STOCK_CONFIGS)
def test_output_changes_with_thickness(name: str) -> None:
    torch.manual_seed(0)
    model = stock_detector(name).eval()

    def features(millimetres: float) -> torch.Tensor:
        data = model.data_preprocessor(batch((millimetres,)))
        with torch.no_grad():
            return model.extract_feat(data["inputs"])[0]

    thin, thick = features(2.0), features(5.0)
    assert torch.equal(thin, features(1.0)), "up to the reference thickness shifts are full"
    assert not torch.allclose(thin, thick)


def test_two_process_ddp(tmp_path: Path, repo_root: Path) -> None:
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
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    for name in STOCK_CONFIGS:
        one, other = first[name], second[name]
        assert torch.isfinite(one["weight"]).all()
        assert torch.equal(one["weight"], other["weight"]), "all processes hold the same weights"
        assert not torch.equal(one["own_mean"], other["own_mean"])
        assert torch.equal(one["mean"], other["mean"]), "all processes evaluate the same network"
