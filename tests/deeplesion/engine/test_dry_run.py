"""What a dry run makes of a config and of the first steps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from deeplesion.engine import dry_run
from deeplesion.engine.config import UsageError
from deeplesion.engine.data_sanity import DataFacts, PipelineFacts
from deeplesion.engine.dry_run import (
    DataReport,
    check_config,
    check_losses,
    check_resume,
    check_trial,
    estimated,
    is_cached,
    scale_of,
)
from deeplesion.engine.estimate import plan_of
from deeplesion.engine.sanity import Finding
from deeplesion.engine.trial import Trial

TRIAL = Trial(
    steps=[2.0, 3.0, 2.0],
    waits=[1.0, 1.0, 1.0],
    losses=[2.5, 2.0],
    begun_at=[0, 2],
    batches=[0.5],
    metrics=["froc/mean"],
    saving=1.0,
    checkpoint_bytes=1000,
    weight_bytes=300,
    batches_per_epoch=100,
)


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    """A config with a learning rate for 8 images, and weights that are not there."""
    return Config(
        {
            "work_dir": str(tmp_path / "none" / "yet"),
            "model": {"init_cfg": {"type": "Pretrained", "checkpoint": "none.pth"}},
            "load_from": "also none.pth",
            "train_cfg": {"max_epochs": 20, "val_interval": 1},
            "val_cfg": {},
            "train_dataloader": {"batch_size": 2, "num_workers": 0},
            "optim_wrapper": {"optimizer": {"lr": 0.02}, "accumulative_counts": 2},
            "param_scheduler": {"type": "MultiStepLR", "end": 20},
            "auto_scale_lr": {"base_batch_size": 8},
            "default_hooks": {"checkpoint": {"interval": 1, "save_best": "froc/mean"}},
        }
    )


def test_config_is_looked_over(cfg: Config) -> None:
    levels = {f.what: f.level for f in check_config(cfg, PipelineFacts(image_bytes=1000))}
    assert levels["pretrained weights none.pth are not there"] == "error"
    assert levels["pretrained weights also none.pth are not there"] == "error"
    assert levels["learning rate 0.02 is for 8 images a step, there are 4"] == "warning"


def test_accumulated_images_count(cfg: Config) -> None:
    assert scale_of(cfg).images == 4
    cfg.auto_scale_lr.enable = True
    assert scale_of(cfg).scaled


def test_first_steps_are_looked_over(cfg: Config) -> None:
    found = check_trial(cfg, TRIAL, plan_of(cfg, 100))
    assert {finding.level for finding in found} == {"ok"}
    cfg.default_hooks.checkpoint.save_best = "mAP"
    assert [f.level for f in check_trial(cfg, TRIAL, plan_of(cfg, 100))].count("error") == 1


def test_losses_that_are_no_numbers() -> None:
    assert check_losses([2.0, 1.0]).level == "ok"
    finding = check_losses([2.0, math.nan])
    assert (finding.level, "2, nan" in finding.what) == ("error", True)


def test_resume_goes_on_where_it_was_saved() -> None:
    assert check_resume([0, 2]).level == "ok"
    assert check_resume([0, 0]).level == "error"


def test_time_of_the_run(cfg: Config) -> None:
    # 2000 steps of 1 s computing and 1 s waiting, 20 validations of 3 batches, 20 checkpoints.
    found = estimated(cfg, TRIAL, plan_of(cfg, 100), PipelineFacts(images=1, seconds=9.0), 3)
    assert found.total == pytest.approx(4000 + 20 * 3 * 0.5 + 20)


def test_downloaded_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert not is_cached("https://somewhere/a.pth")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "a.pth").touch()
    assert is_cached("https://somewhere/a.pth")
    assert not is_cached("open-mmlab://no/such")
    assert not is_cached("a.pth")


def test_failures_of_the_trial_are_findings(
    cfg: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = {
        FileNotFoundError("no masks"): "the trial stopped: no masks",
        torch.OutOfMemoryError("CUDA out of memory"): "a step does not fit into memory",
        TypeError("odd\nmore"): "the trial stopped: TypeError: odd",
    }
    for error, expected in failures.items():

        def fail(*args: object, error: Exception = error) -> Trial:
            raise error

        monkeypatch.setattr(dry_run, "run_trial", fail)
        trial, finding = dry_run._tried(cfg, 0)
        assert trial is None
        assert (finding.level, finding.what) == ("error", expected)
    # Of what is no one's fault but ours, the place is told.
    assert capsys.readouterr().err.count("Traceback") == 1


def test_report_ends_with_what_was_found(cfg: Config, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Finding("ok", "well"), Finding("error", "ill", "mend it")
    dry_run._conclude(cfg, ["train       2 images"], [good])
    out = capsys.readouterr().out
    assert out.startswith("dry run of config\ntrain       2 images\n\nok       well\n")
    assert out.endswith("the dry run found 0 errors and 0 warnings\n")
    with pytest.raises(UsageError, match="found 1 error and 0 warnings, see above"):
        dry_run._conclude(cfg, [], [bad, good])
    # The worst comes last, where it is read.
    assert capsys.readouterr().out.endswith("ok       well\nerror    ill\n         -> mend it\n")


def test_report_of_a_trial_and_of_one_that_failed(cfg: Config) -> None:
    facts = DataFacts("train", ("a", "b"), (1, 2), (1.0, 5.0), (1, 1))
    data = DataReport([facts], PipelineFacts(images=2, seconds=1.0))
    lines, findings = dry_run._assess(cfg, data, TRIAL, Finding("ok", ""))
    assert lines[0] == "train       2 images, 2 lesions, 2 patients (1 mm: 1, 5 mm: 1)"
    assert "whole run   about 1 h 7 min: 20 epochs, 2000 steps 1 h 6 min" in "\n".join(lines)
    assert any("checkpoints need" in finding.what for finding in findings)
    failure = Finding("error", "it died")
    lines, findings = dry_run._assess(cfg, data, None, failure)
    assert len(lines) == 1
    assert findings[-1] == failure
