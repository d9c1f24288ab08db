"""Pack the slices of a data set into a compact cache that loads many times faster than PNG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deeplesion.datasets.packing import pack_data_root, verify_cache
from deeplesion.datasets.workers import WorkerError
from deeplesion.engine.malloc import keep_freed_memory

EXIT_INTERRUPTED = 130
MAX_COMPLAINTS = 20


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/pack.py --data-root data/deeplesion --out "
        "data/deeplesion/packed --workers 8, then packed='packed' in the config of "
        "DeepLesionDataset. The same command takes an interrupted run up again, and brings a cache "
        "up to date when files have changed.",
    )
    parser.add_argument("--data-root", type=Path, help="folder of Images_png")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--on-error",
        choices=["raise", "skip"],
        default="raise",
        help="what to do about a slice that cannot be read: skip packs the others, as if it were "
        "not stored (default: %(default)s)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="instead of packing, decode every slice of the cache by its checksum, and, with "
        "--data-root, compare it with its file pixel by pixel",
    )
    return parser


def pack(args: argparse.Namespace) -> int:
    """Pack, and say what became of it; returns the exit code."""
    summary = pack_data_root(args.data_root, args.out, args.workers, args.on_error, progress=True)
    print(summary)
    for complaint in summary.skipped:
        print(f"  skipped: {complaint}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Verify, and say what is wrong; returns the exit code, 1 where something is."""
    slices, complaints = verify_cache(args.out, args.data_root, args.workers, progress=True)
    for complaint in complaints[:MAX_COMPLAINTS]:
        print(f"pack: {complaint}", file=sys.stderr)
    if len(complaints) > MAX_COMPLAINTS:
        print(f"pack: and {len(complaints) - MAX_COMPLAINTS} more", file=sys.stderr)
    against = "" if args.data_root is None else f" and against {args.data_root}"
    print(f"{slices} slices verified by checksum{against}: {len(complaints)} complaints")
    return 1 if complaints else 0


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.data_root is None and not args.verify:
        parser.error("--data-root is needed to pack")
    keep_freed_memory()
    try:
        return verify(args) if args.verify else pack(args)
    except WorkerError as error:
        print(f"pack: {error}; the same command takes it up again", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pack: interrupted; the same command takes it up again", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
