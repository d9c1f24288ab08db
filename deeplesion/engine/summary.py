"""What came of a training: ``summary.json`` and ``summary.txt`` in its work folder."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from deeplesion.engine.overlays import FOLDER as OVERLAYS
from deeplesion.engine.progress import PROGRESS_KEY, Progress
from deeplesion.engine.wording import counted, duration
from deeplesion.io import atomic_write, write_json

JSON_FILE, TEXT_FILE = "summary.json", "summary.txt"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
MODULES = ("torch", "torchvision", "mmengine", "mmcv", "mmdet", "numpy", "alignshift")
#: What the FROC metric calls the figures of thin and thick slices, by the names here.
FIGURES = {"mean": "froc/mean", "thin": "froc/thin_mean", "thick": "froc/thick_mean"}
MIB_PER_GIB = 1024
#: Where mmengine notes which checkpoint is the newest.
LAST_CHECKPOINT = "last_checkpoint"


def versions() -> dict[str, str]:
    """Versions of what matters for the numbers, and the device."""
    found = {name: getattr(import_module(name), "__version__", "unknown") for name in MODULES}
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"CPU ({platform.machine()})"
    return {"python": platform.python_version(), **found, "device": device}


def best_of(info: Mapping[str, Any], histories: Mapping[str, Any]) -> dict[str, Any] | None:
    """The best checkpoint and what its validation gave.

    Args:
        info: ``runtime_info`` of mmengine's message hub.
        histories: ``log_scalars`` of it.

    Returns:
        ``checkpoint``, ``score`` and ``froc``; None where none was kept yet.
    """
    keys = sorted(key for key in info if key.startswith("best_ckpt"))
    if not keys:
        return None
    suffix = keys[0].removeprefix("best_ckpt")
    score = float(info[f"best_score{suffix}"])
    values = {
        name: list(histories[f"val/{key}"].data[0])
        for name, key in FIGURES.items()
        if f"val/{key}" in histories
    }
    # By which metric it is best is not said, but the score is one of that metric's figures; where
    # another metric chose the checkpoint, what FROC was then is not known.
    turn = next((n for n, value in enumerate(values.get("mean", [])) if value == score), None)
    froc = {}
    if turn is not None:
        froc = {name: _plain(row[turn]) for name, row in values.items() if turn < len(row)}
    return {"checkpoint": str(info[keys[0]]), "score": _plain(score), "froc": froc}


def last_froc(histories: Mapping[str, Any]) -> dict[str, float | None]:
    """FROC of the latest validation, by ``mean``, ``thin`` and ``thick``."""
    found = {name: histories.get(f"val/{key}") for name, key in FIGURES.items()}
    return {name: _plain(row.current()) for name, row in found.items() if row is not None}


def summarize(runner: Any, state: str, reason: str = "") -> dict[str, Any]:
    """Sum up a training.

    Args:
        runner: The Runner, its training begun.
        state: :data:`RUNNING`, :data:`FINISHED` or :data:`STOPPED`.
        reason: Why it stopped.

    Returns:
        What ``summary.json`` holds; a figure that is not defined is None.
    """
    info, histories = runner.message_hub.runtime_info, runner.message_hub.log_scalars
    progress = Progress.from_dict(info.get(PROGRESS_KEY, {}))
    work_dir = Path(runner.work_dir)
    best, last = best_of(info, histories), last_checkpoint(work_dir, info)
    config = work_dir / Path(runner.cfg.filename or f"{runner.timestamp}.py").name
    return {
        "state": state,
        "reason": reason,
        "iteration": runner.iter,
        "iterations": runner.max_iters,
        "epoch": runner.epoch,
        "best": best,
        "last": {"checkpoint": last, "froc": last_froc(histories)},
        "seconds": round(progress.seconds, 3),
        "sessions": progress.sessions,
        "images": round(progress.images),
        "images_per_second": progress.images / max(progress.step_seconds, 1e-9),
        "data_share": progress.data_share,
        "processes": get_world_size(),
        "gpu_peak_mib": progress.gpu_peak_mib,
        "ram_peak_mib": progress.ram_peak_mib,
        "seed": runner.seed,
        "versions": versions(),
        "config": str(config),
        "work_dir": str(work_dir),
        "log_dir": str(runner.log_dir),
        "evaluate": evaluation_command(config, best["checkpoint"] if best else last, work_dir),
    }


def last_checkpoint(work_dir: Path, info: Mapping[str, Any]) -> str | None:
    """The newest checkpoint: what the work folder notes, else what the message hub remembers."""
    try:
        noted = (work_dir / LAST_CHECKPOINT).read_text(encoding="utf-8").strip()
    except OSError:
        noted = ""
    return noted or (str(info["last_ckpt"]) if "last_ckpt" in info else None)


def evaluation_command(config: Path, checkpoint: str | None, work_dir: Path) -> str:
    """The command that evaluates a checkpoint on the test split; empty without a checkpoint."""
    if checkpoint is None:
        return ""
    words = ["python", "tools/test.py", config, checkpoint, "--split", "test"]
    return shlex.join(map(str, [*words, "--work-dir", work_dir / "test"]))


def format_summary(summary: Mapping[str, Any]) -> str:
    """A summary for people.

    Args:
        summary: Of :func:`summarize`.

    Returns:
        Lines of text.
    """
    done = f"{summary['iteration']} of {summary['iterations']} iterations"
    at = {FINISHED: f"finished, {done}", RUNNING: f"running, {done}"}
    reason = f": {summary['reason']}" if summary["reason"] else ""
    best, last = summary["best"], summary["last"]
    rows = {
        "training": at.get(summary["state"], f"stopped at {done}{reason}"),
        "best checkpoint": best["checkpoint"] if best else "none",
        "  FROC": _froc_text(best["froc"]) if best else "",
        "last checkpoint": last["checkpoint"] or "none",
        "  FROC, latest": _froc_text(last["froc"]),
        "time": _time_text(summary),
        "speed": _speed_text(summary),
        "memory": _memory_text(summary),
        "seed": str(summary["seed"]),
        "versions": ", ".join(f"{name} {text}" for name, text in summary["versions"].items()),
        "config": summary["config"],
        "log": summary["log_dir"],
        "curves": shlex.join(["tensorboard", "--logdir", f"{summary['work_dir']}/tensorboard"]),
        "overlays": str(Path(summary["work_dir"]) / OVERLAYS),
        "evaluate": summary["evaluate"] or "nothing to evaluate yet",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items() if text)


def _froc_text(froc: Mapping[str, float | None]) -> str:
    figures = [f"{name} {_figure(value)}" for name, value in froc.items()]
    return ", ".join(figures)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _time_text(summary: Mapping[str, Any]) -> str:
    sessions = f" in {summary['sessions']} sessions" if summary["sessions"] > 1 else ""
    share = f"{100 * summary['data_share']:.0f} % of the steps' time was waiting for data"
    return f"{duration(summary['seconds'])}{sessions}; {share}"


def _speed_text(summary: Mapping[str, Any]) -> str:
    processes = counted(summary["processes"], "process", "processes")
    return f"{summary['images_per_second']:.2f} images per second by {processes}"


def _memory_text(summary: Mapping[str, Any]) -> str:
    gpu = (
        f"GPU {summary['gpu_peak_mib'] / MIB_PER_GIB:.2f} GiB, " if summary["gpu_peak_mib"] else ""
    )
    return f"{gpu}RAM {summary['ram_peak_mib'] / MIB_PER_GIB:.2f} GiB, per process at most"


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def write_summary(runner: Any, state: str, reason: str = "") -> str:
    """Write ``summary.json`` and ``summary.txt`` into the work folder.

    Args:
        runner, state, reason: See :func:`summarize`.

    Returns:
        The text.
    """
    summary = summarize(runner, state, reason)
    text = format_summary(summary)
    write_json(Path(runner.work_dir) / JSON_FILE, summary, indent=1, allow_nan=False)
    with atomic_write(Path(runner.work_dir) / TEXT_FILE) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text


@HOOKS.register_module()
class SummaryHook(Hook):
    """Keeps the summary of a training up to date, and logs it at the end.

    It is written when training begins or goes on, after each validation, and at the end, so that a
    run that is killed leaves one too, of when it last was. See :func:`summarized` for the rest.
    """

    # After the hook that saves checkpoints.
    priority = "LOWEST"

    def before_train(self, runner: Any) -> None:
        """Write what is known before the first step."""
        if is_main_process():
            write_summary(runner, RUNNING)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write what a validation changed; outside a training there is nothing to sum up."""
        if is_main_process() and runner.message_hub.runtime_info.get("max_iters"):
            write_summary(runner, RUNNING)

    def after_train(self, runner: Any) -> None:
        """Write and log the end."""
        if is_main_process():
            state = FINISHED if runner.iter >= runner.max_iters else STOPPED
            runner.logger.info(f"Summary\n{write_summary(runner, state)}")


@contextmanager
def summarized(runner: Any) -> Iterator[None]:
    """Have a training that an error or a signal stops leave its summary, too.

    Args:
        runner: The Runner that trains inside.
    """
    try:
        yield
    except BaseException as error:
        # Where training had not begun there is nothing to sum up.
        if is_main_process() and runner.message_hub.runtime_info.get("max_iters"):
            reason = f"{type(error).__name__}: {error}".strip().rstrip(":").splitlines()[0]
            if isinstance(error, SystemExit):
                reason = f"asked to end, exit code {error.code}"
            runner.logger.info(f"Summary\n{write_summary(runner, STOPPED, reason)}")
        raise
