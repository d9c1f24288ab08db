"""Where curves and pictures go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeplesion.engine import tracking
from deeplesion.engine.config import UsageError
from deeplesion.engine.tracking import (
    CTMLflowBackend,
    CTTensorboardBackend,
    leave_trackers,
    metric_name,
    set_trackers,
)

Calls = list[tuple[str, Any]]
PICTURE = np.zeros((4, 6, 3), np.uint8)
FIGURES = {"froc/sens@0.5": 0.25, "train/loss": 2.0}


def config(trackers: Any = ()) -> Config:
    backends = [{"type": "LocalLogBackend"}, {"type": "CTTensorboardBackend"}]
    return Config({"trackers": trackers, "visualizer": {"vis_backends": backends}})


def kinds(cfg: Config) -> list[str]:
    return [backend["type"] for backend in cfg.visualizer.vis_backends]


class FakeModule(ModuleType):
    """A package that records what is called."""

    MlflowException = ValueError

    def __init__(self, name: str, calls: Calls) -> None:
        super().__init__(name)
        self._calls = calls
        self.config = self.run = self
        self.Image = np.shape

    def get_experiment_by_name(self, name: str) -> str:
        return name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def record(*args: Any, **kwargs: Any) -> None:
            given = args[0] if len(args) == 1 else args
            self._calls.append((name, given if args else kwargs))

        return record


@pytest.fixture(params=["wandb", "mlflow"])
def tracked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Calls]]:
    """A tracker, and all that a training has it record."""
    calls: Calls = []
    # mmengine's backend looks at the streams of the current logger, which may be an earlier test's.
    MMLogger.get_instance(tmp_path.name)
    monkeypatch.setitem(sys.modules, request.param, FakeModule(request.param, calls))
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cfg = config(request.param)
    set_trackers(cfg)
    cfg.work_dir = str(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "20260101").mkdir()
    (tmp_path / "20260101" / "20260101.log").touch()
    cfg.long = "x" * 9000
    cfg.many = dict.fromkeys(map(str, range(250)), 1)
    backends = cfg.visualizer.vis_backends[2:]
    with DefaultScope.overwrite_default_scope("mmdet"):
        visualizer = Visualizer(vis_backends=backends, save_dir=str(tmp_path / "20260101"))
    visualizer.add_config(cfg)
    visualizer.add_scalars(FIGURES, step=7)
    visualizer.add_scalar("one@2", 1.0, step=7)
    visualizer.add_image("overlays/a", PICTURE, step=7)
    visualizer.close()
    return request.param, calls


def test_trackers_record_figures_by_iteration(tracked: tuple[str, Calls], tmp_path: Path) -> None:
    name, calls = tracked
    folder = tmp_path / "20260101" / "vis_data"
    if name == "wandb":
        assert ("define_metric", {"name": "*", "step_metric": "iter"}) in calls
        logs = [{**FIGURES, "iter": 7}, {"one@2": 1.0}, {"overlays/a": (4, 6, 3), "iter": 7}]
        recorded = [what for kind, what in calls if kind == "log"]
        assert recorded == logs
        assert calls[-1][0] == "finish"
    else:
        # What MLflow refuses is renamed; long settings are cut, and come in parts.
        assert ("set_tracking_uri", f"sqlite:///{folder}/mlflow.db") in calls
        assert ("log_metrics", ({"froc/sens_at_0.5": 0.25, "train/loss": 2.0}, 7)) in calls
        assert ("log_metric", ("one_at_2", 1.0, 7)) in calls
        parts = [what for kind, what in calls if kind == "log_params"]
        assert all(len(part) <= 100 for part in parts)
        settings = {key: value for part in parts for key, value in part.items()}
        assert len(settings) > 250
        assert len(settings["long"]) == 500
        assert [what[1] for kind, what in calls if kind == "log_image"] == [
            "overlays/a/iter_00000007.png"
        ]
        kept = [Path(what).name for kind, what in calls if kind == "log_artifact"]
        assert kept == ["20260101.log", "summary.json"]
        assert calls[-1][0] == "end_run"


def test_mlflow_server_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []
    # mmengine's backend looks at the streams of the current logger, which may be an earlier test's.
    MMLogger.get_instance(tmp_path.name)
    monkeypatch.setitem(sys.modules, "mlflow", FakeModule("mlflow", calls))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    CTMLflowBackend(str(tmp_path)).add_scalar("loss", 1.0)
    assert ("set_tracking_uri", "http://server:5000") in calls
    assert ("set_experiment", "deeplesion") in calls


def test_trackers_come_beside_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    cfg = config(["wandb", {"type": "CTMLflowBackend", "exp_name": "lesions"}])
    set_trackers(cfg)
    assert kinds(cfg) == [
        "LocalLogBackend",
        "CTTensorboardBackend",
        "CTWandbBackend",
        "CTMLflowBackend",
    ]
    assert cfg.visualizer.vis_backends[3]["exp_name"] == "lesions"
    # Once more changes nothing, and what is there is not added again.
    set_trackers(cfg)
    assert len(kinds(cfg)) == 4


def test_no_trackers_change_nothing() -> None:
    cfg = config("tensorboard")
    set_trackers(cfg)
    assert kinds(cfg) == kinds(config())


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(UsageError, match=r"package wandb, .*`python -m pip install wandb`"):
        set_trackers(config("wandb"))
    # Also where a config names mmengine's own.
    cfg = config()
    cfg.visualizer.vis_backends.append({"type": "WandbVisBackend"})
    with pytest.raises(UsageError, match="pip install wandb"):
        set_trackers(cfg)


@pytest.mark.parametrize("wrong", ["tensorbord", 3, {"exp_name": "a"}, [["wandb"]]])
def test_unknown_tracker_lists_the_known_ones(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"tensorboard, wandb, mlflow, .* got "):
        set_trackers(config(wrong))


def test_config_without_visualizer_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    cfg = Config({"trackers": "wandb"})
    set_trackers(cfg)
    assert kinds(cfg) == ["CTWandbBackend"]


def test_sessions_of_a_training_are_one_curve(tmp_path: Path) -> None:
    cfg = Config({"model": {"type": "MaskRCNN"}})
    for session, begin in (("first", 0), ("resumed", 4)):
        backend = CTTensorboardBackend(str(tmp_path / session / "vis_data"))
        backend.add_config(cfg)
        backend.begin_at(begin)
        for step in range(begin + 1, begin + 7):
            backend.add_scalars({"train/loss": float(begin)}, step)
            backend.add_image("overlays/a", PICTURE, step)
        backend.close()
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    # The first session died after iteration 6, its checkpoint was of iteration 4.
    curve = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert curve == [(step, 0.0 if step <= 4 else 4.0) for step in range(1, 11)]
    assert "config/text_summary" in read.Tags()["tensors"]


def test_nothing_logged_leaves_no_events(tmp_path: Path) -> None:
    backend = CTTensorboardBackend(str(tmp_path / "session" / "vis_data"))
    backend.add_config(Config({}))
    backend.close()
    assert not list(tmp_path.iterdir())


def test_metric_names() -> None:
    assert metric_name("val/froc/sens@0.5") == "val/froc/sens_at_0.5"
    assert metric_name("a(b)=c") == "a_b__c"


def test_log_files_hold_no_pictures(tmp_path: Path) -> None:
    with DefaultScope.overwrite_default_scope("mmdet"):
        backends = [{"type": "LocalLogBackend"}]
        visualizer = Visualizer(vis_backends=backends, save_dir=str(tmp_path))
    visualizer.add_image("a", PICTURE)
    visualizer.add_scalars({"loss": 1.0}, step=3)
    assert not list(tmp_path.rglob("*.png"))
    assert (tmp_path / "vis_data" / "scalars.json").read_text() == '{"loss": 1.0, "step": 3}\n'


def test_an_evaluation_tells_no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    cfg = config(["wandb", "mlflow"])
    set_trackers(cfg)
    leave_trackers(cfg)
    assert kinds(cfg) == ["LocalLogBackend", "CTTensorboardBackend"]
