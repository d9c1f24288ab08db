"""Write a phantom data set in DeepLesion's format: finding its lesions takes neighboring slices."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from deeplesion.datasets.synthetic.generate import SyntheticConfig, make_synthetic
from deeplesion.datasets.workers import WorkerError


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/make_synthetic.py --out data/synthetic --workers 2",
    )
    defaults = SyntheticConfig()
    parser.add_argument("--out", type=Path, required=True, help="folder to write, empty or new")
    parser.add_argument(
        "--patients", type=int, default=defaults.patients, help="default: %(default)s"
    )
    parser.add_argument(
        "--size", type=int, default=defaults.size, help="image size in px (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier synthetic data set"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = build_parser().parse_args(argv)
    start = time.monotonic()
    try:
        config = SyntheticConfig(args.patients, args.size, args.seed)
        summary = make_synthetic(args.out, config, args.workers, args.overwrite, progress=True)
    except (ValueError, OSError, WorkerError) as error:
        print(f"make_synthetic: {error}", file=sys.stderr)
        return 1
    print(summary)
    print(f"{args.out} written in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
