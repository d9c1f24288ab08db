"""Evaluate a checkpoint by FROC: froc.json, froc.png, predictions.json and overlays."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import DictAction

EXAMPLE = """example:
  CONFIG=configs/alignshift/mask-rcnn_alignshift-densenet121_3x2mm_20e_deeplesion.py
  python tools/test.py $CONFIG work_dirs/alignshift/best_froc_mean_epoch_20.pth \\
      --data-root data/deeplesion --show-dir overlays
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--work-dir", help="folder of the results (default: work_dirs/CONFIG/SPLIT)"
    )
    parser.add_argument("--split", choices=["train", "val", "test"], help="split (default: test)")
    parser.add_argument("--data-root", help="folder of the data set (default: the config's)")
    parser.add_argument("--show-dir", help="write overlays of predictions and ground truth here")
    parser.add_argument(
        "--show-score-thr", type=float, default=0.3, help="lowest score that overlays show"
    )
    parser.add_argument(
        "--show-max", type=int, help="write at most this many overlays (default: all)"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write WORK_DIR/report: intervals, strata, worst misses, report.html",
    )
    parser.add_argument("--amp", action="store_true", help="evaluate in mixed precision")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="override settings: key=value ..."
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    return parser.parse_args(argv)


def test(args: argparse.Namespace) -> None:
    """Evaluate as the arguments say."""
    from mmengine.dist import is_main_process

    from deeplesion.engine import config, distributed
    from deeplesion.engine.evaluation_report import report_sources, write_test_report
    from deeplesion.engine.runner import CTRunner
    from deeplesion.inference.memory import keep_freed_memory

    keep_freed_memory()
    cfg = config.load_config(args.config, args.cfg_options, args.data_root)
    if args.split is not None:
        config.set_test_split(cfg, args.split)
    config.set_work_dir(cfg, args.config, args.work_dir, config.test_split_of(cfg))
    config.check_data_root(cfg, ("test_dataloader",))
    config.check_checkpoint(args.checkpoint)
    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    if args.amp:
        config.use_test_amp(cfg)
    config.set_result_files(cfg, Path(cfg.work_dir))
    if args.report:
        report_sources(cfg)
    if args.show_dir is not None:
        config.add_overlays(cfg, args.show_dir, args.show_score_thr, args.show_max)
    with distributed.process_group(cfg):
        CTRunner.from_cfg(cfg).test()
        if is_main_process():
            if args.report:
                write_test_report(cfg, Path(cfg.work_dir) / "report")
            print(f"results are in {cfg.work_dir}: froc.json, froc.png, predictions.json")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    # Registers everything, which takes seconds: not before the command line is known to be right.
    from deeplesion.engine.cli import run_tool

    return run_tool(lambda: test(args))


if __name__ == "__main__":
    raise SystemExit(main())
