"""The same few validation images at every validation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.registry import HOOKS

from deeplesion.engine import overlays
from deeplesion.engine.overlays import (
    ValidationOverlayHook,
    choose_images,
    scaled,
    surplus_sheets,
)


def info(name: str, interval: float | None = 1.0, patient: int = 1, lesions: int = 1) -> dict:
    return {
        "file_name": name,
        "slice_interval": interval,
        "patient_id": patient,
        "instances": [{}] * lesions,
    }


def test_thin_and_thick_in_turn() -> None:
    thin = [info(f"thin{i}", 1.0, i) for i in range(10)]
    thick = [info(f"thick{i}", 5.0, i) for i in range(10)]
    other = [info("other", None)]
    chosen = choose_images([*thin, *thick, *other], 4)
    assert [name.rstrip("0123456789") for name in chosen] == ["other", "thick", "thin", "thin"]
    assert choose_images([*thin, *thick, *other], 4) == chosen


def test_images_without_lesions_show_nothing() -> None:
    assert choose_images([info("a", lesions=0), info("b")], 4) == ["b"]
    assert choose_images([], 4) == []
    assert choose_images([info("a")], 0) == []


def test_different_patients_first_and_spread() -> None:
    infos = [info(f"{patient}-{turn}", 1.0, patient) for patient in range(8) for turn in range(5)]
    assert choose_images(infos, 4) == ["0-0", "2-0", "4-0", "6-0"]
    # Of one patient, too, where there are no others.
    assert len(choose_images(infos[:5], 4)) == 4


def test_surplus_keeps_first_and_newest() -> None:
    names = list("abcdef")
    assert surplus_sheets(names, 6) == []
    assert surplus_sheets(names, 5) == ["b", "d"]


def test_pictures_are_only_made_smaller() -> None:
    assert scaled(np.zeros((300, 600, 3), np.uint8), 200).shape == (100, 200, 3)
    assert scaled(np.zeros((30, 60, 3), np.uint8), 200).shape == (30, 60, 3)


class FakeRunner(SimpleNamespace):
    """What the hook sees of a Runner."""

    def __init__(self, folder: Path, infos: list[dict]) -> None:
        data = SimpleNamespace(get_data_info=infos.__getitem__)
        data = type("Data", (), {"__len__": lambda s: len(infos), **vars(data)})()
        self.images: list[tuple[str, int]] = []
        self.warnings: list[str] = []
        super().__init__(
            work_dir=str(folder),
            iter=0,
            val_dataloader=SimpleNamespace(dataset=data),
            logger=SimpleNamespace(warning=self.warnings.append),
            visualizer=SimpleNamespace(add_image=lambda n, i, step: self.images.append((n, step))),
        )


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ValidationOverlayHook:
    """A hook whose pictures are one gray."""
    hook = HOOKS.build({"type": "ValidationOverlayHook", "number": 2, "max_sheets": 2})
    gray = np.full((60, 600, 3), 99, np.uint8)
    monkeypatch.setattr(hook._drawer, "draw", lambda sample: gray)
    return hook


def validate(hook: ValidationOverlayHook, runner: Any, names: list[str]) -> None:
    hook.before_val_epoch(runner)
    samples = [SimpleNamespace(metainfo={"file_name": name}) for name in names]
    hook.after_val_iter(runner, 0, None, samples)
    hook.after_val_epoch(runner, {})


def test_sheets_and_images_of_each_validation(hook: ValidationOverlayHook, tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, [info(f"{i}.png", 1.0, i) for i in range(4)])
    for runner.iter in (10, 20, 30):
        validate(hook, runner, [f"{i}.png" for i in range(4)])
    assert runner.images == [(f"overlays/{i}", step) for step in (10, 20, 30) for i in (0, 2)]
    # Not more sheets than wanted; the first and the last are among them.
    sheets = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert sheets == ["iter_00000010.png", "iter_00000030.png"]
    assert cv2.imread(str(tmp_path / "overlays" / sheets[0])).shape == (51, 512 * 2 + 8, 3)


def test_processes_give_theirs_to_the_main_one(
    hook: ValidationOverlayHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"2.png": np.zeros((51, 512, 3), np.uint8)}
    monkeypatch.setattr(overlays, "all_gather_object", lambda own: [own, other])
    runner = FakeRunner(tmp_path, [info(f"{i}.png", 1.0, i) for i in range(4)])
    validate(hook, runner, ["0.png", "1.png"])
    assert [name for name, _ in runner.images] == ["overlays/0", "overlays/2"]
    monkeypatch.setattr(overlays, "is_main_process", lambda: False)
    validate(hook, runner, ["0.png", "1.png"])
    assert len(runner.images) == 2


def test_pictures_that_fail_do_not_end_a_training(
    hook: ValidationOverlayHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(sample: object) -> None:
        raise KeyError("data samples lack window")

    monkeypatch.setattr(hook._drawer, "draw", fail)
    runner = FakeRunner(tmp_path, [info(f"{i}.png", 1.0, i) for i in range(4)])
    for _ in range(2):
        validate(hook, runner, [f"{i}.png" for i in range(4)])
    assert len(runner.warnings) == 1
    assert "lack window" in runner.warnings[0]


def test_data_sets_of_another_kind_have_none(hook: ValidationOverlayHook, tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, [{"img_path": "a.jpg", "instances": [{}]}])
    validate(hook, runner, ["a.jpg"])
    assert not runner.images


def test_no_overlays_on_request(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, [info("0.png")])
    validate(ValidationOverlayHook(number=0), runner, ["0.png"])
    assert not runner.images
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"number": -1}, r">= 0, got -1"), ({"max_sheets": 1}, r">= 2, got 1")],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ValidationOverlayHook(**options)
