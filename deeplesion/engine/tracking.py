"""Where curves and pictures go: TensorBoard, and by one line of a config W&B or MLflow as well."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import VISBACKENDS
from mmengine.config import Config
from mmengine.visualization import (
    LocalVisBackend,
    MLflowVisBackend,
    TensorboardVisBackend,
    WandbVisBackend,
)

from deeplesion.engine.config import UsageError

#: Names that ``trackers`` of a config takes.
TRACKERS: dict[str, dict[str, Any]] = {
    "tensorboard": {"type": "CTTensorboardBackend"},
    "wandb": {"type": "CTWandbBackend"},
    "mlflow": {"type": "CTMLflowBackend"},
}
#: What each kind of backend needs, by the name to import.
PACKAGES = {
    "CTTensorboardBackend": "tensorboard",
    "TensorboardVisBackend": "tensorboard",
    "CTWandbBackend": "wandb",
    "WandbVisBackend": "wandb",
    "CTMLflowBackend": "mlflow",
    "MLflowVisBackend": "mlflow",
    "ClearMLVisBackend": "clearml",
    "NeptuneVisBackend": "neptune",
    "DVCLiveVisBackend": "dvclive",
    "AimVisBackend": "aim",
}
#: Those that tell nobody but the work folder.
LOCAL_BACKENDS = (
    "LocalLogBackend",
    "LocalVisBackend",
    "CTTensorboardBackend",
    "TensorboardVisBackend",
)
#: What MLflow takes in the name of a metric.
NOT_IN_METRICS = re.compile(r"[^\w\-. :/]")
TENSORBOARD_FOLDER = "tensorboard"
MOST_PARAM_CHARACTERS = 500
PARAMS_PER_CALL = 100


def leave_trackers(cfg: Config) -> None:
    """Have an evaluation leave alone the trackers that a training's config names.

    Args:
        cfg: ``visualizer`` is changed in place.
    """
    visualizer = cfg.get("visualizer") or {"type": "Visualizer"}
    kept = [b for b in visualizer.get("vis_backends") or [] if b["type"] in LOCAL_BACKENDS]
    cfg.visualizer = {**visualizer, "vis_backends": kept}


def set_trackers(cfg: Config) -> None:
    """Add what ``trackers`` of a config names to the backends of its visualizer.

    Args:
        cfg: ``visualizer`` is changed in place. ``trackers`` is a name of :data:`TRACKERS`, the
            config of a backend (``dict(type="CTWandbBackend", init_kwargs=dict(project="ct"))``),
            or a list of such.

    Raises:
        UsageError: A name is unknown, or the package that a backend needs is not installed.
    """
    wanted = cfg.get("trackers") or []
    wanted = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    backends = [_backend(one) for one in wanted]
    visualizer = cfg.get("visualizer") or {"type": "Visualizer"}
    present = visualizer.get("vis_backends") or []
    taken = {backend["type"] for backend in present}
    added = [backend for backend in backends if backend["type"] not in taken]
    check_packages([*present, *added])
    if added:
        cfg.visualizer = {**visualizer, "vis_backends": [*present, *added]}


def _backend(wanted: Any) -> dict[str, Any]:
    if isinstance(wanted, Mapping) and "type" in wanted:
        return dict(wanted)
    if isinstance(wanted, str) and wanted in TRACKERS:
        return dict(TRACKERS[wanted])
    known = ", ".join(TRACKERS)
    raise UsageError(f"trackers must be of {known}, or dict(type=...), got {wanted!r}")


def check_packages(backends: Sequence[Mapping[str, Any]]) -> None:
    """Fail early, in one line, where the package of a backend is missing.

    Args:
        backends: Configs of backends.

    Raises:
        UsageError: It says what to install.
    """
    for backend in backends:
        package = PACKAGES.get(backend["type"])
        if package is not None and find_spec(package) is None:
            raise UsageError(
                f"{backend['type']} needs the package {package}, which is not installed: "
                f"`python -m pip install {package}`, or take it out of trackers and vis_backends"
            )


@VISBACKENDS.register_module()
class LocalLogBackend(LocalVisBackend):
    """mmengine's files of the log (``vis_data/scalars.json``), without pictures.

    Those of validation are written by :class:`deeplesion.engine.overlays.ValidationOverlayHook`,
    not more of them than a folder should have.
    """

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Write nothing."""


@VISBACKENDS.register_module()
class CTTensorboardBackend(TensorboardVisBackend):
    """TensorBoard, with the sessions of a training in one folder: ``WORK_DIR/tensorboard``.

    mmengine gives each session a folder, so that a training that was resumed has its curves in
    pieces. Here a session that begins at some iteration hides what was written of later ones.

    Args:
        save_dir: ``vis_data`` of a session, as the visualizer gives it.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(str(Path(save_dir).absolute().parents[1] / TENSORBOARD_FOLDER))
        self._config_text = ""
        self._first_step: int | None = None

    def begin_at(self, iteration: int) -> None:
        """Say how many iterations a training that begins or goes on has behind it."""
        self._first_step = iteration + 1

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Keep the config until something is logged."""
        self._config_text = config.pretty_text

    def _init_env(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._tensorboard = SummaryWriter(self._save_dir, purge_step=self._first_step)
        # Markdown shows what is indented as it stands.
        text = "\n".join(f"    {line}" for line in self._config_text.splitlines())
        self._tensorboard.add_text("config", text, self._first_step)


@VISBACKENDS.register_module()
class CTWandbBackend(WandbVisBackend):
    """Weights & Biases, with iterations for steps.

    mmengine's own counts calls, so that curves of training and validation have no common axis.

    Args:
        save_dir: Folder of its files.
        **kwargs: Those of :class:`mmengine.visualization.WandbVisBackend`: ``init_kwargs`` go to
            ``wandb.init`` (``project``, ``name``, ``mode="offline"``, ...).
    """

    def __init__(self, save_dir: str, **kwargs: Any) -> None:
        kwargs.setdefault("define_metric_cfg", [{"name": "*", "step_metric": "iter"}])
        super().__init__(save_dir, **kwargs)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Log a picture ``(H, W, 3)`` RGB."""
        wandb = self.experiment
        wandb.log({name: wandb.Image(image), "iter": step})

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Log numbers of one iteration."""
        super().add_scalars({**scalar_dict, "iter": step}, step, file_path, **kwargs)

    def close(self) -> None:
        """End the run; mmengine's way was taken out of today's wandb."""
        if hasattr(self, "_wandb"):
            self._wandb.finish()


@VISBACKENDS.register_module()
class CTMLflowBackend(MLflowVisBackend):
    """MLflow, under names that it takes.

    mmengine's own loses a whole line of figures where one has a name that MLflow refuses, as
    ``froc/sens@0.5`` is, fails at settings that are too long, and keeps runs in files, which MLflow
    has given up.

    Args:
        save_dir: Folder of ``mlflow.db``, unless ``tracking_uri`` or the variable
            ``MLFLOW_TRACKING_URI`` names a server.
        **kwargs: Those of :class:`mmengine.visualization.MLflowVisBackend`.
    """

    def __init__(self, save_dir: str, **kwargs: Any) -> None:
        server = kwargs.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
        kwargs.setdefault("exp_name", "deeplesion")
        if server is None:
            folder = Path(save_dir).absolute()
            server = f"sqlite:///{folder / 'mlflow.db'}"
            kwargs.setdefault("artifact_location", (folder / "mlflow").as_uri())
        kwargs["tracking_uri"] = server
        super().__init__(save_dir, **kwargs)

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Log the settings of a config, long ones cut, and the config as a file."""
        self.cfg = config
        settings = self._flatten(config.to_dict())
        texts = {metric_name(key): _cut(str(value)) for key, value in settings.items()}
        names = list(texts)
        for first in range(0, len(names), PARAMS_PER_CALL):
            part = names[first : first + PARAMS_PER_CALL]
            self.experiment.log_params({name: texts[name] for name in part})
        self.experiment.log_text(config.pretty_text, "config.py")

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Log a picture ``(H, W, 3)`` RGB as ``NAME/iter_00000500.png``."""
        super().add_image(f"{name}/iter_{step:08d}.png", image, step, **kwargs)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Log a number."""
        super().add_scalar(metric_name(name), value, step, **kwargs)

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Log numbers of one iteration."""
        named = {metric_name(name): value for name, value in scalar_dict.items()}
        super().add_scalars(named, step, file_path, **kwargs)

    def close(self) -> None:
        """Keep log and summary of this session along, and end the run."""
        if hasattr(self, "_mlflow"):
            session = Path(self._save_dir).parent
            for path in (*session.glob("*.log"), *session.parent.glob("summary.*")):
                self._mlflow.log_artifact(str(path))
            self._mlflow.end_run()


def metric_name(name: str) -> str:
    """A name that MLflow takes: ``froc/sens@0.5`` becomes ``froc/sens_at_0.5``."""
    return NOT_IN_METRICS.sub("_", name.replace("@", "_at_"))


def _cut(text: str) -> str:
    if len(text) <= MOST_PARAM_CHARACTERS:
        return text
    return text[: MOST_PARAM_CHARACTERS - 3] + "..."
