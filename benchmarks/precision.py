"""Whether training in half precision comes to what float32 comes to.

Trains the small AlignShift detector on the synthetic data set in float32, bfloat16 and float16
(autocast; float16 with a scaled loss), several seeds each, evaluates each in the precision that it
was trained in, and compares mean FROC sensitivities. Intervals are 95 % percentile intervals of a
bootstrap over seeds and over patients of the test split. A loss that is not finite in the log is a
failure. Runs that are done are not repeated.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.context_ablation import (  # noqa: E402
    Figures,
    bootstrap,
    make_data,
    read_detections,
    read_images,
    tool,
)
from deeplesion.engine.training_log import SCALARS_FILE, read_scalars  # noqa: E402
from deeplesion.io import write_json  # noqa: E402

CONFIG = ROOT / "configs/alignshift/mask-rcnn_alignshift-densenet-small_7x2mm_500it_synthetic.py"
PRECISIONS = {
    "float32": ("GuardedOptimWrapper", {"type": "TestLoop"}),
    "bfloat16": ("BFloat16OptimWrapper", {"type": "AutocastTestLoop", "dtype": "bfloat16"}),
    "float16": ("CPUFloat16OptimWrapper", {"type": "AutocastTestLoop", "dtype": "float16"}),
}
WARM_UP = 10  # one part in so many
EXAMPLE = """example:
  python benchmarks/precision.py --out work_dirs/precision --patients 160 --size 64 --iters 300
"""


def write_config(path: Path, precision: str, iters: int, batch_size: int) -> None:
    """Write the config of one precision."""
    wrapper, test_loop = PRECISIONS[precision]
    warm_up = max(1, iters // WARM_UP)
    path.write_text(
        f"""_base_ = {str(CONFIG)!r}
custom_imports = dict(imports=["deeplesion", "benchmarks.half_optim_wrapper"])
optim_wrapper = dict(type={wrapper!r})
test_cfg = dict(_delete_=True, **{test_loop!r})
train_dataloader = dict(batch_size={batch_size})
train_cfg = dict(max_iters={iters}, val_interval={iters})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end={warm_up}),
    dict(type="CosineAnnealingLR", by_epoch=False, begin={warm_up}, end={iters}, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval={iters}))
"""
    )


def run(precision: str, seed: int, data: Path, args: argparse.Namespace) -> Path:
    """Train and test in one precision with one seed; returns the folder of the run."""
    folder = args.out / f"{precision}_seed{seed}"
    if (folder / "predictions.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / f"{precision}.py", folder / "log.txt"
    write_config(config, precision, args.iters, args.batch_size)
    common = ["--work-dir", folder, "--data-root", data]
    tool("train.py", config, "--seed", seed, *common, threads=args.threads, log=log)
    checkpoint = (folder / "last_checkpoint").read_text().strip()
    tool("test.py", config, checkpoint, *common, threads=args.threads, log=log)
    return folder


def read_losses(folder: Path) -> list[float]:
    """The loss of every iteration."""
    lines = read_scalars(folder / SCALARS_FILE)
    return [line["train/loss"] for line in lines if "train/loss" in line]


def markdown(table: dict[str, dict]) -> str:
    """The table as Markdown, in percent."""
    lines = [
        "| trained in | mean sensitivity | steps with a loss that is not finite |",
        "|---|---|---|",
    ]
    for precision, row in table.items():
        mean, low, high = (100 * row[name] for name in Figures._fields)
        lines.append(f"| {precision} | {mean:.1f} ({low:.1f}-{high:.1f}) | {row['not_finite']} |")
    return "\n".join(lines) + "\n"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/precision"))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--size", type=int, default=64, help="pixels of a slice's side")
    parser.add_argument("--iters", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--data-seed", type=int, default=0, help="of data set and bootstrap")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns 1 where a precision falls out of float32's interval."""
    args = parse_args(argv)
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    data = make_data(args.out, args.patients, args.data_seed, args.size)
    images = read_images(data)
    table = {}
    for precision in tqdm(args.precisions, desc="precisions"):
        folders = [run(precision, seed, data, args) for seed in args.seeds]
        found = [read_detections(each / "predictions.json", list(images)) for each in folders]
        figures = bootstrap(found, list(images.values()), args.replicates, args.data_seed)
        losses = [loss for folder in folders for loss in read_losses(folder)]
        bad = sum(not math.isfinite(loss) for loss in losses)
        table[precision] = {**figures._asdict(), "not_finite": bad, "steps": len(losses)}
    settings = {name: str(value) for name, value in vars(args).items()}
    write_json(args.out / "precision.json", {"settings": settings, "table": table})
    text = markdown(table)
    (args.out / "precision.md").write_text(text)
    print(text)
    return 0 if holds(table) else 1


def holds(table: dict[str, dict]) -> bool:
    """Whether every precision stayed finite and within float32's interval, where that is known."""
    low, high = (table.get("float32", {}).get(name, math.nan) for name in ("low", "high"))
    return not any(
        row["not_finite"] or row["mean"] < low or row["mean"] > high for row in table.values()
    )


if __name__ == "__main__":
    raise SystemExit(main())
