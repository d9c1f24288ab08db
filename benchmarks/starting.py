"""What starting costs: imports, the data set's construction, and work dealt to two processes.

Run as a script it measures, in this process: ``construct ROOT`` the construction of the data set,
``masks ROOT WORKERS ITEMS`` the making of masks.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from itertools import islice, product
from pathlib import Path

import cv2

from deeplesion.datasets.dl_info import (
    COLUMNS,
    INFO_FILE,
    find_image_root,
    group_by_key_slice,
    read_dl_info,
)
from deeplesion.datasets.mask_files import mask_key_slice
from deeplesion.datasets.workers import process_map
from deeplesion.engine.malloc import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.measuring import peak_bytes  # noqa: E402

FULL_ROWS = 32_735
KEYS_PER_SERIES = 90
MEGABYTE = 1e6
#: Key slices that each worker has done when all are at work for sure.
WARM_UP = 3


def write_full_info(template: Path, root: Path, rows: int = FULL_ROWS) -> None:
    """Write an annotation file as long as DeepLesion's, and a folder for its slices.

    Args:
        template: A ``DL_info.csv`` whose rows are repeated, each as a key slice of its own.
        root: Folder of the data set to write.
        rows: How many.
    """
    with template.open(newline="") as stream:
        given = list(csv.DictReader(stream))
    keys = product(range(1, rows + 1), range(10, 10 + KEYS_PER_SERIES))
    (root / "Images_png" / "000001_01_01").mkdir(parents=True, exist_ok=True)
    with (root / INFO_FILE).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for number, (patient, key) in enumerate(islice(keys, rows)):
            names = {
                "File_name": f"{patient:06d}_01_01_{key:03d}.png",
                "Patient_index": patient,
                "Key_slice_index": key,
                "Possibly_noisy": 0,
            }
            writer.writerow(given[number % len(given)] | names)


def construct(root: Path) -> dict[str, float]:
    """Seconds of CPU time and megabytes of memory that the data set's construction takes here."""
    from deeplesion.datasets.deeplesion import DeepLesionDataset

    start = time.process_time()
    data = DeepLesionDataset(data_root=str(root), pipeline=[])
    seconds = time.process_time() - start
    count = len(data)
    del data
    peak = peak_bytes(lambda: DeepLesionDataset(data_root=str(root), pipeline=[]))
    return {"seconds": seconds, "megabytes": peak / MEGABYTE, "samples": count}


def measure_apart(what: str, *arguments: object) -> dict[str, float]:
    """:func:`construct` or :func:`make_masks` in a process of its own."""
    command = [sys.executable, str(Path(__file__)), what, *map(str, arguments)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(result.stdout.splitlines()[-1])


def cpu_seconds(command: list[str]) -> float:
    """CPU time of a command, in a process of its own; waiting for others does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_masks(root: Path, workers: int, items: int) -> dict[str, float]:
    """Seconds that masks of a key slice take, once the workers have started.

    Args:
        root: Folder of the data set; its key slices are repeated.
        workers: Number of processes. Each imports the script that is run, as those of
            `tools/make_masks.py` do: little.
        items: How many key slices to work on, after some for each worker to start with.
    """
    cv2.setNumThreads(1)
    keep_freed_memory()  # as tools/make_masks.py does, and every worker
    groups = group_by_key_slice(read_dl_info(root / INFO_FILE))
    work = partial(
        mask_key_slice, image_root=find_image_root(root), seed=0, on_error="raise", legacy=False
    )
    first = WARM_UP * workers
    repeated = (groups[number % len(groups)] for number in range(first + items))
    with process_map(work, repeated, workers, ordered=False) as finished:
        for _ in islice(finished, first):
            pass
        start = time.perf_counter()
        count = sum(1 for _ in finished)
    return {"seconds": (time.perf_counter() - start) / count}


def main(what: str, root: str, *numbers: str) -> None:
    """Measure what the command line asks for."""
    if what == "construct":
        found = construct(Path(root))
    else:
        workers, items = map(int, numbers)
        found = make_masks(Path(root), workers, items)
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
