"""Checkpoints into a running Runner."""

from __future__ import annotations

import itertools
import logging
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import DataLoader

from alignshift.operators import AlignShiftConv, SliceConv, TSMConv
from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.runner import CTRunner


class Linear(BaseModel):
    """A model of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        out = self.layer(inputs)
        return {"loss": out.sum()} if mode == "loss" else [out]


class Convolution(BaseModel):
    """A model of one operator."""

    def __init__(self, operator: type[SliceConv]) -> None:
        super().__init__()
        self.layer = operator(8, 8, 1)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        return {"loss": self.layer(inputs[..., None, None, None]).sum()}


class Nothing(BaseMetric):
    """A metric that measures nothing."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {"none": 0.0}


experiments = itertools.count()


def make_runner(work_dir: Path, model: nn.Module, iters: int = 1, **options: Any) -> CTRunner:
    """A Runner with every loop, on two samples of 8 values."""
    width = 2 if isinstance(model, Linear) else 8
    loader = DataLoader([{"inputs": torch.ones(width)}] * 2)
    return CTRunner(
        model,
        work_dir=str(work_dir),
        experiment_name=f"experiment_{next(experiments)}",
        default_scope="mmdet",
        train_dataloader=loader,
        train_cfg={"by_epoch": False, "max_iters": iters},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=Evaluator(Nothing()),
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1, "by_epoch": False}},
        **options,
    )


@pytest.fixture
def runner(tmp_path: Path) -> CTRunner:
    """A Runner of the smallest model."""
    return make_runner(tmp_path / "work", Linear())


def test_loads_wrapped_weights(runner: CTRunner, tmp_path: Path) -> None:
    weights = {"module.layer.weight": torch.ones(2, 2), "module.layer.bias": torch.zeros(2)}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "a.pth")
    runner.load_checkpoint(str(tmp_path / "a.pth"))
    assert torch.equal(runner.model.layer.weight, torch.ones(2, 2))


def test_refuses_weights_of_another_network(runner: CTRunner, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(3, 3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth does not fit the config: none of its 1"):
        runner.load_checkpoint(str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('"FileClient" will be deprecated in future. Please use io functions', False),
        ('"HardDiskBackend" is the alias of "LocalBackend" and so on', False),
        ("The loss is not finite", True),
    ],
)
def test_drops_exactly_the_known_notices(runner: CTRunner, message: str, shown: bool) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    runner.logger.addHandler(handler)
    runner.logger.warning(message)
    assert lines == [message] * shown


def test_refuses_to_test_or_resume_weights_that_fit_in_part(tmp_path: Path) -> None:
    weights = {"layer.weight": torch.ones(2, 2), "head.bias": torch.ones(1)}
    file = str(tmp_path / "a.pth")
    state = {"meta": {"epoch": 0, "iter": 0}, "message_hub": {}, "optimizer": {}}
    torch.save({"state_dict": weights, **state}, file)
    message = r"1 missing \(layer\.bias\); 1 unexpected \(head\.bias\)"
    with pytest.raises(CheckpointError, match=message):
        make_runner(tmp_path / "test", Linear(), load_from=file).test()
    with pytest.raises(CheckpointError, match=message):
        make_runner(tmp_path / "resume", Linear(), load_from=file, resume=True).train()


def test_fine_tuning_loads_what_fits_and_logs_the_rest(tmp_path: Path) -> None:
    file = str(tmp_path / "a.pth")
    torch.save({"layer.weight": torch.ones(2, 2), "head.bias": torch.ones(1)}, file)
    runner = make_runner(tmp_path / "work", Linear(), load_from=file)
    runner.train()
    (log,) = (tmp_path / "work").glob("*/*.log")
    assert (
        f"Load checkpoint from {file}: 1 tensors loaded, 1 of the file skipped, 1 of the model "
        "missing, which keep their values\n"
        "  skipped head.bias: the model has no such parameter\n"
        "  missing layer.bias\n"
    ) in log.read_text()


def test_fine_tuning_takes_the_weights_of_rgb_images(tmp_path: Path) -> None:
    file = str(tmp_path / "a.pth")
    torch.save({"module.layer.weight": torch.ones(8, 3, 1, 1)}, file)
    runner = make_runner(tmp_path / "work", Convolution(TSMConv))
    runner.load_checkpoint(file)
    torch.testing.assert_close(runner.model.layer.weight, torch.full((8, 8, 1, 1), 3 / 8))
    with pytest.raises(CheckpointError, match=r"a\.pth does not fit the config: none of its 1"):
        runner.load_checkpoint(file, strict=True)


def test_refuses_weights_trained_with_another_operator(tmp_path: Path) -> None:
    make_runner(tmp_path / "tsm", Convolution(TSMConv)).train()
    file = str(tmp_path / "tsm" / "iter_1.pth")
    message = "it was trained with TSMConv, the config has AlignShiftConv"
    model = Convolution(AlignShiftConv)
    with pytest.raises(CheckpointError, match=message):
        make_runner(tmp_path / "align", model, 2, load_from=file, resume=True).train()
    make_runner(tmp_path / "more", Convolution(TSMConv), 2, load_from=file, resume=True).train()
    assert (tmp_path / "more" / "iter_2.pth").exists()


def test_resuming_needs_the_training_state(runner: CTRunner, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(2, 2), "layer.bias": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be resumed.*load_from"):
        runner.resume(str(tmp_path / "a.pth"))


def test_code_in_the_meta_data_is_not_run(tmp_path: Path) -> None:
    make_runner(tmp_path / "work", Linear()).train()
    file, target = tmp_path / "work" / "iter_1.pth", tmp_path / "made"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["meta"]["config"] = f"import os\nos.mkdir({str(target)!r})"
    torch.save(checkpoint, file)
    runner = make_runner(tmp_path / "more", Linear(), 2, load_from=str(file), resume=True)
    runner.train()
    assert not target.exists()


def test_signals_are_left_alone_under_other_loops(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    runner = make_runner(tmp_path / "work", Linear())
    found = []
    hook = Hook()
    hook.before_train = lambda runner: found.append(  # type: ignore[method-assign]
        signal.getsignal(signal.SIGTERM)
    )
    runner.register_hook(hook)
    runner.train()
    assert found == [before]


def test_all_processes_have_one_seed(tmp_path: Path) -> None:
    runner = make_runner(
        tmp_path / "work", Linear(), randomness={"seed": 5, "diff_rank_seed": True}
    )
    assert runner.seed == 5
    assert not runner._randomness_cfg["diff_rank_seed"]


def test_resume_takes_a_file_or_what_load_from_names(tmp_path: Path) -> None:
    make_runner(tmp_path / "first", Linear()).train()
    file = str(tmp_path / "first" / "iter_1.pth")
    for number, named in enumerate([{"resume": file}, {"resume": True, "load_from": file}]):
        runner = make_runner(tmp_path / f"next{number}", Linear(), iters=2, **named)
        runner.train()
        assert (runner.iter, runner.resumed_from) == (2, file)


def test_an_empty_folder_begins_from_load_from(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(2, 2)}, tmp_path / "a.pth")
    begin = {"resume": "auto", "load_from": str(tmp_path / "a.pth")}
    runner = make_runner(tmp_path / "work", Linear(), **begin)
    loaded = []
    hook = Hook()
    hook.before_train = lambda runner: loaded.append(  # type: ignore[method-assign]
        runner.model.layer.weight.sum().item()
    )
    runner.register_hook(hook)
    runner.train()
    assert loaded == [4.0]
