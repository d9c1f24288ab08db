"""What a training sample costs, from PNG and from the packed cache, against the textbook way.

The pipeline is that of `configs/_base_/datasets/deeplesion_7x2mm.py`, on 16-bit PNG of 512 x 512
px: the phantom data set that this script makes, or --data-root. The textbook way is written out in
`benchmarks/baseline/data.py`; that both give the same samples is checked first. Each way has a
process of its own, on one thread, in which ours keeps what it frees, as the workers that
`tools/train.py` forks do; of the textbook way there are both, as it is by itself and keeping what
it frees too. They take turns round by round. Figures are CPU time, medians over rounds of the
ratio, with quartiles; files are in the page cache. Masks are made by one process and by two, in
turns, in wall time: only where both cores are free do two take half as long.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import DefaultScope
from tqdm import tqdm

from deeplesion.datasets.packing import pack_data_root
from deeplesion.datasets.synthetic.generate import SyntheticConfig, make_synthetic
from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.figures import Figure, markdown, of_rounds  # noqa: E402
from benchmarks.loading import (  # noqa: E402
    NUM_SLICES,
    PACKED,
    PARTS,
    PNG,
    SIDE,
    WAYS,
    Way,
    dataset,
    make_way,
    worker,
)
from benchmarks.starting import (  # noqa: E402
    cpu_seconds,
    measure_apart,
    write_full_info,
)
from benchmarks.worker import TEXTBOOK, TEXTBOOK_KEEPING  # noqa: E402

TOLERANCE = 1e-3  # of 255 gray values
BARS = {"load_png": 1.7, "load_packed": 10.0, "sample_png": 2.0, "sample_packed": 4.0}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        data_root: Data set with masks; None makes a phantom.
        size: Of the slices, in px; with a data root, DeepLesion's.
        samples: Samples a round.
        rounds: Of everything.
        mask_items: Key slices a round that masks are made for.
        rows: Of the annotation file that a data set is constructed from.
    """

    data_root: Path | None = None
    size: int = SIDE
    samples: int = 6
    rounds: int = 9
    mask_items: int = 120
    rows: int = 32_735


def figures(settings: Settings | None = None) -> list[Figure]:
    """Measure everything.

    Raises:
        RuntimeError: If the library and the textbook way give different samples.
    """
    settings = settings or Settings()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    scope = DefaultScope.overwrite_default_scope("mmdet")
    with tempfile.TemporaryDirectory() as folder, scope:
        root = settings.data_root or make_phantom(Path(folder, "data"), settings.size)
        pack = Path(folder, "packed")
        packed = pack_data_root(root, pack)
        count = min(settings.samples, len(dataset(root, None)))
        check_same(
            {name: make_way("sample", name, root, pack) for name in (TEXTBOOK, *WAYS)}, count
        )
        found = [
            figure
            for part in PARTS
            for figure in compare(
                part, settings.size, measure(part, root, pack, count, settings.rounds)
            )
        ]
        size = Figure(
            "packed_size", "size of the packed cache", "MB", packed.packed_bytes / 1e6,
            packed.png_bytes / 1e6, "PNG", "share", 1.0,
        )  # fmt: skip
        return [
            *found,
            size,
            *mask_figures(root, settings),
            *starting(root, Path(folder), settings),
        ]


def make_phantom(root: Path, size: int) -> Path:
    """A phantom data set of three patients, one of each slice interval."""
    make_synthetic(root, SyntheticConfig(patients=3, size=size))
    for path in root.glob("masks_true_*.json"):
        path.rename(root / path.name.replace("true_", ""))
    return root


def check_same(ways: Mapping[str, Way], count: int) -> None:
    """See that all ways give the same samples from the same random numbers.

    Raises:
        RuntimeError: If they do not.
    """
    for index in range(count):
        np.random.seed(index)
        wanted = ways[TEXTBOOK](index)
        for name in WAYS:
            np.random.seed(index)
            packed = ways[name](index)
            target = packed["data_samples"].gt_instances
            if not (
                torch.allclose(packed["inputs"], wanted.inputs, rtol=0, atol=TOLERANCE)
                and torch.allclose(target.bboxes.tensor, wanted.boxes, rtol=0, atol=TOLERANCE)
                and np.array_equal(target.masks.masks, wanted.masks)
            ):
                raise RuntimeError(f"{name} and {TEXTBOOK} give different samples of {index}")


def measure(part: str, root: Path, packed: Path, count: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds a sample, round by round; the first round, which warms up, is left out.

    Args:
        part: ``load`` or ``sample``.
        root: Folder of the data set.
        packed: Folder of its packed cache.
        count: Samples a round.
        rounds: That are counted.
    """
    names = (TEXTBOOK, TEXTBOOK_KEEPING, *WAYS)
    times: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(part, n, root, packed, count)) for n in names]
        turns = list(zip(names, workers, strict=True))
        for number in tqdm(range(rounds + 1), desc=part, file=sys.stderr):
            turns = turns[1:] + turns[:1]
            for name, process in turns:
                seconds = process.turn()["seconds"]
                if number:
                    times[name].append(seconds)
    return times


def compare(part: str, size: int, times: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Figures of one part, `load` or `sample`."""
    stack = f"{NUM_SLICES} x {size} x {size}"
    what = {"load": f"load and window {stack}", "sample": "a whole training sample"}
    names = {PNG: "from PNG", PACKED: "from the packed cache"}
    found = []
    for name in WAYS:
        key, ours, text = f"{part}_{name}", times[name], f"{what[part]}, {names[name]}"
        for suffix, against, bar in (
            ("", TEXTBOOK, BARS[key]),
            ("_keeping", TEXTBOOK_KEEPING, None),
        ):
            found.append(
                of_rounds(
                    key + suffix, text, ours, times[against], against, "speedup", bar, "CPU time"
                )
            )
    return found


def mask_figures(root: Path, settings: Settings) -> list[Figure]:
    """How much faster two workers make masks than one."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in tqdm(range(settings.rounds), desc="masks", file=sys.stderr):
        for workers, times in seconds.items():
            found = measure_apart("masks", root.resolve(), workers, settings.mask_items)
            times.append(found["seconds"])
    return [
        of_rounds(
            "masks_two_workers", "masks of a key slice, two workers", seconds[2], seconds[1],
            "one worker", "speedup", 1.8, "wall time, once they have started",
        )
    ]  # fmt: skip


def starting(root: Path, folder: Path, settings: Settings) -> list[Figure]:
    """Construction of the data set, and imports, warm."""
    write_full_info(root / "DL_info.csv", folder / "full", settings.rows)
    built = [measure_apart("construct", folder / "full") for _ in range(3)]
    seconds, megabytes = (min(run[key] for run in built) for key in ("seconds", "megabytes"))
    rows = f"{settings.rows} rows"
    commands = {
        "import_deeplesion": ("import of deeplesion", ["-c", "import deeplesion"]),
        "train_help": ("tools/train.py --help", [str(ROOT / "tools/train.py"), "--help"]),
    }
    found = [
        Figure(
            "construction",
            f"data set of {rows}",
            "s",
            seconds,
            None,
            "",
            "limit",
            2.0,
            note="CPU time, best of 3",
        ),
        Figure("construction_mb", f"data set of {rows}", "MB", megabytes, None, "", "limit", 150.0),
    ]
    for key, (what, command) in commands.items():
        spent = min(cpu_seconds([sys.executable, *command]) for _ in range(3))
        found.append(Figure(key, what, "s", spent, None, "", "limit", 3.0, note="CPU time, warm"))
    return found


def parse_args(argv: list[str] | None = None) -> tuple[Settings, Path]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/pipeline.py --out work_dirs/pipeline",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/pipeline"), help="folder of the tables")
    add("--data-root", type=Path, help="a data set with masks_{split}.json; else a phantom")
    for name, default in asdict(Settings()).items():
        if isinstance(default, int):
            add(f"--{name.replace('_', '-')}", type=int, default=default)
    args = vars(parser.parse_args(argv))
    for name, value in args.items():
        if isinstance(value, int) and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be >= 1, got {value}")
    out: Path = args.pop("out")
    return Settings(**args), out


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    settings, out = parse_args(argv)
    found = figures(settings)
    text = markdown(found)
    machine = {"machine": platform.platform(), "cores": os.cpu_count(), "opencv": cv2.__version__}
    rows = [figure.record() for figure in found]
    content = {"machine": machine, "settings": asdict(settings), "figures": rows}
    write_json(out / "pipeline.json", content, indent=2)
    with atomic_write(out / "pipeline.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
