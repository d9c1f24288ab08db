"""One log of a training's numbers, however often it was interrupted: ``scalars.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from deeplesion.io import atomic_write, sync_to_disk

SCALARS_FILE = "scalars.jsonl"
TRAINING, VALIDATION = "train/", "val/"


@HOOKS.register_module()
class ScalarsHook(Hook):
    """Writes ``WORK_DIR/scalars.jsonl``: a line of JSON for every iteration and validation.

    A line of an iteration has ``iter`` (iterations finished), ``epoch`` (the current one, from 1
    on) and ``train/...``: losses, learning rate, norm of the gradients, and seconds (``train/time``
    and ``train/data_time``). A line of a validation has ``val/...`` after so many iterations.

    A training that is resumed cuts the file back to where its checkpoint stood and goes on, so that
    it has every number once. One that begins anew puts the file of an earlier one aside.
    """

    # After all that is logged has been measured, before checkpoints are written.
    priority = "LOW"

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def before_train(self, runner: Runner) -> None:
        """Open the log.

        Args:
            runner: The runner.
        """
        if not is_main_process():
            return
        path = Path(runner.work_dir) / SCALARS_FILE
        if path.exists():
            if runner.iter:
                validated = getattr(runner.train_loop, "validated", None)
                cut_back(path, runner.iter, validated == runner.iter)
            else:
                path.replace(path.with_name(f"scalars_until_{runner.timestamp}.jsonl"))
        self._file = path.open("a", encoding="utf-8")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write the numbers of an iteration.

        Args:
            runner: The runner.
            batch_idx: Not used.
            data_batch: Not used.
            outputs: Not used.
        """
        if self._file is not None:
            histories = runner.message_hub.log_scalars
            numbers = {
                name: history.current()
                for name, history in histories.items()
                if name.startswith(TRAINING)
            }
            self._write(runner.iter + 1, runner.epoch + 1, numbers)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Write the numbers of a validation.

        Args:
            runner: The runner.
            metrics: Of the validation; what is no number is left out.
        """
        if self._file is not None:
            numbers = {VALIDATION + name: value for name, value in (metrics or {}).items()}
            self._write(runner.iter, max(runner.epoch, 1), numbers)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Have on the disk what a resumed training relies on.

        Args:
            runner: The runner.
            checkpoint: Not used.
        """
        if self._file is not None:
            sync_to_disk(Path(self._file.name))

    def after_train(self, runner: Runner) -> None:
        """Close the log.

        Args:
            runner: The runner.
        """
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, iteration: int, epoch: int, numbers: Mapping[str, Any]) -> None:
        plain = {
            name: value for name, raw in numbers.items() if (value := _number(raw)) is not None
        }
        line = json.dumps({"iter": iteration, "epoch": epoch, **plain})
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()


def cut_back(path: Path, iteration: int, validated: bool) -> None:
    """Remove what came after a checkpoint from a log, and a last line that is torn.

    Args:
        path: The log.
        iteration: Iterations that the checkpoint has behind it.
        validated: Whether the validation after them, too.
    """
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            behind = record["iter"] - (not _is_validation(record) or validated)
        except (ValueError, TypeError, KeyError):
            continue
        if behind < iteration:
            kept.append(line + "\n")
    with atomic_write(path, durable=True) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def read_scalars(path: str | Path) -> list[dict[str, float]]:
    """Read a log.

    Args:
        path: Of ``scalars.jsonl``.

    Returns:
        A dict of each iteration and validation, see :class:`ScalarsHook`.
    """
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _is_validation(record: Mapping[str, Any]) -> bool:
    return any(name.startswith(VALIDATION) for name in record)


def _number(value: Any) -> float | None:
    """A number of Python, exactly; ``None`` for what is none."""
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError):  # more than one
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
