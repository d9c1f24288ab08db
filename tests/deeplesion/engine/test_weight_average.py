"""The average of the weights: what is validated, saved, tested and gone on from."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.runner import CTRunner
from deeplesion.engine.weight_average import WeightAverageHook

RATE = 0.5
seen: list[float] = []


class Norm(BaseModel):
    """One weight, whose gradient is 1, and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm1d(1, affine=False, momentum=0.5)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        if mode == "loss":
            return {"loss": self.weight.sum() + 0 * self.norm(inputs).sum()}
        seen.append(self.weight.item())
        return [self.weight]


class First(BaseMetric):
    """A metric that is better the less the weight has moved."""

    default_prefix = "froc"

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(float(data_samples[0]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {"mean": results[0]}


def make_runner(folder: Path, epochs: int = 1, name: str = "", **options: Any) -> CTRunner:
    """A Runner of two iterations an epoch, in which the weight falls by 0.5 at each."""
    loader = DataLoader([{"inputs": torch.tensor([float(x)])} for x in range(4)], batch_size=2)
    checkpoints = {"type": "CheckpointHook", "interval": 1, "save_best": "froc/mean"}
    return CTRunner(
        Norm(),
        work_dir=str(folder),
        experiment_name=f"average_{folder.name}{name}",
        default_scope="mmdet",
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": epochs, "val_interval": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": RATE}},
        val_dataloader=loader,
        val_cfg={},
        val_evaluator=Evaluator(First()),
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=Evaluator(First()),
        default_hooks={"checkpoint": {**checkpoints, "rule": "less"}},
        **{"custom_hooks": [{"type": "WeightAverageHook", "gamma": 1}], **options},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder after two epochs."""
    folder = tmp_path_factory.mktemp("two")
    seen.clear()
    make_runner(folder, epochs=2).train()
    (folder / "seen.json").write_text(json.dumps(seen))
    return folder


def weights(path: Path) -> dict[str, Any]:
    """What a checkpoint holds."""
    return torch.load(path, weights_only=False)


def test_validates_and_saves_the_average(trained: Path) -> None:
    # The weight is -0.5, -1, -1.5, -2; the average of the first two by shares 1 and 1 / 2.
    validated = json.loads((trained / "seen.json").read_text())
    first, second = (weights(trained / f"epoch_{n}.pth") for n in (1, 2))
    assert first["state_dict"]["weight"].item() == pytest.approx(-0.75)
    assert validated[0] == pytest.approx(-0.75)
    assert second["state_dict"]["weight"].item() == pytest.approx(validated[-1])
    assert second["ema_state_dict"]["module.weight"].item() == pytest.approx(-2.0)
    assert second["ema_state_dict"]["steps"] == 4
    # Batches of mean 0.5 and 2.5: statistics 0.25, 1.375, averaged as the weights are.
    assert first["ema_state_dict"]["module.norm.running_mean"].item() == pytest.approx(1.375)
    assert first["state_dict"]["norm.running_mean"].item() == pytest.approx(0.8125)


def test_the_best_is_spared_what_nothing_goes_on_from(trained: Path) -> None:
    (best,) = trained.glob("best_froc_mean_*.pth")
    assert "ema_state_dict" not in weights(best)
    last = weights(trained / "epoch_2.pth")
    assert weights(best)["state_dict"]["weight"] == last["state_dict"]["weight"]


def test_resumed_training_is_the_same(trained: Path, tmp_path: Path) -> None:
    file = str(trained / "epoch_1.pth")
    make_runner(tmp_path / "more", 2, load_from=file, resume=True).train()
    whole, resumed = (weights(f / "epoch_2.pth") for f in (trained, tmp_path / "more"))
    for part in ("state_dict", "ema_state_dict"):
        assert whole[part].keys() == resumed[part].keys()
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), name


def test_averaged_weights_do_not_pass_for_the_newest(trained: Path, tmp_path: Path) -> None:
    options = {"load_from": str(trained / "epoch_1.pth"), "resume": True, "custom_hooks": []}
    with pytest.raises(CheckpointError, match=r"epoch_1\.pth is of a training that averages"):
        make_runner(tmp_path / "bare", 2, **options).train()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_is_tested_is_what_the_file_holds(prefix: str, trained: Path, tmp_path: Path) -> None:
    state = {prefix + k: v for k, v in weights(trained / "epoch_2.pth")["state_dict"].items()}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "a.pth")
    seen.clear()
    make_runner(tmp_path, name=f"test{prefix}", load_from=str(tmp_path / "a.pth")).test()
    assert seen[0] == state[f"{prefix}weight"].item()


def average_in_a_group(rank: int, store: str, results: Any) -> None:
    """One of two processes that see other batches; tells its average of the running mean."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    loop = object.__new__(IterBasedTrainLoop)
    runner = SimpleNamespace(model=Norm(), iter=0, _train_loop=loop, optim_wrapper=None)
    hook = WeightAverageHook()
    hook.before_run(runner)
    runner.model.norm.running_mean.fill_(1.0 + rank)
    hook.after_train_iter(runner, 0)
    results.put(hook.ema_model.module.norm.running_mean.item())
    torch.distributed.destroy_process_group()


def test_processes_have_one_average(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    arguments = (str(tmp_path / "store"), results)
    processes = [
        context.Process(target=average_in_a_group, args=(rank, *arguments)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    assert [results.get(), results.get()] == [1.5, 1.5]
