"""Score predictions by FROC with intervals, strata, comparisons, pictures, and one HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from deeplesion.datasets.dl_info import INFO_FILE
from deeplesion.datasets.lesion_record import SPLITS, DataError
from deeplesion.engine.cli import run_tool
from deeplesion.engine.config import UsageError
from deeplesion.evaluation.analysis import Analysis, Settings, analyze
from deeplesion.evaluation.analysis_files import (
    GALLERY,
    comparable_references,
    stored_slices,
    write_analysis,
)
from deeplesion.evaluation.analysis_page import notes_of, provenance_of
from deeplesion.evaluation.bootstrap import LEVEL, REPLICATES, SEED
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.froc import REPORT_FPS
from deeplesion.evaluation.ground_truth import read_cases
from deeplesion.evaluation.overlaps import CRITERIA
from deeplesion.evaluation.predictions import Predictions, UnknownImages, read_predictions
from deeplesion.evaluation.strata import MEASURES
from deeplesion.evaluation.tables import results_table, to_markdown

EXAMPLE = """example:
  python tools/analyze.py tsm=runs/tsm/predictions.json align=runs/align/predictions.json \\
      --data-root data/deeplesion --split test --out work_dirs/report
Open work_dirs/report/report.html in a browser; it needs no server and no network.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "predictions",
        nargs="+",
        metavar="[NAME=]FILE",
        help="predictions.json of tools/test.py, or COCO results in JSON; others are compared with "
        "the first",
    )
    parser.add_argument("--data-root", type=Path, help="folder of DL_info.csv and the slices")
    parser.add_argument(
        "--ann-file",
        type=Path,
        help="ground truth: DL_info.csv, or JSON of key slices or in COCO's layout (default: "
        "DL_info.csv in the data root)",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument(
        "--ignore-unknown",
        action="store_true",
        help="leave out predictions for images that the split does not have, instead of refusing",
    )
    _add_protocol(parser.add_argument_group("protocol"))
    _add_report(parser.add_argument_group("report"))
    return parser.parse_args(argv)


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--criterion",
        choices=list(CRITERIA),
        default="iou",
        help="when a box hits a lesion (default: %(default)s)",
    )
    group.add_argument(
        "--threshold", type=float, default=0.5, help="of the criterion (default: %(default)s)"
    )
    group.add_argument(
        "--one-to-one", action="store_true", help="count duplicates as false positives"
    )
    group.add_argument(
        "--fps",
        type=float,
        nargs="+",
        default=REPORT_FPS,
        help="false positives per image (default: 0.5 1 2 4 8 16)",
    )
    group.add_argument(
        "--replicates", type=int, default=REPLICATES, help="draws (default: %(default)s)"
    )
    group.add_argument(
        "--level", type=float, default=LEVEL, help="of the intervals (default: %(default)s)"
    )
    group.add_argument("--seed", type=int, default=SEED, help="of the draws (default: %(default)s)")
    group.add_argument(
        "--edges",
        nargs="+",
        default=[],
        metavar="KIND=A,B",
        help=f"other edges of strata, for {', '.join(MEASURES)}; such as long_axis=5,20",
    )


def _add_report(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--gallery",
        type=int,
        default=GALLERY,
        help="pictures of misses, and of false positives, of each detector (default: %(default)s)",
    )
    group.add_argument(
        "--no-references",
        action="store_true",
        help="leave out the published results, which are there on the test split by the official "
        "protocol",
    )


def edges_of(texts: Sequence[str]) -> dict[str, list[float]]:
    """Edges by kind, of texts such as ``long_axis=5,20``; UsageError where one is malformed."""
    edges = {}
    for text in texts:
        kind, _, numbers = text.partition("=")
        try:
            edges[kind] = [float(number) for number in numbers.split(",")]
        except ValueError as error:
            raise UsageError(f"--edges must be such as long_axis=5,20, got {text!r}") from error
    return edges


def read_all(
    texts: Sequence[str], cases: Sequence[Case], ignore_unknown: bool
) -> list[Predictions]:
    """Read every file of ``[NAME=]FILE``."""
    unknown: UnknownImages = "ignore" if ignore_unknown else "error"
    found = []
    for text in texts:
        name, equals, path = text.partition("=")
        # A file whose name has the sign is meant as it is.
        named = bool(equals) and not Path(text).is_file()
        path = path if named else text
        if not Path(path).is_file():
            raise FileNotFoundError(f"predictions {path} are not there")
        found.append(read_predictions(path, cases, name if named else None, unknown))
    return found


def run(args: argparse.Namespace) -> None:
    """Write the report as the arguments say."""
    if args.ann_file is None and args.data_root is None:
        raise UsageError("give --data-root, or --ann-file for annotations without slices")
    if args.gallery < 0:
        raise UsageError(f"--gallery must be 0 or more, got {args.gallery}")
    ann_file = args.ann_file or args.data_root / INFO_FILE
    if not ann_file.is_file():
        raise FileNotFoundError(f"ground truth {ann_file} is not there: see --ann-file")
    settings = Settings(
        criterion=args.criterion,
        threshold=args.threshold,
        one_to_one=args.one_to_one,
        fps=tuple(args.fps),
        replicates=args.replicates,
        level=args.level,
        seed=args.seed,
        edges=edges_of(args.edges),
    )
    number = len(args.predictions)
    # Reading, each detector, comparing, tables and plots, the page.
    with tqdm(total=number + (number > 1) + 3, desc="reading", unit="step", leave=False) as bar:

        def progress(step: str) -> None:
            bar.update()
            bar.set_description(step)

        cases = read_cases(ann_file, args.split)
        predictions = read_all(args.predictions, cases, args.ignore_unknown)
        analysis = scored(cases, predictions, settings, progress)
        write_analysis(
            analysis,
            args.out,
            provenance_of(analysis, ann_file.name, args.split),
            image_root=stored_slices(args.data_root) if args.gallery else None,
            references=[] if args.no_references else comparable_references(settings, args.split),
            gallery=args.gallery,
            progress=progress,
        )
        bar.update()
    tell(analysis, args.out)


def scored(
    cases: Sequence[Case],
    predictions: Sequence[Predictions],
    settings: Settings,
    progress: Callable[[str], None],
) -> Analysis:
    """The figures; UsageError where a setting is out of its range."""
    try:
        return analyze(cases, predictions, settings, progress)
    except DataError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def tell(analysis: Analysis, folder: Path) -> None:
    """Print the main table, the notes, and where the report is."""
    print(to_markdown(results_table(analysis.results)).rstrip())
    for note in notes_of(analysis):
        print(f"note: {note}", file=sys.stderr)
    print(f"\nreport is in {folder}: report.html, summary.md, summary.json, plots, gallery")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    return run_tool(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
