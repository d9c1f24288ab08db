"""What the neighboring slices, and knowing how thick they are, are worth.

Trains AlignShift, TSM, A3D, the key slice alone and a thickness-blind AlignShift (every thickness
told as 2 mm) on the synthetic data set, several seeds each, and compares them by mean FROC
sensitivity, overall and by slice interval. Intervals are 95 % percentile intervals of a bootstrap
over seeds and over patients of the test split (all slices of a patient stay together). Runs that
are done are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from deeplesion.datasets.dl_info import group_by_key_slice, read_dl_info
from deeplesion.evaluation.froc import MEAN_FPS, froc_curve, sensitivity_at
from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/{0}/mask-rcnn_{0}-densenet-small_7x2mm_500it_synthetic.py"
ONE_SLICE = [
    *(
        f"{loader}_dataloader.dataset.pipeline.0.num_slices=1"
        for loader in ("train", "val", "test")
    ),
    "model.backbone.num_slices=1",
]
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "AlignShift": (CONFIG.format("alignshift"), []),
    "TSM": (CONFIG.format("tsm"), []),
    "A3D": (CONFIG.format("a3d"), []),
    "AlignShift, thickness-blind": (
        CONFIG.format("alignshift"),
        ["model.data_preprocessor.told_thickness=2.0"],
    ),
    "key slice alone": (CONFIG.format("25d"), ONE_SLICE),
}
STRATA: dict[str, float | None] = {"all": None, "1 mm": 1.0, "2 mm": 2.0, "5 mm": 5.0}
EXAMPLE = """example:
  python benchmarks/context_ablation.py --out work_dirs/context_ablation --jobs 2
"""


class Image(NamedTuple):
    """One key slice of the test split."""

    patient: int
    slice_interval: float
    lesions: np.ndarray


class Figures(NamedTuple):
    """Mean sensitivity with its interval."""

    mean: float
    low: float
    high: float


def tool(
    name: str,
    *arguments: object,
    threads: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run one of the tools, its output in a log file, with more variables of the environment."""
    # Configs of benchmarks may name what is defined in one.
    own = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), **(environment or {})}
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
    env = {**os.environ, **own}
    with log.open("a") as output:
        subprocess.run(command, check=True, cwd=ROOT, env=env, stdout=output, stderr=output)


def make_data(out: Path, patients: int, seed: int, pixels: int = 128) -> Path:
    """The data set, of slices of so many pixels a side, and its masks."""
    data, log = out / "data", out / "data.log"
    if not (data / "masks_train.json").exists():
        size = ["--patients", patients, "--size", pixels, "--seed", seed, "--overwrite"]
        tool("make_synthetic.py", "--out", data, *size, threads=1, log=log)
        tool("make_masks.py", "--data-root", data, "--split", "train", threads=1, log=log)
    return data


def run(variant: str, seed: int, data: Path, out: Path, threads: int, extra: list[str]) -> Path:
    """Train and test one variant with one seed; returns its predictions."""
    config, options = VARIANTS[variant]
    folder = out / f"{variant.replace(', ', '_').replace(' ', '-')}_seed{seed}"
    predictions = folder / "predictions.json"
    if predictions.exists():
        return predictions
    folder.mkdir(parents=True, exist_ok=True)
    common = ["--work-dir", folder, "--data-root", data]
    changed = [*options, *extra]
    common += ["--cfg-options", *changed] if changed else []
    log = folder / "log.txt"
    tool("train.py", config, "--seed", seed, *common, threads=threads, log=log)
    checkpoint = (folder / "last_checkpoint").read_text().strip()
    tool("test.py", config, checkpoint, *common, threads=threads, log=log)
    return predictions


def read_images(data: Path) -> dict[str, Image]:
    """Key slices of the test split by file name."""
    key_slices = group_by_key_slice(read_dl_info(data / "DL_info.csv"), split="test")
    images = {}
    for key_slice in key_slices:
        first = key_slice.lesions[0]
        boxes = np.array([lesion.bbox for lesion in key_slice.lesions])
        images[first.file_name] = Image(first.patient_id, first.slice_interval, boxes)
    return images


def read_detections(path: Path, names: list[str]) -> list[np.ndarray]:
    """Boxes with scores ``(n, 5)`` of each image, in the order of the names."""
    entries = {entry["file_name"]: entry for entry in json.loads(path.read_text())["images"]}
    return [np.array(entries[name]["bboxes"]).reshape(-1, 5) for name in names]


def mean_sensitivity(detections: list[np.ndarray], lesions: list[np.ndarray]) -> float:
    """Mean sensitivity at 0.5, 1, 2 and 4 false positives per image."""
    curve = froc_curve(detections, lesions)
    return float(np.mean(sensitivity_at(curve.sensitivity, curve.fps_per_image, MEAN_FPS)))


def bootstrap(
    runs: list[list[np.ndarray]], images: list[Image], replicates: int, seed: int
) -> Figures:
    """Mean over seeds and its 95 % interval, seeds and patients drawn with replacement."""
    lesions = [image.lesions for image in images]
    by_patient = defaultdict(list)
    for index, image in enumerate(images):
        by_patient[image.patient].append(index)
    groups = list(by_patient.values())
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(replicates):
        drawn = [i for g in rng.integers(len(groups), size=len(groups)) for i in groups[g]]
        drawn_lesions = [lesions[i] for i in drawn]
        chosen = rng.integers(len(runs), size=len(runs))
        values.append(
            np.mean([mean_sensitivity([runs[r][i] for i in drawn], drawn_lesions) for r in chosen])
        )
    low, high = np.percentile(values, [2.5, 97.5])
    mean = np.mean([mean_sensitivity(detections, lesions) for detections in runs])
    return Figures(float(mean), float(low), float(high))


def analyze(
    predictions: dict[str, list[Path]], data: Path, replicates: int, seed: int
) -> dict[str, dict[str, Figures]]:
    """Figures of each variant in each stratum."""
    images = read_images(data)
    table: dict[str, dict[str, Figures]] = {}
    for variant, paths in tqdm(predictions.items(), desc="bootstrap"):
        table[variant] = {}
        for stratum, interval in STRATA.items():
            names = [n for n, i in images.items() if interval in (None, i.slice_interval)]
            runs = [read_detections(path, names) for path in paths]
            chosen = [images[name] for name in names]
            table[variant][stratum] = bootstrap(runs, chosen, replicates, seed)
    return table


def markdown(table: dict[str, dict[str, Figures]]) -> str:
    """The table as Markdown, in percent."""
    lines = ["| trained on | " + " | ".join(STRATA) + " |", "|---" * (len(STRATA) + 1) + "|"]
    for variant, row in table.items():
        cells = [f"{100 * f.mean:.1f} ({100 * f.low:.1f}-{100 * f.high:.1f})" for f in row.values()]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(table: dict[str, dict[str, Figures]], path: Path) -> None:
    """Points with intervals, a group a stratum."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    colors = ["#0072b2", "#009e73", "#cc79a7", "#e69f00", "#555555"]
    width = 0.8 / len(table)
    for index, ((variant, row), color) in enumerate(zip(table.items(), colors, strict=False)):
        mean, low, high = np.array(list(row.values())).T
        x = np.arange(len(STRATA)) + (index - (len(table) - 1) / 2) * width
        axes.bar(x, mean, width * 0.9, color=color, alpha=0.85, label=variant)
        axes.errorbar(x, mean, [mean - low, high - mean], fmt="none", ecolor="black", capsize=2)
    axes.set_xticks(range(len(STRATA)), [s if s == "all" else f"{s} slices" for s in STRATA])
    axes.set_ylabel("mean sensitivity at 0.5, 1, 2, 4 FP per image")
    axes.set_ylim(0, 1)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=150, format="png")


def train_all(args: argparse.Namespace, data: Path) -> dict[str, list[Path]]:
    """Run every variant with every seed, ``jobs`` at a time; returns their predictions."""
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    found: dict[str, dict[int, Path]] = {variant: {} for variant in args.variants}
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {
            pool.submit(run, variant, seed, data, args.out, threads, args.cfg_options): (
                variant,
                seed,
            )
            for seed in args.seeds
            for variant in args.variants
        }
        for future in tqdm(as_completed(futures), total=len(futures), desc="runs"):
            variant, seed = futures[future]
            found[variant][seed] = future.result()
    return {variant: [paths[seed] for seed in args.seeds] for variant, paths in found.items()}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/context_ablation"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--patients", type=int, default=250)
    parser.add_argument("--data-seed", type=int, default=0, help="of data set and bootstrap")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, cores shared evenly")
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--cfg-options", nargs="+", default=[], help="for every run: key=value ...")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = parse_args(argv)
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    data = make_data(args.out, args.patients, args.data_seed)
    predictions = train_all(args, data)
    table = analyze(predictions, data, args.replicates, args.data_seed)
    rows = {v: {s: f._asdict() for s, f in row.items()} for v, row in table.items()}
    settings = {"seeds": args.seeds, "patients": args.patients, "data_seed": args.data_seed}
    write_json(args.out / "context_ablation.json", {"settings": settings, "table": rows})
    text = markdown(table)
    (args.out / "context_ablation.md").write_text(text)
    plot(table, args.out / "context_ablation.png")
    print(text)
    print(f"table, figures and plot are in {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
