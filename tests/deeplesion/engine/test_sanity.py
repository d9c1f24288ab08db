"""What looks wrong in the settings of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deeplesion.engine.sanity import (
    GIB,
    MIB,
    Finding,
    Scale,
    check_checkpoints,
    check_learning_rate,
    check_pretrained,
    check_room,
    check_save_best,
    check_schedule,
    check_shared_memory,
    check_validation,
    check_workers,
    pretrained_files,
)


def test_findings_read_as_lines() -> None:
    assert str(Finding("ok", "all is well")) == "ok       all is well"
    assert str(Finding("error", "no", "do")) == "error    no\n         -> do"


def scale(batch: int = 2, processes: int = 4, accumulation: int = 1, **other: object) -> Scale:
    settings = {"rate": 0.02, "base_batch_size": 8, "scaled": False, **other}
    return Scale(batch, processes, accumulation, **settings)


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        (scale(), "ok", "0.02 is for 8 images"),
        (scale(1, 1, 8), "ok", "0.02 is for 8 images"),
        (scale(2, 1), "warning", "0.02 is for 8 images a step, there are 2"),
        (scale(2, 8), "warning", "there are 16"),
        (scale(2, 1, scaled=True), "ok", "scaled to 0.005 for 2"),
        (scale(base_batch_size=None), "warning", "does not say for which batch"),
        (scale(rate=None), "warning", "does not say"),
    ],
)
def test_learning_rate_against_batch(given: Scale, level: str, words: str) -> None:
    finding = check_learning_rate(given)
    assert finding.level == level
    assert words in finding.what


def test_learning_rate_remedy_names_the_fitting_rate() -> None:
    assert "optim_wrapper.optimizer.lr=0.005" in check_learning_rate(scale(2, 1)).remedy
    assert "--auto-scale-lr" in check_learning_rate(scale(2, 1)).remedy
    adaptive = replace(scale(2, 1), adaptive=True)
    assert "optim_wrapper.optimizer.lr=0.01" in check_learning_rate(adaptive).remedy


def linear(end: int, **other: object) -> dict:
    return {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": end, **other}


@pytest.mark.parametrize(
    ("scheduler", "epochs", "level", "words"),
    [
        (linear(50), None, "ok", "fits 500"),
        (linear(250), None, "warning", "warm-up lasts 250 of the 500 iterations"),
        (linear(500), None, "warning", "warm-up lasts 500"),
        (linear(501), None, "error", "warm-up lasts 501"),
        (linear(3, by_epoch=True), 5, "warning", "3 of the 5 epochs"),
        # A decay over the whole run is no warm-up.
        (linear(500, start_factor=1.0, end_factor=0.1), None, "ok", "fits"),
        ({"type": "CosineAnnealingLR", "by_epoch": False, "begin": 600}, None, "warning", "600"),
        ({"type": "MultiStepLR", "by_epoch": True, "end": 20}, None, "error", "never moves"),
        ({"type": "MultiStepLR", "by_epoch": True, "end": 20}, 20, "ok", "fits"),
    ],
)
def test_schedule_against_length(
    scheduler: dict, epochs: int | None, level: str, words: str
) -> None:
    (finding,) = check_schedule([scheduler], 500, epochs)
    assert finding.level == level
    assert words in finding.what


def test_run_without_schedule_is_fine() -> None:
    assert [finding.level for finding in check_schedule([], 500, None)] == ["ok"]


def test_evaluation_and_checkpoints_that_come_too_late() -> None:
    assert check_validation([], 20, "epochs").level == "error"
    assert check_validation([20], 20, "epochs").level == "warning"
    assert check_validation([10, 20], 20, "epochs").level == "ok"
    assert "never" in check_checkpoints([], 20, "epochs").what
    assert "only at the end" in check_checkpoints([20], 20, "epochs").what
    assert check_checkpoints([1, 20], 20, "epochs").level == "ok"
    assert check_checkpoints([20], 20, "epochs", interim=True).level == "ok"


def test_best_is_chosen_by_what_there_is() -> None:
    given = ["froc/mean", "froc/sens@1"]
    assert check_save_best("froc/mean", given).level == "ok"
    assert check_save_best(["auto"], given).level == "ok"
    assert check_save_best(None, given).level == "warning"
    finding = check_save_best(["froc/mean", "coco/bbox_mAP"], given)
    assert finding.level == "error"
    assert "no coco/bbox_mAP" in finding.what
    assert "one of froc/mean, froc/sens@1" in finding.remedy


def test_pretrained_files_are_found_at_any_depth() -> None:
    inner = {"type": "ResNet", "init_cfg": {"type": "Pretrained", "checkpoint": "a.pth"}}
    model = {"backbone": {"backbone": inner}, "neck": [{"init_cfg": {"type": "Normal"}}]}
    assert list(pretrained_files(model)) == ["a.pth"]


def test_pretrained_weights_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    url = "torchvision://resnet50"
    sources = [str(tmp_path / "a.pth"), str(tmp_path / "b.pth"), url, "https://x/y.pth"]
    findings = check_pretrained(sources, [url])
    assert [finding.level for finding in findings] == ["ok", "error", "ok", "warning"]
    assert "b.pth are not there" in findings[1].what


@pytest.mark.parametrize(
    ("workers", "processes", "cores", "level"),
    [(4, 1, 4, "ok"), (4, 2, 4, "warning"), (0, 1, 8, "warning"), (0, 1, 1, "ok")],
)
def test_workers_against_cores(workers: int, processes: int, cores: int, level: str) -> None:
    assert check_workers(workers, processes, cores).level == level


def test_worker_remedy_fits() -> None:
    assert "num_workers=2 " in check_workers(4, 2, 4).remedy


@pytest.mark.parametrize(
    ("batches", "free", "level"),
    [(8, 100 * MIB, "ok"), (8, 85 * MIB, "warning"), (8, 64 * MIB, "error"), (0, 1, "ok")],
)
def test_shared_memory(batches: int, free: int, level: str) -> None:
    finding = check_shared_memory(10 * MIB, batches, free)
    assert finding.level == level
    assert ("--shm-size" in finding.remedy) == (level != "ok")


def test_systems_without_shared_memory_folder() -> None:
    assert check_shared_memory(10 * MIB, 8, None).level == "ok"


@pytest.mark.parametrize(("need", "level"), [(9, "ok"), (9.5, "warning"), (11, "error")])
def test_room(need: float, level: str) -> None:
    finding = check_room("checkpoints need", int(need * GIB), 10 * GIB, "buy a disk")
    assert finding.level == level
    assert finding.what.startswith("checkpoints need ")
    assert finding.remedy == ("" if level == "ok" else "buy a disk")
