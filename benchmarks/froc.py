"""What the official FROC costs: time and memory, against a loop over boxes.

Both score the same random boxes, as many as a detector gives on DeepLesion's test split: 4,817
images, 50 boxes each, one lesion an image or two. They are timed from the same arrays in memory to
the figures that are reported, taking turns; that all give the same curve and figures, to the last
bit, is checked first. Times are medians over rounds, with quartiles.

The loop (`benchmarks/baseline/froc.py`) computes the overlaps of a box with the lesions of its
image in numpy, as the published scorers do. For one lesion plain numbers are faster: that loop is
measured too, on lists made of the arrays before the clock starts.

Memory is the peak of what Python and numpy allocate while it runs (tracemalloc), at the given
number of images and at twice as many: linear in boxes, it doubles. Last, one round at 100,000
images, and one of intervals: matching and 1,000 draws of patients, for the whole set, 30 strata of
lesions, and 3 of images as sets of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks import measuring, operators  # noqa: E402
from benchmarks.baseline import froc as textbook_froc  # noqa: E402
from benchmarks.baseline.froc import ious_of_arrays, ious_of_numbers  # noqa: E402
from deeplesion.evaluation.bootstrap import BAND_FPS, BootstrapResult, bootstrap  # noqa: E402
from deeplesion.evaluation.froc import REPORT_FPS, froc_curve, sensitivity_at  # noqa: E402
from deeplesion.evaluation.matching import match_detections  # noqa: E402
from deeplesion.io import atomic_write, write_json  # noqa: E402

Boxes = list[NDArray[np.float64]]

TEST_IMAGES, BOXES_PER_IMAGE, MANY_IMAGES = 4817, 50, 100_000
# Lesions beyond the first: 4,912 on the 4,817 key slices of the test split.
SECOND_LESION = 95 / 4817
SLICE_PX = 512
NEAR_SHARE, NEAR_PX = 0.1, 5.0
BAR_SECONDS, BAR_SPEEDUP, BAR_MANY_SECONDS, BAR_GROWTH = 0.1, 50.0, 5.0, 2.1
# 4,817 test images are of some 700 patients.
IMAGES_PER_PATIENT, LESION_STRATA, IMAGE_STRATA, BAR_INTERVAL_SECONDS = 7, 30, 3, 20.0
MEGABYTE = 1e6
EXAMPLE = """example:
  python benchmarks/froc.py --out work_dirs/froc
"""


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    images: int = TEST_IMAGES
    boxes: int = BOXES_PER_IMAGE
    many_images: int = MANY_IMAGES
    repeat: int = 15
    seed: int = 0


class Result(NamedTuple):
    """Figures of a run.

    Attributes:
        seconds: Of ours, of each round.
        loop_seconds: Of the loop over boxes, likewise.
        plain_seconds: Of the loop in plain numbers, likewise.
        bytes_at_peak: Of ours, at once and twice the images.
        many_seconds: Of ours, at many images.
        interval_seconds: Of intervals.
    """

    seconds: list[float]
    loop_seconds: list[float]
    plain_seconds: list[float]
    bytes_at_peak: list[int]
    many_seconds: float
    interval_seconds: float


def make_boxes(images: int, boxes: int, seed: int) -> tuple[Boxes, Boxes]:
    """Random detections ``(boxes, 5)`` and lesions ``(1 or 2, 4)`` of each image, always alike."""
    rng = np.random.default_rng(seed)
    counts = 1 + (rng.random(images) < SECOND_LESION)
    lesions = _random_corners(rng, int(counts.sum()))
    first = np.repeat(np.cumsum(counts) - counts, boxes)
    near = lesions[first] + rng.normal(0, NEAR_PX, (images * boxes, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
    is_near = rng.random((images * boxes, 1)) < NEAR_SHARE
    corners = np.where(is_near, near, _random_corners(rng, images * boxes))
    scores = np.where(is_near[:, 0], rng.beta(2, 2, len(near)), rng.beta(1, 6, len(near)))
    detections = np.column_stack([corners, scores])
    return (
        np.split(detections, np.arange(1, images) * boxes),
        np.split(lesions, np.cumsum(counts)[:-1]),
    )


def _random_corners(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Boxes of DeepLesion's range of sizes within a slice."""
    sides = rng.uniform(12, 90, (count, 2))
    low = rng.uniform(0, 1, (count, 2)) * (SLICE_PX - 1 - sides)
    return np.hstack([low, low + sides])


def ours(detections: Boxes, lesions: Boxes) -> tuple[Any, Any, Any]:
    """Sensitivity, false positives per image, and the figures that are reported."""
    curve = froc_curve(detections, lesions)
    at = sensitivity_at(curve.sensitivity, curve.fps_per_image, REPORT_FPS)
    return curve.sensitivity, curve.fps_per_image, at


def textbook(
    detections: Any, lesions: Any, ious_of: Callable[[Any, Any], Any] = ious_of_arrays
) -> tuple[Any, Any, Any]:
    """The same by a loop over boxes."""
    sensitivity, fps = textbook_froc.froc_curve(detections, lesions, ious_of=ious_of)
    return sensitivity, fps, textbook_froc.sensitivity_at(sensitivity, fps, REPORT_FPS)


def check_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    """Raise RuntimeError unless both gave the same curve and figures."""
    for name, one, other in zip(
        ("sensitivity", "false positives per image", "figures"), first, second, strict=True
    ):
        if not np.array_equal(one, other):
            raise RuntimeError(f"ours and the loop over boxes differ in {name}")


def intervals(detections: Boxes, lesions: Boxes) -> BootstrapResult:
    """Figures with intervals, of the whole set and of strata."""
    matches = match_detections(detections, lesions)
    patients = np.arange(len(detections)) // IMAGES_PER_PATIENT
    stratum = np.arange(len(matches.first_hit)) % LESION_STRATA
    image_stratum = np.arange(len(detections)) % IMAGE_STRATA
    return bootstrap(
        matches,
        patients.tolist(),
        lesion_strata=[stratum == index for index in range(LESION_STRATA)],
        image_strata=[image_stratum == index for index in range(IMAGE_STRATA)],
        band_fps=BAND_FPS,
    )


def seconds_of(function: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_bytes(function: Callable[[], object]) -> int:
    """Bytes that Python and numpy have at most during a call, above those before it."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure(settings: Settings) -> Result:
    """Run the benchmark; RuntimeError where ours is not the loop's."""
    given = make_boxes(settings.images, settings.boxes, settings.seed)
    found, there = ([rows.tolist() for rows in part] for part in given)
    contestants: list[Callable[[], tuple[Any, ...]]] = [
        lambda: ours(*given),
        lambda: textbook(*given),
        lambda: textbook(found, there, ious_of_numbers),
    ]
    first, *others = (contestant() for contestant in contestants)
    for other in others:
        check_same(first, other)
    rounds = [
        [seconds_of(contestant) for contestant in contestants]
        for _ in tqdm(range(settings.repeat), desc="rounds", file=sys.stderr)
    ]
    seconds, loop_seconds, plain_seconds = (list(column) for column in zip(*rounds, strict=True))
    twice = make_boxes(2 * settings.images, settings.boxes, settings.seed)
    peaks = [peak_bytes(lambda: ours(*given)), peak_bytes(lambda: ours(*twice))]
    many = make_boxes(settings.many_images, settings.boxes, settings.seed)
    many_seconds = seconds_of(lambda: ours(*many))
    interval_seconds = seconds_of(lambda: intervals(*given))
    return Result(seconds, loop_seconds, plain_seconds, peaks, many_seconds, interval_seconds)


def markdown(result: Result, settings: Settings) -> str:
    """The table as Markdown."""
    small, large = (f"{peak / MEGABYTE:.1f}" for peak in result.bytes_at_peak)
    to_loop, to_plain = (
        operators.ratio(seconds, result.seconds)
        for seconds in (result.loop_seconds, result.plain_seconds)
    )
    once, twice, many = settings.images, 2 * settings.images, settings.many_images
    lines = [
        f"| {settings.boxes} boxes an image | images | ms | times ours | peak MB |",
        "|---|---|---|---|---|",
        f"| ours | {once} | {_milliseconds(result.seconds)} | | {small} |",
        f"| ours | {twice} | | | {large} |",
        f"| ours | {many} | {1e3 * result.many_seconds:.0f} | | |",
        f"| intervals | {once} | {1e3 * result.interval_seconds:.0f} | | |",
        f"| loop over boxes | {once} | {_milliseconds(result.loop_seconds)} | {to_loop} | |",
        f"| loop in plain numbers | {once} | {_milliseconds(result.plain_seconds)} "
        f"| {to_plain} | |",
        "",
        "all give the same curve and figures",
    ]
    return "\n".join(lines)


def _milliseconds(seconds: list[float]) -> str:
    """Median, and quartiles in brackets."""
    low, median, high = 1e3 * np.percentile(seconds, [25, 50, 75])
    return f"{median:.1f} ({low:.1f}-{high:.1f})"


def bars(result: Result, settings: Settings) -> list[str]:
    """Whether the bars hold, a line each; nothing where something else was measured."""
    wanted = Settings()
    sizes = ("images", "boxes", "many_images")
    if any(getattr(settings, name) != getattr(wanted, name) for name in sizes):
        return []
    seconds = float(np.median(result.seconds))
    speedup = operators.ratio(result.loop_seconds, result.seconds).median
    growth = result.bytes_at_peak[1] / result.bytes_at_peak[0]
    rows = (
        (f"{seconds:.3f} s", seconds <= BAR_SECONDS, f"<= {BAR_SECONDS} s"),
        (f"{speedup:.0f} x the loop", speedup >= BAR_SPEEDUP, f">= {BAR_SPEEDUP:.0f}"),
        (f"{growth:.2f} x the memory for 2 x the boxes", growth <= BAR_GROWTH, f"<= {BAR_GROWTH}"),
        (
            f"{result.many_seconds:.2f} s for {settings.many_images} images",
            result.many_seconds <= BAR_MANY_SECONDS,
            f"<= {BAR_MANY_SECONDS:g} s",
        ),
        (
            f"{result.interval_seconds:.2f} s for intervals",
            result.interval_seconds <= BAR_INTERVAL_SECONDS,
            f"<= {BAR_INTERVAL_SECONDS:g} s",
        ),
    )
    return [f"bar: {figure} ({bar}): {'holds' if ok else 'MISSED'}" for figure, ok, bar in rows]


def parse_args(argv: list[str] | None = None) -> tuple[Settings, Path]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/froc"), help="folder of the table")
    add("--images", type=int, default=TEST_IMAGES)
    add("--boxes", type=int, default=BOXES_PER_IMAGE, help="of each image")
    add("--many-images", type=int, default=MANY_IMAGES, help="of the last round")
    add("--repeat", type=int, default=Settings.repeat, help="rounds")
    add("--seed", type=int, default=0, help="of the boxes")
    args = vars(parser.parse_args(argv))
    for name in ("images", "boxes", "many_images", "repeat"):
        if args[name] < 1:
            parser.error(f"--{name.replace('_', '-')} must be >= 1, got {args[name]}")
    out: Path = args.pop("out")
    return Settings(**args), out


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    settings, out = parse_args(argv)
    result = measure(settings)
    where = {**operators.machine(measuring.Settings()), "numpy": np.__version__}
    verdicts = bars(result, settings)
    about = [f"{name}: {value}" for name, value in {**where, **asdict(settings)}.items()]
    text = "\n".join([markdown(result, settings), "", *verdicts, "", *about]) + "\n"
    content = {
        "machine": where,
        "settings": asdict(settings),
        "result": result._asdict(),
        "bars": verdicts,
    }
    write_json(out / "froc.json", content, indent=2)
    with atomic_write(out / "froc.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    print(f"the table is in {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
