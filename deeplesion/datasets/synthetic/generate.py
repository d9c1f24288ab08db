"""Write a phantom data set in DeepLesion's own format.

``DL_info.csv`` with its 18 columns, 16-bit PNG slices of HU + 32768 around every key slice, a split
by patient, and beside them the true masks, ``masks_true_{split}.json``, in the layout of
``tools/make_masks.py``.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deeplesion.datasets.dl_info import COLUMNS, INFO_FILE, SPLITS
from deeplesion.datasets.synthetic.patient import Patient, PatientOutput, generate_patient
from deeplesion.datasets.workers import process_map
from deeplesion.io import atomic_write, write_json

FORMAT_VERSION = 1
GENERATOR = "deeplesion.datasets.synthetic"
SLICE_INTERVALS_MM = (1.0, 2.0, 5.0)
VAL_FRACTION, TEST_FRACTION = 0.08, 0.28
SIZE_BOUNDS = (64, 512)
MAX_PATIENTS = 100_000
META_FILE, IMAGE_FOLDER = "meta.json", "Images_png"


@dataclass(frozen=True)
class SyntheticConfig:
    """What a synthetic data set depends on; nothing else does.

    Attributes:
        patients: number of patients, at least 3 so that no split is empty.
        size: width and height of the images in px, 64 to 512.
        seed: non-negative seed.
    """

    patients: int = 125
    size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if not 3 <= self.patients <= MAX_PATIENTS:
            raise ValueError(
                f"patients must be 3 (one per split) to {MAX_PATIENTS}, got {self.patients}"
            )
        if not SIZE_BOUNDS[0] <= self.size <= SIZE_BOUNDS[1]:
            raise ValueError(
                f"size must be {SIZE_BOUNDS[0]} to {SIZE_BOUNDS[1]} px, got {self.size}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class Summary:
    """Counts by split: patients, key slices, lesions, and patients by slice interval."""

    patients: dict[str, int]
    key_slices: dict[str, int]
    lesions: dict[str, int]
    intervals: dict[str, dict[str, int]]

    def __str__(self) -> str:
        lines = [f"{'split':<8}{'patients':>10}{'key slices':>12}{'lesions':>9}   slice intervals"]
        for split in SPLITS:
            mixed = ", ".join(f"{mm} mm: {n}" for mm, n in self.intervals[split].items())
            lines.append(
                f"{split:<8}{self.patients[split]:>10}{self.key_slices[split]:>12}"
                f"{self.lesions[split]:>9}   {mixed}"
            )
        return "\n".join(lines)


def plan_patients(config: SyntheticConfig) -> list[Patient]:
    """Deal splits and slice intervals at random, each interval as often as can be in each split."""
    plan_seed, *seeds = np.random.SeedSequence(config.seed).spawn(config.patients + 1)
    rng = np.random.default_rng(plan_seed)
    n_val = max(1, round(VAL_FRACTION * config.patients))
    n_test = max(1, round(TEST_FRACTION * config.patients))
    n_train = config.patients - n_val - n_test
    splits = ["train"] * n_train + ["val"] * n_val + ["test"] * n_test
    first = int(rng.integers(len(SLICE_INTERVALS_MM)))
    patients = []
    for position, index in enumerate(rng.permutation(config.patients)):
        interval = SLICE_INTERVALS_MM[(first + position) % len(SLICE_INTERVALS_MM)]
        patients.append(Patient(int(index) + 1, splits[position], interval, seeds[index]))
    return sorted(patients, key=lambda patient: patient.number)


def prepare_folder(out: Path, overwrite: bool) -> None:
    """Make ``out`` an empty folder.

    Raises:
        FileExistsError: if it holds something and ``overwrite`` is off, or if that is no synthetic
            data set, which is never deleted.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is not a folder")
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise FileExistsError(f"{out} is not empty; give another folder or --overwrite")
        if not _is_synthetic(out):
            raise FileExistsError(
                f"{out} holds something else than a synthetic data set, so it is not overwritten"
            )
        for path in (out / INFO_FILE, *out.glob("masks*.json*")):
            path.unlink(missing_ok=True)
        shutil.rmtree(out / IMAGE_FOLDER, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


def _is_synthetic(out: Path) -> bool:
    try:
        meta = json.loads((out / META_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(meta, dict) and meta.get("generator") == GENERATOR


def make_synthetic(
    out: Path | str,
    config: SyntheticConfig | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> Summary:
    """Write a synthetic data set; its bytes depend on ``config`` alone, not on ``workers``.

    Args:
        out: folder to write, made if need be; must be empty unless ``overwrite``.
        config: what to write.
        workers: number of processes.
        overwrite: replace an earlier synthetic data set.
        progress: show a progress bar.

    Returns:
        Counts of what was written.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    config = config or SyntheticConfig()
    out = Path(out)
    prepare_folder(out, overwrite)
    meta = {"generator": GENERATOR, "version": FORMAT_VERSION, **asdict(config)}
    write_json(out / META_FILE, meta)
    patients = plan_patients(config)
    work = partial(generate_patient, size=config.size, images=out / IMAGE_FOLDER)
    with process_map(work, patients, workers) as finished:
        bar = tqdm(finished, total=len(patients), unit="patient", disable=not progress)
        outputs = list(bar)
    for split in SPLITS:
        mine = [o.masks for o, p in zip(outputs, patients, strict=True) if p.split == split]
        masks = {name: found for masks in mine for name, found in masks.items()}
        source = {"source": "synthetic truth", "seed": config.seed, "grabcut": 0, "ellipse": 0}
        write_json(out / f"masks_true_{split}.json", {"meta": source, "masks": masks})
    # Last, so that an interrupted run leaves no data set that looks complete.
    _write_info(out / INFO_FILE, [row for output in outputs for row in output.rows])
    return summarize(patients, outputs)


def _write_info(path: Path, rows: list[dict[str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarize(patients: list[Patient], outputs: list[PatientOutput]) -> Summary:
    """Count what was written by split."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("patients", "keys", "lesions")}
    intervals = {split: {f"{mm:g}": 0 for mm in SLICE_INTERVALS_MM} for split in SPLITS}
    for patient, output in zip(patients, outputs, strict=True):
        counts["patients"][patient.split] += 1
        counts["keys"][patient.split] += len(output.masks)
        counts["lesions"][patient.split] += len(output.rows)
        intervals[patient.split][f"{patient.slice_interval:g}"] += 1
    patients_by, keys_by, lesions_by = ({s: counts[n][s] for s in SPLITS} for n in counts)
    return Summary(patients_by, keys_by, lesions_by, intervals)
