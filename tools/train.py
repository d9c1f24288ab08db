"""Train a detector."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from types import FrameType

REQUEUE = os.EX_TEMPFAIL
REQUEUE_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Set by torchrun in workers: how often it has started them again.
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
EXAMPLE = """example:
  CONFIG=configs/alignshift/mask-rcnn_alignshift-densenet121_3x2mm_20e_deeplesion.py
  python tools/train.py $CONFIG --data-root data/deeplesion --amp --auto-scale-lr --resume
exit codes: 0 trained, 1 error, 75 ended by SIGTERM or SIGUSR1 (start again with --resume),
130 ended by Ctrl-C; a checkpoint is written before 75 and 130 if an iteration was done
"""


def requeue_until_training_begins() -> None:
    """Have SIGTERM and SIGUSR1 end this process at once, by the code that scripts start again on.

    For as long as the training does not see to them itself: nothing is done yet that could be lost.
    A thread hears of them, too, for the main one may be waiting for other processes deep in C++,
    where Python does not handle signals.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        while number := os.read(reader, 1):
            if signal.getsignal(number[0]) is _requeue:
                os._exit(REQUEUE)

    for number in REQUEUE_SIGNALS:
        signal.signal(number, _requeue)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # What workers of dataloaders get is not meant for this process.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=listen, daemon=True).start()


def _requeue(number: int, frame: FrameType | None) -> None:
    os._exit(REQUEUE)


def heed_signals_as_usual() -> None:
    """Undo :func:`requeue_until_training_begins`, if it was called: training is over."""
    for number in REQUEUE_SIGNALS:
        if signal.getsignal(number) is _requeue:
            signal.signal(number, signal.SIG_DFL)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    # Takes a second, in which a signal may come.
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on exactly from this checkpoint, or if none is given from the latest whole one of "
        "the work dir, or begin where it has none",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision (bfloat16)")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size"
    )
    parser.add_argument("--data-root", help="folder of the data set (default: the config's)")
    parser.add_argument("--seed", type=int, help="random seed (default: the config's)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="override settings: key=value ..."
    )
    dry_run = (
        "try two steps, a validation and a resume; say how long all takes and what looks wrong"
    )
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    args = parser.parse_args(argv)
    if args.resume is None and int(os.environ.get(RESTARTS, "0")) > 0:
        args.resume = "auto"
    return args


def train(args: argparse.Namespace) -> None:
    """Train as the arguments say."""
    from deeplesion.engine import config, distributed, dry_run, tracking
    from deeplesion.engine.malloc import keep_freed_memory
    from deeplesion.engine.runner import CTRunner
    from deeplesion.engine.summary import summarized

    keep_freed_memory()
    cfg = config.load_config(args.config, args.cfg_options, args.data_root)
    config.set_work_dir(cfg, args.config, args.work_dir)
    config.check_data_root(cfg, ("train_dataloader", "val_dataloader"))
    cfg.launcher = args.launcher
    if args.seed is not None:
        cfg.randomness = {**cfg.get("randomness", {}), "seed": args.seed}
    if args.amp:
        config.use_amp(cfg)
    if args.auto_scale_lr:
        config.use_auto_scale_lr(cfg)
    tracking.set_trackers(cfg)
    if args.resume is not None:
        cfg.resume = args.resume
    with distributed.process_group(cfg):
        if args.dry_run:
            return dry_run.dry_run(cfg)
        runner = CTRunner.from_cfg(cfg)
        with summarized(runner):
            try:
                runner.train()
            finally:
                heed_signals_as_usual()


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    # Registers everything, which takes seconds: not before the command line is known to be right.
    from deeplesion.engine.cli import run_tool

    return run_tool(lambda: train(args))


if __name__ == "__main__":
    requeue_until_training_begins()
    raise SystemExit(main())
