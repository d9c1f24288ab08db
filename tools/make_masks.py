"""Make lesion masks by GrabCut from the boxes and RECIST diameters of DL_info.csv."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deeplesion.datasets.dl_info import SPLITS
from deeplesion.datasets.mask_files import EmptySplitError, MaskJob, make_masks
from deeplesion.datasets.workers import WorkerError
from deeplesion.engine.malloc import keep_freed_memory

EXIT_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/make_masks.py --data-root data/deeplesion --split train "
        "--workers 8. An interrupted run is taken up by the same command.",
    )
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder of DL_info.csv and Images_png"
    )
    parser.add_argument("--split", choices=[*SPLITS, "all"], required=True)
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write (default: masks_{split}.json in the data root); with --split all it "
        "must hold {split}",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--keep-noisy", action="store_true", help="make masks for Possibly_noisy rows too"
    )
    parser.add_argument(
        "--on-error",
        choices=["raise", "skip"],
        default="raise",
        help="what to do about a key slice that cannot be read or has malformed rows "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make masks again where they are made already, by the same settings and complete",
    )
    parser.add_argument(
        "--legacy",
        action="store_true",
        help="cut as the published code did, in its 8-bit image in which negative numbers wrap "
        "around, to compare with it; else in the slice's own window",
    )
    return parser


def run_split(data_root: Path, job: MaskJob, may_be_empty: bool) -> None:
    """Make the masks of one split and print what became of it."""
    try:
        summary = make_masks(data_root, job, progress=True)
    except EmptySplitError as error:
        if not may_be_empty:
            raise
        print(f"{job.split}: {error}")
        return
    print(f"{job.split}: {summary}")
    for complaint in summary.skipped:
        print(f"  skipped: {complaint}")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.out is not None and args.split == "all" and "{split}" not in str(args.out):
        parser.error("--out must hold {split} with --split all, such as masks_{split}.json")
    keep_freed_memory()
    try:
        for split in SPLITS if args.split == "all" else [args.split]:
            out = args.out and Path(str(args.out).replace("{split}", split))
            job = MaskJob(
                split,
                out,
                args.workers,
                args.seed,
                args.keep_noisy,
                args.on_error,
                args.overwrite,
                args.legacy,
            )
            run_split(args.data_root, job, may_be_empty=args.split == "all")
    except WorkerError as error:
        print(f"make_masks: {error}; the same command takes it up again", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"make_masks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make_masks: interrupted; the same command takes it up again", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
