"""Find lesions in CT scans: DICOM, NIfTI, MetaImage, NRRD, or DeepLesion's PNG slices.

Each scan gets a folder in --out: lesions.json, lesions.csv, a label map, overlays, report.html and,
for DICOM, a structured report. Not a medical device.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import deeplesion  # noqa: F401  (registers everything)
from deeplesion.engine.cli import USER_ERRORS, plain_message, run_tool
from deeplesion.engine.config import UsageError
from deeplesion.engine.distributed import worker_group
from deeplesion.engine.malloc import keep_freed_memory
from deeplesion.inference import LesionDetector
from deeplesion.inference.folders import RUN_FILE, check_apart, check_replaceable
from deeplesion.inference.runs import (
    Outcome,
    fingerprint,
    folder_names,
    is_done,
    noting_left_out,
    summary,
)
from deeplesion.lesions.linking import SCORE_THRESHOLD
from deeplesion.scans import list_series

OPTIONAL = ("html", "overlays", "labels", "sr")
EXAMPLE = """example:
  python tools/detect.py patient1/CT patient2/CT.nii.gz --out findings \\
      --config work_dirs/alignshift/config.py --checkpoint work_dirs/alignshift/epoch_20.pth
  torchrun --nproc_per_node 2 tools/detect.py scans/*.nii.gz --out findings \\
      --config C --checkpoint K

exit codes:
  0  all scans are done, or were before
  1  a scan failed (the others are done), or an argument cannot be used
  2  the command line cannot be understood
  130  interrupted
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "scans", nargs="+", type=Path, metavar="SCAN",
        help="a file, or a folder of DICOM files or PNG slices",
    )  # fmt: skip
    parser.add_argument("--config", help="config file of the detector")
    parser.add_argument("--checkpoint", help="checkpoint of the detector")
    parser.add_argument("--out", type=Path, help="folder in which each scan gets its own")
    _add_reading(parser)
    _add_looking(parser)
    _add_writing(parser)
    args = parser.parse_args(argv)
    needed = ("config", "checkpoint", "out")
    missing = [f"--{name}" for name in needed if getattr(args, name) is None]
    if missing and not args.list_series:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return args


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading")
    group.add_argument("--one-scan", action="store_true", help="all SCANs are files of one scan")
    group.add_argument("--list-series", action="store_true", help="list DICOM series, and end")
    group.add_argument(
        "--series", help="DICOM series: UID, its beginning, or number (default: the one of most "
        "axial slices)",
    )  # fmt: skip
    group.add_argument(
        "--spacing", nargs=3, type=float, metavar=("X", "Y", "Z"),
        help="of PNG slices in mm: pixels and slice interval (default: DL_info.csv above them)",
    )  # fmt: skip
    group.add_argument("--no-hu-check", action="store_true", help="take what does not look like HU")


def _add_looking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("looking")
    group.add_argument(
        "--stride", type=float, metavar="MM", help="a key slice every so many mm (default: all)"
    )
    group.add_argument(
        "--slices", type=slice_range, metavar="A:B",
        help="key slices A to B - 1 only, from 0 at the head",
    )  # fmt: skip
    group.add_argument(
        "--score-threshold", type=float, default=SCORE_THRESHOLD,
        help=f"least score of a lesion (default: {SCORE_THRESHOLD})",
    )  # fmt: skip
    group.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    group.add_argument("--amp", action="store_true", help="compute in mixed precision")
    group.add_argument(
        "--tta", nargs="*", metavar="VIEW",
        help="see every key slice flipped, too, and fuse: horizontal (alone by default), vertical, "
        "diagonal, slices (their order reversed); twice the time for one view",
    )  # fmt: skip
    group.add_argument(
        "--batch-size", type=int, help="key slices at once (default: what memory allows)"
    )


def _add_writing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("writing")
    for name in OPTIONAL:
        group.add_argument(f"--no-{name}", action="store_true", help=f"do not write {name}")
    group.add_argument(
        "--with-identity", action="store_true",
        help="write who the patient is into lesions.json and report.html",
    )  # fmt: skip
    group.add_argument(
        "--overwrite", action="store_true", help="do again, and replace, what is done"
    )


def slice_range(text: str) -> slice:
    """A range of slices from ``A:B``, ``A:`` or ``:B``."""
    match = re.fullmatch(r"(-?\d+)?:(-?\d+)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"slices must be A:B, such as 40:80, got {text!r}")
    first, last = (None if end is None else int(end) for end in match.groups())
    return slice(first, last)


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written to, before anything is computed."""
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise UsageError(f"--out {out} cannot be a folder: {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be written: no right to write to {above}")


def run_settings(args: argparse.Namespace, detector: LesionDetector) -> dict[str, Any]:
    """All that decides what is in a scan's folder."""
    names = ["series", "spacing", "no_hu_check", "stride", "slices", "score_threshold", "amp"]
    names += ["tta", "with_identity", *(f"no_{name}" for name in OPTIONAL)]
    return {**{name: str(getattr(args, name)) for name in names}, **detector.card.as_dict()}


def detect_one(
    detector: LesionDetector, source: Path | Sequence[Path], folder: Path, args: argparse.Namespace
) -> Outcome:
    """Look at one scan, unless that is done."""
    start = time.perf_counter()
    first = source if isinstance(source, Path) else source[0]
    if not first.exists():
        raise UsageError(f"{first} does not exist")
    mark = fingerprint(source, run_settings(args, detector))
    if args.overwrite:
        check_replaceable(folder)
    elif folder.exists():
        if is_done(folder, mark):
            return Outcome(folder, "skipped")
        raise UsageError(
            f"{folder} exists, of other settings or of another scan: give --overwrite to replace "
            "it, or another --out"
        )
    findings = detector.detect(
        source,
        args.slices,
        args.stride,
        series=args.series,
        spacing=args.spacing and tuple(args.spacing),
        check_hu=not args.no_hu_check,
        progress=int(os.environ.get("RANK", "0")) == 0,
    )
    with noting_left_out() as left_out:
        findings.save(
            folder,
            without=tuple(name for name in OPTIONAL if getattr(args, f"no_{name}")),
            with_identity=args.with_identity,
            overwrite=args.overwrite,
            extra={RUN_FILE: {"fingerprint": mark}},
        )
    return Outcome.of(findings, folder, time.perf_counter() - start, left_out)


def detect_safely(
    detector: LesionDetector, source: Path | Sequence[Path], folder: Path, args: argparse.Namespace
) -> Outcome:
    """Look at one scan; whatever is wrong with it must not keep others from being done."""
    try:
        return detect_one(detector, source, folder, args)
    except (*USER_ERRORS, OSError) as error:
        return Outcome(folder, "failed", plain_message(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(folder, "failed", f"{type(error).__name__}: {error}")


def detect(args: argparse.Namespace) -> None:
    """Look at all scans, each process at its share."""
    sources: list[Path | list[Path]] = [args.scans] if args.one_scan else list(args.scans)
    check_out(args.out)
    keep_freed_memory()
    firsts = [source if isinstance(source, Path) else source[0].parent for source in sources]
    folders = [args.out / name for name in folder_names(firsts)]
    for folder in folders:
        check_apart(folder, args.scans)
    with worker_group() as (rank, processes):
        detector = LesionDetector(
            args.config,
            args.checkpoint,
            args.device or _own_gpu(),
            amp=args.amp,
            batch_size=args.batch_size,
            score_threshold=args.score_threshold,
            tta=args.tta is not None and (args.tta or True),
        )
        share = list(zip(sources, folders, strict=True))[rank::processes]
        outcomes = [detect_safely(detector, source, folder, args) for source, folder in share]
        gathered = gather(outcomes, processes)
    if rank:
        return  # the first process says what came of all
    print(summary(gathered))
    failed = [outcome for outcome in gathered if outcome.status == "failed"]
    if failed:
        raise UsageError(_failure_text(failed, len(gathered)))


def gather(outcomes: list[Outcome], processes: int) -> list[Outcome]:
    """Outcomes of all processes, in the order in which the scans were given."""
    if processes == 1:
        return outcomes
    shares: list[Any] = [None] * processes
    dist.all_gather_object(shares, outcomes)
    longest = max(map(len, shares))
    return [share[i] for i in range(longest) for share in shares if i < len(share)]


def _failure_text(failed: Sequence[Outcome], total: int) -> str:
    if total == 1:
        return failed[0].message
    lines = [f"  {outcome.folder.name}: {outcome.message}" for outcome in failed]
    return "\n".join([f"{len(failed)} of {total} scans failed:", *lines])


def _own_gpu() -> str | None:
    """The GPU of this process of torchrun; None lets the detector choose."""
    if "LOCAL_RANK" not in os.environ or not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"


def show_series(args: argparse.Namespace) -> None:
    """List the DICOM series of each scan."""
    for source in args.scans:
        for series in list_series(source):
            print(f"{source}: {series}")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    return run_tool(lambda: show_series(args) if args.list_series else detect(args))


if __name__ == "__main__":
    sys.exit(main())
