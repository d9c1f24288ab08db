"""The benchmark of whole training steps, its trainings but one left to those who run it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from mmengine.config import Config

from benchmarks.training import Cost, Setting, config_text, main, markdown, parse_args, read_cost

SETTING = Setting(slices=3, batch_size=2, precision="float32", compiled="no")


@pytest.mark.parametrize("slices", [3, 7])
def test_config_trains_so_many_steps_and_validates_nothing(slices: int, tmp_path: Path) -> None:
    text = config_text(Setting(slices, 8, "half", "yes"), steps=40, workers=4)
    (tmp_path / "config.py").write_text(text)
    cfg = Config.fromfile(tmp_path / "config.py")
    assert cfg.train_cfg.max_iters == 40
    assert cfg.val_cfg is None
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.train_dataloader.num_workers == 4
    assert cfg.train_dataloader.dataset.pipeline[0].num_slices == slices
    assert cfg.compile_parts == ["backbone", "neck"]
    assert cfg.model.backbone.init_cfg is None


def test_costs_leave_the_first_steps_out(tmp_path: Path) -> None:
    steps = [(9.0, 5.0), (1.0, 0.1), (2.0, 0.2), (3.0, 0.3)]
    lines = [json.dumps({"train/time": time, "train/data_time": wait}) for time, wait in steps]
    (tmp_path / "scalars.jsonl").write_text("\n".join(lines))
    peaks = {"gpu_peak_mib": 2048, "ram_peak_mib": 1024}
    (tmp_path / "summary.json").write_text(json.dumps(peaks))
    cost = read_cost(tmp_path, SETTING, warm_up=1)
    assert cost == Cost(2.0, pytest.approx(0.1), 1.0, 2.0, 1.0)
    assert cost.epoch_hours == pytest.approx(22_478 / 3600)
    assert markdown({SETTING: cost}).splitlines()[-1] == (
        "| 3 | 2 | float32 | no | 2 s | 1 | 10.0% | 2.0 GiB | 1.0 GiB | 6.24 h |"
    )


def test_a_training_that_fails_names_its_log(tmp_path: Path) -> None:
    message = r"3slices_batch2_float32_eager exited with 1: see .*log\.txt"
    arguments = ["--out", str(tmp_path), "--data-root", str(tmp_path / "nowhere"), "--slices", "3"]
    with pytest.raises(SystemExit, match=message):
        main(arguments)
    assert "nowhere" in (tmp_path / SETTING.name / "log.txt").read_text()
    assert not (tmp_path / SETTING.name / "done.txt").exists()


def test_a_run_that_is_done_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is to be another one."""
    folder, runs = tmp_path / SETTING.name, []

    def train(command: list[str], **options: Any) -> CompletedProcess[str]:
        runs.append(command)
        (folder / "scalars.jsonl").write_text('{"train/time": 4.0, "train/data_time": 1.0}\n')
        (folder / "summary.json").write_text('{"gpu_peak_mib": 0, "ram_peak_mib": 512}')
        return CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", train)
    command = ["--out", str(tmp_path), "--data-root", str(tmp_path), "--slices", "3"]
    for more, expected in (([], 1), ([], 1), (["--steps", "30"], 2)):
        main([*command, "--warm-up", "0", *more])
        assert len(runs) == expected
    table = (tmp_path / "training.md").read_text()
    assert "| 4 s | 0.5 | 25.0% |  | 0.5 GiB | 12.5 h |" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be >= 1, got 0"),
        (["--batch-sizes", "2", "0"], "--batch-sizes must be >= 1, got 0"),
        (["--precisions", "tf32"], "--precisions tf32 is for GPUs"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        parse_args(arguments)
    assert message in capsys.readouterr().err
