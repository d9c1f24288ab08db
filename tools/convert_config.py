"""Turn a config of the published AlignShift / A3D code (mmdetection 1.x) into one of this project.

Prints what became of each of its fields. Nothing in the old config is run, and nothing is written
where something that the network or its results depend on could not be mapped.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import deeplesion  # noqa: F401  (registers everything)
from deeplesion.engine.cli import check_targets, run_tool
from deeplesion.engine.config import UsageError
from deeplesion.io import atomic_write
from deeplesion.legacy.config import ConvertedConfig, convert_config, load_text
from deeplesion.legacy.config_text import ConfigTextError, read_config
from deeplesion.legacy.ledger import Status, format_table

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXAMPLE = """example:
  python tools/convert_config.py densenet_align.py align.py
  python tools/train.py align.py --data-root data/deeplesion
"""
COMMENT = """Converted from {} by tools/convert_config.py,
with the numerics of {}."""
NUMERICS = {True: "mmdetection 1.x (docs/parity.md)", False: "today"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="OLD.py", help="config of the published code, or .json")
    parser.add_argument("new", metavar="NEW.py", help="config to write")
    numerics = parser.add_mutually_exclusive_group()
    numerics.add_argument(
        "--legacy",
        action="store_true",
        help="keep the numerics of mmdetection 1.x, as published weights need (default)",
    )
    numerics.add_argument(
        "--modern", action="store_true", help="take the numerics of today, for new trainings"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace NEW.py")
    return parser.parse_args(argv)


def summary(converted: ConvertedConfig) -> str:
    """How many fields were mapped, dropped and not mapped."""
    numbers = Counter(outcome.status for outcome in converted.outcomes)
    return ", ".join(f"{numbers[status]} {status.value}" for status in Status)


def convert(args: argparse.Namespace) -> None:
    """Convert as the arguments say."""
    if Path(args.new).suffix != ".py":
        raise UsageError(f"NEW.py must end in .py, got {args.new}")
    check_targets(Path(args.old), [Path(args.new)], args.overwrite)
    try:
        old = read_config(args.old)
    except ConfigTextError as error:
        raise UsageError(str(error)) from error
    converted = convert_config(old, CONFIGS, legacy=not args.modern)
    print(*format_table(converted.outcomes), sep="\n")
    for line, text in old.ignored.items():
        print(f"line {line} is not run: {text}")
    print(f"{len(converted.outcomes)} fields: {summary(converted)}")
    if converted.failures:
        first = converted.failures[0]
        raise UsageError(
            f"{len(converted.failures)} essential fields (marked !) could not be mapped and "
            f"nothing was written, the first: {first.field}: {first.note}"
        )
    text = converted.text(COMMENT.format(Path(args.old).name, NUMERICS[not args.modern]))
    load_text(text)
    with atomic_write(args.new) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{args.new} written")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    return run_tool(lambda: convert(args))


if __name__ == "__main__":
    raise SystemExit(main())
