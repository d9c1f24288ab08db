"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import tensor

from deeplesion.engine.checkpoint_files import LAST_CHECKPOINT
from deeplesion.engine.preemption import Preempted, StopSignals
from deeplesion.engine.resuming import RANK_STATE
from deeplesion.io import atomic_write

INTERIM = "interim_iter_{}.pth"
INTERIM_FILES = "interim_iter_*.pth"
# The newest, and the one to go on from should that be torn.
CHECKPOINTS_TO_RELY_ON = 2
SECONDS_PER_MINUTE = 60


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's hook, with interim checkpoints in between, and none lost.

    An old checkpoint, or best one, is removed when the new one is on the disk, not before. Interim
    checkpoints (``interim_iter_{}.pth``) are written every so often, before a validation (which so
    loses nothing when it is interrupted), and when a signal asks the training to end; each is
    removed as soon as two newer checkpoints are there. With several processes the clock of the
    first decides.

    Args:
        *args: See :class:`mmengine.hooks.CheckpointHook`.
        every_minutes: Write an interim checkpoint when none was written for so long; ``None``
            for never.
        every_iters: The same, after so many iterations.
        **kwargs: See :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: ``every_minutes`` or ``every_iters`` is not positive.
    """

    def __init__(
        self,
        *args: Any,
        every_minutes: float | None = None,
        every_iters: int | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in {"every_minutes": every_minutes, "every_iters": every_iters}.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0 or None, got {value!r}")
        super().__init__(*args, **kwargs)
        self.every_minutes, self.every_iters = every_minutes, every_iters
        self._written_iter = 0
        self._written_time = 0.0
        self._val_batches = 0
        self._exit_code, self._due = 0, False
        self._outdated_best: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        """Take up where the checkpoint stood.

        Args:
            runner: The runner.

        Raises:
            Preempted: A signal came before the first iteration.
        """
        super().before_train(runner)
        self._written_iter, self._written_time = runner.iter, time.monotonic()
        if runner.iter:
            self.last_ckpt = getattr(runner, "resumed_from", None)
            self._disown_foreign_best(runner)
        self.at_rest(runner)

    def before_val(self, runner: Runner) -> None:
        """Write down where the validation began.

        Args:
            runner: The runner.
        """
        if not _is_training(runner):
            return
        if runner.iter != self._written_iter:
            self._write_interim(runner)
        batches = tensor(len(runner.val_dataloader))
        all_reduce(batches, "min")
        self._val_batches = int(batches)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """End where a signal asks for it.

        Args:
            runner: The runner.
            batch_idx: Number of the batch.
            data_batch: Not used.
            outputs: Not used.

        Raises:
            Preempted: The processes agree to end.
        """
        # The last process to have a batch would wait for the others.
        if _is_training(runner) and batch_idx < self._val_batches:
            exit_code, _ = _signals(runner).agreed()
            self._end(runner, exit_code)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Keep the best checkpoint.

        Args:
            runner: The runner.
            metrics: Of the validation.
        """
        if _is_training(runner):
            runner.train_loop.validated = runner.iter
            super().after_val_epoch(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add what other processes have of their own.

        Args:
            runner: The runner.
            checkpoint: Changed in place.
        """
        if (states := getattr(runner, "rank_state", None)) is not None:
            checkpoint[RANK_STATE] = states

    def at_rest(self, runner: Runner) -> None:
        """Between two iterations: write an interim checkpoint or end, where it is time.

        Args:
            runner: The runner.

        Raises:
            Preempted: The processes agree to end.
        """
        exit_code, due = _signals(runner).agreed(self._is_due(runner))
        self._exit_code, self._due = self._exit_code or exit_code, self._due or due
        if runner.iter != self._written_iter:
            if not runner.optim_wrapper.should_update():
                return  # in a little while no gradients that are being accumulated must be kept
            if self._due or self._exit_code:
                self._write_interim(runner)
        self._end(runner, self._exit_code)

    def _is_due(self, runner: Runner) -> bool:
        if self.every_iters and runner.iter - self._written_iter >= self.every_iters:
            return True
        minutes = (time.monotonic() - self._written_time) / SECONDS_PER_MINUTE
        return bool(self.every_minutes and is_main_process() and minutes >= self.every_minutes)

    def _end(self, runner: Runner, exit_code: int) -> None:
        if not exit_code:
            return
        saved = f"{self.last_ckpt} is written" if self.last_ckpt else "nothing was done yet"
        runner.logger.info(
            f"Ended by a signal after {runner.iter} iterations; {saved}. Go on with the same "
            f"command and --resume"
        )
        barrier()  # launchers kill the others, the one that writes included, when one has ended
        raise Preempted(exit_code)

    def _write_interim(self, runner: Runner) -> None:
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        self._write(runner, INTERIM.format(runner.iter), meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Write a checkpoint and then remove the one that is too many."""
        self._drop_outdated_best()
        outdated = None
        if self.max_keep_ckpts > 0:
            ids = self.keep_ckpt_ids
            if not ids or ids[-1] != step:
                outdated = ids.popleft() if len(ids) == self.max_keep_ckpts else None
                ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(ids))
        self._write(runner, self.filename_tmpl.format(step), meta)
        if outdated is not None and is_main_process():
            self._remove(str(Path(self.out_dir) / self.filename_tmpl.format(outdated)))

    def _write(self, runner: Runner, filename: str, meta: dict[str, Any]) -> None:
        """Write a checkpoint and the pointer to it, and clear interim ones away."""
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._written_iter, self._written_time = meta["iter"], time.monotonic()
        self._due = False
        if is_main_process():
            with atomic_write(Path(runner.work_dir) / LAST_CHECKPOINT, durable=True) as temporary:
                temporary.write_text(self.last_ckpt, encoding="utf-8")
            self._clear_interim()

    def _clear_interim(self) -> None:
        """Remove interim checkpoints that two newer ones stand in for."""
        files = [*Path(self.out_dir).glob("*.pth")]
        whole = [file for file in files if not file.name.startswith((".", "best_"))]
        whole.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in whole[CHECKPOINTS_TO_RELY_ON:]:
            if file.match(INTERIM_FILES):
                file.unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Write better checkpoints and then remove those that were the best before."""
        # mmengine removes what it knows of before it writes.
        self._outdated_best = {name: path for name, path in self._best().items() if path}
        for name in self._outdated_best:
            self._set_best(name, None)
        super()._save_best_checkpoint(runner, metrics)
        for name, path in self._outdated_best.items():
            if self._best()[name] is None:
                self._set_best(name, path)
        self._drop_outdated_best()

    def _drop_outdated_best(self) -> None:
        """Remove what is the best no more; before another checkpoint tells which the best is.

        So an interruption leaves none behind: whoever goes on validates and removes it again.
        """
        outdated, self._outdated_best = self._outdated_best, {}
        for name, path in outdated.items():
            if path != self._best()[name] and is_main_process():
                self._remove(path)

    def _best(self) -> dict[str, str | None]:
        """The best checkpoint by each metric; a single metric has no name here."""
        several = getattr(self, "best_ckpt_path_dict", None)
        return several or {"": getattr(self, "best_ckpt_path", None)}

    def _set_best(self, name: str, path: str | None) -> None:
        if name:
            self.best_ckpt_path_dict[name] = path
        else:
            self.best_ckpt_path = path

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _disown_foreign_best(self, runner: Runner) -> None:
        """Leave the best checkpoint of another folder, from which was resumed, where it is."""
        here = Path(self.out_dir).resolve()
        for name, best in self._best().items():
            if best is not None and Path(best).parent.resolve() != here:
                self._set_best(name, None)
                runner.logger.info(f"The best checkpoint so far stays where it is: {best}")


def _is_training(runner: Runner) -> bool:
    """Whether a validation is part of a training."""
    return hasattr(runner.optim_wrapper, "should_update")


def _signals(runner: Runner) -> StopSignals:
    """Of this package's runner; others note none."""
    return getattr(runner, "stop_signals", None) or StopSignals()
