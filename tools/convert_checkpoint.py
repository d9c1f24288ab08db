"""Turn a published checkpoint of AlignShift, TSM, A3D or 2.5D into one of this project, or back.

Beside OUT.pth a config OUT.py is written that gives the detections that the checkpoint always gave.
With --to-reference a converted file becomes the published one again, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import deeplesion  # noqa: F401  (registers everything)
from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.cli import check_targets, run_tool
from deeplesion.engine.config import UsageError
from deeplesion.legacy.checkpoint import restore_file
from deeplesion.legacy.conversion import Options, convert_file
from deeplesion.legacy.description import describe
from deeplesion.legacy.families import FAMILIES
from deeplesion.legacy.files import read_file, write_file

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXAMPLE = """example:
  python tools/convert_checkpoint.py published/epoch_20.pth weights/align.pth
  python tools/test.py weights/align.py weights/align.pth --data-root data/deeplesion
  python tools/convert_checkpoint.py weights/align.pth again.pth --to-reference
"""
UNSAFE_WARNING = (
    "warning: --unsafe runs whatever code {} holds, with your rights: go on only if you trust "
    "whoever wrote it"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="IN.pth", type=Path, help="checkpoint to convert")
    parser.add_argument("target", metavar="OUT.pth", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--operator",
        choices=list(FAMILIES),
        help="which network it is, where neither weights nor the config in the meta tell",
    )
    parser.add_argument(
        "--ignore-config",
        action="store_true",
        help="take the settings of the papers, not those of the config in the meta",
    )
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="read a file that is more than weights; runs code that it may hold",
    )
    parser.add_argument(
        "--to-reference", action="store_true", help="from a converted file to the published one"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> None:
    """Convert as the arguments say."""
    if args.target.suffix == ".py":
        raise UsageError(f"OUT.pth must not end in .py, got {args.target}")
    check_targets(args.source, [args.target], args.overwrite)
    written = [args.target]
    if not args.to_reference:
        written.append(args.target.with_suffix(".py"))
        check_targets(args.source, written[1:], args.overwrite)
    if args.unsafe:
        print(UNSAFE_WARNING.format(args.source), file=sys.stderr)
    if args.to_reference:
        try:
            content = restore_file(read_file(args.source, args.unsafe))
        except CheckpointError as error:
            raise CheckpointError(f"{args.source} cannot be converted back: {error}") from error
        write_file(args.target, content)
        print(f"{len(content.get('state_dict', content))} tensors as they were published")
    else:
        options = Options(CONFIGS, args.operator, args.unsafe, args.ignore_config)
        print(*describe(convert_file(args.source, args.target, options)), sep="\n")
    print(f"{' and '.join(map(str, written))} written")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    return run_tool(lambda: convert(args))


if __name__ == "__main__":
    raise SystemExit(main())
