"""What a training tells of itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from mmengine.logging import MessageHub

from deeplesion.engine import progress
from deeplesion.engine.progress import (
    PROGRESS_KEY,
    CTLoggerHook,
    Progress,
    batch_images,
    over_processes,
    peak_resident_mib,
    resident_mib,
)


class FakeClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of the hook."""
    fake = FakeClock()
    monkeypatch.setattr(progress.time, "perf_counter", fake)
    return fake


def make_runner(at: int = 0, iters: int = 100) -> Any:
    """What the hook sees of a Runner."""
    lines: list[dict[str, float]] = []

    def log(runner: Any, *args: Any) -> tuple[dict, str]:
        histories = runner.message_hub.log_scalars
        lines.append({name: history.current() for name, history in histories.items()})
        return {}, ""

    return SimpleNamespace(
        lines=lines,
        message_hub=MessageHub(f"hub_{uuid4().hex}"),
        iter=at,
        max_iters=iters,
        train_dataloader=range(10),
        experiment_name="test",
        logger=SimpleNamespace(info=lambda text: None),
        log_processor=SimpleNamespace(get_log_after_iter=log),
        visualizer=SimpleNamespace(add_scalars=lambda *a, **k: None, get_backend=lambda name: None),
    )


def step(
    hook: CTLoggerHook, runner: Any, clock: FakeClock, seconds: float, waited: float = 0.0
) -> None:
    """One training step of 4 images."""
    clock.now += seconds
    runner.message_hub.update_scalar("train/time", seconds)
    runner.message_hub.update_scalar("train/data_time", waited)
    hook.after_train_iter(runner, runner.iter, {"inputs": [0] * 4}, {})
    runner.iter += 1


def logged(runner: Any, name: str) -> float:
    return runner.lines[-1][f"train/{name}"]


def test_speed_waiting_and_time_left_since_the_last_line(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=2), make_runner()
    hook.before_train(runner)
    step(hook, runner, clock, 9.0, waited=8.0)
    step(hook, runner, clock, 1.0)
    step(hook, runner, clock, 1.0, waited=0.5)
    step(hook, runner, clock, 1.0)
    assert logged(runner, "images_per_second") == pytest.approx(8 / 2.0)
    assert logged(runner, "data_share") == pytest.approx(0.25)
    assert logged(runner, "eta_hours") == pytest.approx(12 / 4 * 96 / 3600)
    assert runner.message_hub.get_info("eta") == pytest.approx(12 / 4 * 96)
    assert logged(runner, "ram_mib") == pytest.approx(resident_mib(), rel=0.2)


def test_figures_of_the_machine_are_in_no_checkpoint(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=1), make_runner()
    hook.before_train(runner)
    step(hook, runner, clock, 1.0)
    assert set(runner.message_hub.log_scalars) == {"train/time", "train/data_time"}


def test_time_of_a_validation_is_no_waiting(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=1), make_runner()
    hook.before_train(runner)
    step(hook, runner, clock, 1.0)
    hook.before_save_checkpoint(runner, {})
    # mmengine counts from the last step on.
    step(hook, runner, clock, 6.0, waited=5.0)
    assert logged(runner, "data_share") == 0
    assert logged(runner, "images_per_second") == pytest.approx(4.0)
    # The time left includes it.
    assert runner.message_hub.get_info("eta") == pytest.approx(7 / 2 * 98)


def test_waiting_at_the_begin_of_an_epoch_counts(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=1), make_runner()
    hook.before_train(runner)
    step(hook, runner, clock, 1.0)
    hook.before_save_checkpoint(runner, {})
    hook.before_train_epoch(runner)
    step(hook, runner, clock, 4.0, waited=3.0)
    assert logged(runner, "data_share") == pytest.approx(0.75)


def test_counts_go_on_after_a_resume(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=1), make_runner()
    hook.before_train(runner)
    step(hook, runner, clock, 2.0, waited=1.0)
    kept = runner.message_hub.get_info(PROGRESS_KEY)
    clock.now = 1000.0
    hook, again = CTLoggerHook(interval=1), make_runner(at=1)
    again.message_hub.update_info(PROGRESS_KEY, kept)
    hook.before_train(again)
    step(hook, again, clock, 3.0)
    found = Progress.from_dict(again.message_hub.get_info(PROGRESS_KEY))
    assert (found.seconds, found.step_seconds, found.data_seconds) == (5.0, 5.0, 1.0)
    assert (found.images, found.sessions) == (8, 2)
    assert found.data_share == pytest.approx(0.2)
    assert found.ram_peak_mib > 0
    assert again.message_hub.get_info("eta") == pytest.approx(3.0 * 98)


def test_images_are_those_of_all_processes(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_alike(values: list[float], how: str) -> list[float]:
        return [2 * value if how == "sum" else value for value in values]

    monkeypatch.setattr(progress, "over_processes", two_alike)
    hook, runner = CTLoggerHook(interval=1), make_runner()
    hook.before_train(runner)
    for _ in range(3):
        step(hook, runner, clock, 1.0)
    assert logged(runner, "images_per_second") == pytest.approx(8.0)
    assert runner.message_hub.get_info(PROGRESS_KEY)["images"] == 24


def test_steps_after_the_last_line_count(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_alike(values: list[float], how: str) -> list[float]:
        return [2 * value if how == "sum" else value for value in values]

    monkeypatch.setattr(progress, "over_processes", two_alike)
    monkeypatch.setattr(progress.LoggerHook, "after_train", lambda *_: None)
    hook, runner = CTLoggerHook(interval=2), make_runner()
    hook.before_train(runner)
    for _ in range(3):
        step(hook, runner, clock, 1.0)
    hook.after_train(runner)
    found = Progress.from_dict(runner.message_hub.get_info(PROGRESS_KEY))
    assert (found.images, found.step_seconds) == (24, 3.0)


def test_peaks_are_known_before_the_first_line(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=50), make_runner()
    hook.before_train(runner)
    step(hook, runner, clock, 1.0)
    assert runner.message_hub.get_info(PROGRESS_KEY)["ram_peak_mib"] > 100


def test_short_epochs_are_logged_at_their_end(clock: FakeClock) -> None:
    hook, runner = CTLoggerHook(interval=50), make_runner()
    hook.before_train(runner)
    for _ in range(10):
        step(hook, runner, clock, 1.0)
    assert logged(runner, "images_per_second") == pytest.approx(4.0)


def test_curves_of_validation_have_iterations_for_steps() -> None:
    assert CTLoggerHook().log_metric_by_epoch is False


def test_unknown_counts_do_not_matter() -> None:
    assert Progress.from_dict({"seconds": 3.0, "of a later version": 1}) == Progress(seconds=3.0)
    assert Progress().data_share == 0


@pytest.mark.parametrize(
    ("batch", "images"), [({"inputs": [1, 2]}, 2), ([1, 2, 3], 3), ({}, 0), (None, 0)]
)
def test_images_of_a_batch(batch: Any, images: int) -> None:
    assert batch_images(batch) == images


def test_resident_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10 < resident_mib() <= peak_resident_mib() * 1.1
    monkeypatch.setattr(progress, "Path", lambda name: Path("none"))
    assert resident_mib() == peak_resident_mib()


def test_one_process_is_all() -> None:
    assert over_processes([1.5, 2.0], "sum") == [1.5, 2.0]
