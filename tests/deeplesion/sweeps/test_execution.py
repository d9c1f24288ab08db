"""Running trainings: skipped, gone on with, failed, interrupted. Shell commands stand for them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from deeplesion.engine.config import UsageError
from deeplesion.sweeps.execution import BEST, LOG, Job, Pool, state_of

TRAIN = "echo trained >> {0}/trainings; touch {0}/best_froc_mean_epoch_1.pth"
TEST = 'mkdir -p {0}/test; echo "$0" > {0}/test/predictions.json'


def job(folder: Path, train: str = TRAIN, test: str = TEST, **settings: Any) -> Job:
    """A training of shell commands."""
    folder.mkdir(parents=True, exist_ok=True)
    commands = [
        ("bash", "-c", text.format(folder), *rest) for text, rest in ((train, ()), (test, (BEST,)))
    ]
    return Job(folder.name, folder, *commands, settings)


def quiet(**options: Any) -> Pool:
    """A pool that says nothing."""
    return Pool(**{"tell": lambda text: None, **options})


def test_trains_then_evaluates_the_best_and_skips_what_is_done(tmp_path: Path) -> None:
    one = job(tmp_path / "a", seed=1)
    assert state_of(one) == "new"
    assert [o.status for o in quiet().run([one])] == ["done"]
    assert state_of(one) == "done"
    assert (tmp_path / "a/test/predictions.json").read_text().strip().endswith("_epoch_1.pth")
    assert [o.status for o in quiet().run([one])] == ["skipped"]
    assert (tmp_path / "a/trainings").read_text() == "trained\n"


def test_only_the_evaluation_is_done_again_where_it_is_missing(tmp_path: Path) -> None:
    one = job(tmp_path / "a")
    quiet().run([one])
    one.predictions.unlink()
    assert state_of(one) == "trained"
    assert [o.status for o in quiet().run([one])] == ["done"]
    assert (tmp_path / "a/trainings").read_text() == "trained\n"


def test_a_failure_is_told_and_stops_no_other(tmp_path: Path) -> None:
    told: list[str] = []
    jobs = [
        job(tmp_path / "a", train="echo broken; exit 3"),
        job(tmp_path / "b", train="true"),
        job(tmp_path / "c"),
    ]
    outcomes = Pool(tell=told.append).run(jobs)
    assert [o.status for o in outcomes] == ["failed", "failed", "done"]
    assert outcomes[0].reason == f"exit code 3, see {tmp_path / 'a' / LOG}"
    assert outcomes[1].reason == f"no {BEST} in {tmp_path / 'b'}"
    assert "broken" in (tmp_path / "a" / LOG).read_text()
    assert any(text.startswith("a: failed after") for text in told)
    assert state_of(jobs[0]) == "begun"


def test_other_settings_in_the_same_folder_are_refused_before_anything_runs(tmp_path: Path) -> None:
    quiet().run([job(tmp_path / "a", lr=1)])
    fresh = job(tmp_path / "b")
    with pytest.raises(UsageError, match=r"a was run with other settings \(lr\)"):
        quiet().run([fresh, job(tmp_path / "a", lr=2)])
    assert state_of(fresh) == "new"


def test_each_of_several_at_once_has_its_device(tmp_path: Path) -> None:
    command = "echo $CUDA_VISIBLE_DEVICES > {0}/device; sleep 0.2; " + TRAIN
    jobs = [job(tmp_path / name, train=command) for name in "ab"]
    outcomes = quiet(workers=2, devices=["4", "7"]).run(jobs)
    assert [o.status for o in outcomes] == ["done", "done"]
    assert sorted((tmp_path / n / "device").read_text().strip() for n in "ab") == ["4", "7"]


def test_an_interrupted_training_stops_the_sweep(tmp_path: Path) -> None:
    jobs = [job(tmp_path / "a", train="exit 75"), job(tmp_path / "b")]
    assert [o.status for o in quiet().run(jobs)] == ["interrupted", "interrupted"]
    assert not (tmp_path / "b/trainings").exists()


def test_warnings_are_passed_on(tmp_path: Path) -> None:
    waiting = "trap 'touch {0}/warned; exit 75' USR1; touch {0}/ready; while :; do sleep 0.05; done"
    jobs = [job(tmp_path / "a", train=waiting), job(tmp_path / "b")]

    def warn() -> None:
        while not (tmp_path / "a/ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    threading.Thread(target=warn).start()
    assert [o.status for o in quiet().run(jobs)] == ["interrupted", "interrupted"]
    assert (tmp_path / "a/warned").exists()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_torn_record_says_what_to_do(tmp_path: Path) -> None:
    one = job(tmp_path / "a")
    (tmp_path / "a/sweep_run.json").write_text(json.dumps({"state": "done"})[:-3])
    with pytest.raises(UsageError, match=r"sweep_run\.json is torn: remove"):
        state_of(one)
