"""Evaluate a checkpoint, or several as one, by FROC.

Writes froc.json, froc.png, predictions.json and, where asked for, a report and overlays. Of several
checkpoints the boxes are fused (weighted box fusion); each has its own results in a folder below.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config, DictAction

if TYPE_CHECKING:
    from deeplesion.engine.ensemble import Member

EXAMPLE = """example:
  CONFIG=configs/alignshift/mask-rcnn_alignshift-densenet121_3x2mm_20e_deeplesion.py
  python tools/test.py $CONFIG work_dirs/alignshift/best_froc_mean_epoch_20.pth \\
      --data-root data/deeplesion --show-dir overlays

  # flipped views, too, and two checkpoints as one; a third of another config, a fourth finished
  python tools/test.py $CONFIG a.pth b.pth other_config.py:c.pth done/predictions.json --tta
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint",
        nargs="+",
        help="checkpoint; several (CHECKPOINT, CONFIG:CHECKPOINT or a finished predictions.json) "
        "are evaluated one by one and fused",
    )
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
    add_fusion_options(parser)
    parser.add_argument("--amp", action="store_true", help="evaluate in mixed precision")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="override settings: key=value ..."
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    return parser.parse_args(argv)


def add_fusion_options(parser: argparse.ArgumentParser) -> None:
    """Options of flipped views and of several checkpoints."""
    parser.add_argument(
        "--tta",
        nargs="*",
        metavar="VIEW",
        help="see every image flipped, too, and fuse: horizontal (alone by default), vertical, "
        "diagonal, slices (their order reversed)",
    )
    parser.add_argument(
        "--fusion-iou",
        type=float,
        default=0.55,
        help="boxes fuse if their IoU is more than this (default: 0.55)",
    )
    parser.add_argument(
        "--fusion-weights", type=float, nargs="+", help="how much each checkpoint counts"
    )


def read(args: argparse.Namespace, path: str) -> Config:
    """A config as the arguments change it."""
    from deeplesion.engine import config, tracking
    from deeplesion.engine.flip_views import DEFAULT_VIEWS, use_views

    cfg = config.load_config(path, args.cfg_options, args.data_root)
    tracking.leave_trackers(cfg)
    if args.split is not None:
        config.set_test_split(cfg, args.split)
    config.set_work_dir(cfg, args.config, args.work_dir, config.test_split_of(cfg))
    config.check_data_root(cfg, ("test_dataloader",))
    cfg.launcher = args.launcher
    if args.amp:
        config.use_test_amp(cfg)
    if args.tta is not None:
        use_views(cfg, args.tta or DEFAULT_VIEWS)
        cfg.test_cfg.iou_threshold = args.fusion_iou
    return cfg


def test(args: argparse.Namespace) -> None:
    """Evaluate as the arguments say."""
    from mmengine.dist import is_main_process

    from deeplesion.engine import config, distributed, ensemble
    from deeplesion.engine.evaluation_report import report_sources, write_test_report
    from deeplesion.engine.malloc import keep_freed_memory

    keep_freed_memory()
    members = ensemble.parse_members(args.config, args.checkpoint)
    cfg = read(args, members[0].config if len(members) == 1 else args.config)
    folder = Path(cfg.work_dir)
    cfg.load_from = members[0].source
    config.set_result_files(cfg, folder)
    if args.report:
        report_sources(cfg)
    with distributed.process_group(cfg):
        if len(members) == 1:
            if args.show_dir is not None:
                config.add_overlays(cfg, args.show_dir, args.show_score_thr, args.show_max)
            ensemble.run_test(cfg)
        else:
            fuse(args, cfg, members)
        if is_main_process():
            if args.report:
                write_test_report(cfg, folder / "report")
            print(f"results are in {cfg.work_dir}: froc.json, froc.png, predictions.json")


def fuse(args: argparse.Namespace, cfg: Config, members: list[Member]) -> None:
    """Evaluate several checkpoints, then their fusion."""
    from mmengine.dist import is_main_process

    from deeplesion.engine import ensemble

    cfgs = [read(args, member.config) for member in members]
    ensemble.check_ensemble(members, cfg, cfgs)
    files = ensemble.evaluate_members(members, cfgs, Path(cfg.work_dir))
    if is_main_process():
        ensemble.score_ensemble(cfg, files, args.fusion_weights, args.fusion_iou)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    from deeplesion.engine.config import UsageError

    number = len(args.checkpoint)
    if number > 1 and args.show_dir is not None:
        raise UsageError("--show-dir shows one checkpoint: give one, or look at --report")
    if args.fusion_weights is not None and len(args.fusion_weights) != number:
        raise UsageError(
            f"--fusion-weights must be one number for each of {number} checkpoints, got "
            f"{len(args.fusion_weights)}"
        )
    for weight in args.fusion_weights or ():
        if not 0 < weight < float("inf"):
            raise UsageError(f"--fusion-weights must be > 0, got {weight:g}")
    if not 0 <= args.fusion_iou < 1:
        raise UsageError(f"--fusion-iou must be in [0, 1), got {args.fusion_iou:g}")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    # Registers everything, which takes seconds: not before the command line is known to be right.
    from deeplesion.engine.cli import run_tool

    def run() -> None:
        check_arguments(args)
        test(args)

    return run_tool(run)


if __name__ == "__main__":
    raise SystemExit(main())
