"""A whole scan, from its file to lesions.json: the engine against key slice by key slice.

Both find lesions in the same key slices of the same scan with the same detector (DenseNet-121 at
512 px, random weights, batch norms settled on the scan):

- *by key slice* (`benchmarks/baseline/volume.py`): each stack is built, windowed and resized anew
  and given to the detector's ``test_step`` by itself, which makes masks of all its boxes;
- *the engine* (`deeplesion.inference`, as `tools/detect.py` runs it): each slice is prepared and
  put through the stem once, masks are made of boxes over the threshold only, and malloc keeps what
  is freed; with ``--keep-memory-of both`` it does so for the other contestant as well.

A trained detector finds a few boxes a slice, random weights the most that it may. So the threshold
is set to leave ``--boxes-per-slice`` on average. Each contestant works in a process of its own, as
a user would run it; they take turns, and times are compared turn by turn. That their lesions are
the same is checked first. Peak memory is measured on two scans of different numbers of slices.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.figures import Figure  # noqa: E402
from benchmarks.measuring import CLOCKS  # noqa: E402
from benchmarks.volume_worker import make_detector, make_scan  # noqa: E402
from benchmarks.worker import Worker  # noqa: E402
from deeplesion.io import atomic_write, write_json  # noqa: E402

CONFIG = ROOT / "configs/alignshift/mask-rcnn_alignshift-densenet121_7x2mm_20e_deeplesion.py"
BAR = 1.5
# Growth of the peak from the shorter to the longer scan, less the scan itself, as a share of it.
MEMORY_BAR = 1.1
TOLERANCE = 1e-4
MEGABYTE = 1e6
EXAMPLE = """example:
  python benchmarks/volume.py --scan thorax.nii.gz --out work_dirs/volume --threads 2
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scan", type=Path, help="a CT (default: a phantom of 2 mm slices)")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/volume"))
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--slices", type=int, default=8, help="key slices, from the middle")
    parser.add_argument("--repeat", type=int, default=5, help="turns of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall",
        help="cpu: seconds of all threads, steadier where others use the machine",
    )  # fmt: skip
    parser.add_argument(
        "--keep-memory-of", choices=["engine", "both"], default="engine",
        help="whose malloc keeps what is freed (default: the engine's, as in tools/detect.py)",
    )  # fmt: skip
    parser.add_argument("--boxes-per-slice", type=float, default=2.0)
    parser.add_argument(
        "--memory-slices", type=int, nargs=2, default=(8, 24), metavar=("FEW", "MANY"),
        help="numbers of slices of the two scans whose peak memory is compared",
    )  # fmt: skip
    return parser.parse_args(argv)


def worker(kind: str, settings: dict[str, Any]) -> Worker:
    """The process of a contestant."""
    return Worker(ROOT / "benchmarks/volume_worker.py", kind, json.dumps(settings))


class Times(NamedTuple):
    """Seconds of each turn."""

    engine: list[float]
    by_slice: list[float]


def measure_times(settings: dict[str, Any], repeat: int) -> Times:
    """Let both take turns, the first of which is not counted.

    Raises:
        RuntimeError: Their findings differ.
    """
    times = Times([], [])
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(worker(kind, settings)) for kind in times._fields}
        check_same(*(Path(each.turn()["detections"]) for each in workers.values()))
        for number in tqdm(range(repeat), "turns"):
            for kind in sorted(workers, reverse=bool(number % 2)):
                getattr(times, kind).append(workers[kind].turn()["seconds"])
    return times


def check_same(ours: Path, theirs: Path) -> None:
    """Compare what both found, box by box and pixel by pixel.

    Args:
        ours: ``.npz`` of a worker.
        theirs: The other's.

    Raises:
        RuntimeError: It differs by more than 1e-4.
    """
    with np.load(ours) as engine, np.load(theirs) as by_slice:
        for name in ("z", "boxes", "scores", "masks"):
            first, second = (found[name].astype(np.float64) for found in (engine, by_slice))
            if first.shape != second.shape or not len(first):
                raise RuntimeError(f"{name} are {first.shape} and {second.shape}")
            difference = np.abs(first - second)
            # A pixel on the edge of a mask may turn over by rounding.
            off = float(difference.mean() if name == "masks" else difference.max())
            if off > TOLERANCE:
                raise RuntimeError(f"{name} differ by {off:.2g}")


def measure_memory(settings: dict[str, Any], slices: tuple[int, int]) -> list[int]:
    """Peak resident bytes of the engine, without the scan, for scans of so many slices."""
    peaks = []
    for number in slices:
        longer = {**settings, "scan_slices": number, "slices": number}
        with worker("engine", longer) as engine:
            measured = engine.turn()
        peaks.append(measured["peak_bytes"] - measured["scan_bytes"])
    return peaks


def make_figures(times: Times, peaks: list[int], slices: tuple[int, int]) -> list[Figure]:
    """What was measured beside its bars."""
    ratios = np.divide(times.by_slice, times.engine)
    low, high = np.percentile(ratios, [25, 75]).tolist()
    engine, by_slice = (float(np.median(seconds)) for seconds in times)
    few, many = slices
    return [
        Figure(
            key="volume",
            what="scan file to lesions.json",
            unit="s",
            ours=engine,
            reference=by_slice,
            against="key slice by key slice",
            kind="speedup",
            bar=BAR,
            spread=(low, high),
        ),
        Figure(
            key="volume_memory",
            what=f"peak memory of {many} slices, without the scan",
            unit="MB",
            ours=peaks[1] / MEGABYTE,
            reference=peaks[0] / MEGABYTE,
            against=f"{few} slices",
            kind="share",
            bar=MEMORY_BAR,
        ),
    ]


def to_markdown(figures: list[Figure], machine: dict[str, Any]) -> str:
    """A table for people."""
    rows = ["| what | ours | compared with | ratio | bar |", "|---|---|---|---|---|"]
    for figure in figures:
        spread = "" if figure.spread is None else " ({:.2f}-{:.2f})".format(*figure.spread)
        sign = ">=" if figure.kind == "speedup" else "<="
        rows.append(
            f"| {figure.what} | {figure.ours:.2f} {figure.unit} | {figure.against}: "
            f"{figure.reference:.2f} {figure.unit} | {figure.value:.2f}{spread} "
            f"| {sign} {figure.bar:g}{'' if figure.holds else ', missed'} |"
        )
    return "\n".join([*rows, "", ", ".join(f"{k} {v}" for k, v in machine.items()), ""])


def main(argv: list[str] | None = None) -> int:
    """Measure, write JSON and Markdown; returns 1 where a bar is missed."""
    args = parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    scan = args.scan or make_scan(args.out / "phantom.nii.gz")
    settings = {
        "scan": str(scan),
        "out": str(args.out),
        "slices": args.slices,
        "threads": args.threads,
        "device": args.device,
        "clock": args.clock,
        "keep_memory": ["engine", *(["by_slice"] if args.keep_memory_of == "both" else [])],
    }
    start = time.perf_counter()
    cfg = Config.fromfile(args.config)
    settings |= make_detector(cfg, settings, args.boxes_per_slice)
    times = measure_times(settings, args.repeat)
    few_many = (int(args.memory_slices[0]), int(args.memory_slices[1]))
    peaks = measure_memory(settings, few_many)
    figures = make_figures(times, peaks, few_many)
    machine = {
        "threads": args.threads,
        "device": args.device,
        "clock": args.clock,
        "key slices": args.slices,
        "malloc keeps memory of": args.keep_memory_of,
        "threshold": round(settings["threshold"], 4),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seconds in all": round(time.perf_counter() - start),
    }
    found = [figure.record() for figure in figures]
    write_json(args.out / "volume.json", {"machine": machine, "figures": found}, indent=2)
    table = to_markdown(figures, machine)
    with atomic_write(args.out / "volume.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    print(table)
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
