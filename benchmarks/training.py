"""What a whole training step costs: images a second, waiting for data, memory, hours an epoch.

Trains the papers' detector by `tools/train.py`, its data pipeline in the loop, for a few steps in
every combination of slices, batch size, precision and compilation, and reads what the training
logs of itself. The first steps, which warm up, compile and fill the workers' queues, are left out.
Slices are those of a phantom data set that this script makes, or of --data-root. Runs that are done
are not repeated.

Precisions: `float32` in full; `tf32` lets the GPU round factors, as PyTorch by itself does for
convolutions only; `half` is `--amp`: bfloat16, or float16 where the device has none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.context_ablation import make_data, tool  # noqa: E402
from deeplesion.engine.summary import JSON_FILE, MIB_PER_GIB  # noqa: E402
from deeplesion.engine.training_log import SCALARS_FILE, read_scalars  # noqa: E402
from deeplesion.io import atomic_write, write_json  # noqa: E402

CONFIG = "configs/alignshift/mask-rcnn_alignshift-densenet121_{}x2mm_20e_deeplesion.py"
EPOCH_IMAGES = 22_478  # key slices of DeepLesion's training split
SECONDS_PER_HOUR = 3600
# What NVIDIA's libraries are told.
TF32 = {
    "float32": {"NVIDIA_TF32_OVERRIDE": "0"},
    "tf32": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    "half": {},
}
EXAMPLE = """examples:
  python benchmarks/training.py --out work_dirs/training
  python benchmarks/training.py --slices 3 7 --batch-sizes 2 8 --precisions float32 tf32 half \\
      --compiled no yes --workers 8 --steps 100
"""


@dataclass(frozen=True)
class Setting:
    """One way to train."""

    slices: int
    batch_size: int
    precision: str
    compiled: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        how = "compiled" if self.compiled == "yes" else "eager"
        return f"{self.slices}slices_batch{self.batch_size}_{self.precision}_{how}"


@dataclass(frozen=True)
class Cost:
    """What a way to train costs.

    Attributes:
        step: Seconds of a step, waiting for data included; median.
        data_share: Share of the time of all steps that was spent waiting for data.
        images_per_second: By the median step.
        gpu_gib: Peak memory of tensors on the GPU; 0 without one.
        ram_gib: Peak resident memory of the training process, without its data workers.
    """

    step: float
    data_share: float
    images_per_second: float
    gpu_gib: float
    ram_gib: float

    @property
    def epoch_hours(self) -> float:
        """Hours of an epoch of DeepLesion."""
        return EPOCH_IMAGES / self.images_per_second / SECONDS_PER_HOUR


def config_text(setting: Setting, steps: int, workers: int) -> str:
    """The config of a way to train: so many steps, nothing validated."""
    parts = ["backbone", "neck"] if setting.compiled == "yes" else []
    return f"""_base_ = {str(ROOT / CONFIG.format(setting.slices))!r}
model = dict(backbone=dict(init_cfg=None))
train_cfg = dict(_delete_=True, type="ResumableIterLoop", max_iters={steps})
val_cfg = val_dataloader = val_evaluator = None
param_scheduler = [dict(type="ConstantLR", factor=0.01, by_epoch=False, end={steps})]
train_dataloader = dict(
    batch_size={setting.batch_size}, num_workers={workers}, persistent_workers={workers > 0}
)
default_hooks = dict(checkpoint=dict(interval={steps}, save_best=None))
compile_parts = {parts!r}
"""


def run(setting: Setting, data: Path, args: argparse.Namespace) -> Path:
    """Train one way, unless that is done already; returns the folder of the run.

    Raises:
        SystemExit: If the training fails; it names its log.
    """
    folder = args.out / setting.name
    config, done, log = (folder / name for name in ("training.py", "done.txt", "log.txt"))
    text = config_text(setting, args.warm_up + args.steps, args.workers)
    what = f"{text}\n{data}\n{args.threads} threads\n"
    if done.exists() and done.read_text() == what:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    config.write_text(text)
    command = [config, "--work-dir", folder, "--data-root", data, "--seed", 0]
    command += ["--amp"] if setting.precision == "half" else []
    told = TF32[setting.precision]
    log.unlink(missing_ok=True)
    try:
        tool("train.py", *command, threads=args.threads, log=log, environment=told)
    except subprocess.CalledProcessError as error:
        message = f"error: {setting.name} exited with {error.returncode}: see {log}"
        raise SystemExit(message) from None
    done.write_text(what)
    return folder


def read_cost(folder: Path, setting: Setting, warm_up: int) -> Cost:
    """What the log of a run tells."""
    steps = [line for line in read_scalars(folder / SCALARS_FILE) if "train/time" in line][warm_up:]
    times = [step["train/time"] for step in steps]
    waits = [step["train/data_time"] for step in steps]
    summary = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
    peaks = (summary[name] / MIB_PER_GIB for name in ("gpu_peak_mib", "ram_peak_mib"))
    step = median(times)
    return Cost(step, sum(waits) / sum(times), setting.batch_size / step, *peaks)


def markdown(costs: dict[Setting, Cost]) -> str:
    """The costs as a table."""
    head = (
        "slices", "batch", "precision", "compiled", "step", "images/s", "waiting for data",
        "GPU memory", "memory", "epoch",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for setting, cost in costs.items():
        cells = (
            *map(str, asdict(setting).values()),
            f"{cost.step:.3g} s",
            f"{cost.images_per_second:.3g}",
            f"{cost.data_share:.1%}",
            f"{cost.gpu_gib:.1f} GiB" if cost.gpu_gib else "",
            f"{cost.ram_gib:.1f} GiB",
            f"{cost.epoch_hours:.3g} h",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/training"), help="folder of runs and table")
    add("--data-root", type=Path, help="a data set with masks_train.json; else a phantom")
    add("--slices", type=int, nargs="+", choices=(3, 7), default=[3, 7])
    add("--batch-sizes", type=int, nargs="+", default=[2], help="images of a step (2)")
    add("--precisions", nargs="+", choices=TF32, default=["float32"])
    add("--compiled", nargs="+", choices=("no", "yes"), default=["no"])
    add("--workers", type=int, default=2, help="data workers (2)")
    add("--threads", type=int, default=2, help="of PyTorch on a CPU (2)")
    add("--warm-up", type=int, default=3, help="steps that do not count (3)")
    add("--steps", type=int, default=12, help="steps that count (12)")
    add("--patients", type=int, default=16, help="of the phantom (16)")
    add("--size", type=int, default=512, help="height and width of its slices in px (512)")
    args = parser.parse_args(argv)
    at_least = {"steps": 1, "patients": 1, "threads": 1, "workers": 0, "warm_up": 0}
    for name, least in at_least.items():
        if getattr(args, name) < least:
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} must be >= {least}, got {getattr(args, name)}")
    if min(args.batch_sizes) < 1:
        parser.error(f"--batch-sizes must be >= 1, got {min(args.batch_sizes)}")
    if "tf32" in args.precisions and not torch.cuda.is_available():
        parser.error("--precisions tf32 is for GPUs, and PyTorch finds none here")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = parse_args(argv)
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    data = args.data_root or make_data(args.out, args.patients, seed=0, pixels=args.size)
    grid = product(args.slices, args.batch_sizes, args.precisions, args.compiled)
    costs = {}
    for setting in tqdm([Setting(*values) for values in grid], desc="trainings"):
        folder = run(setting, data.resolve(), args)
        costs[setting] = read_cost(folder, setting, args.warm_up)
    settings = {name: str(value) for name, value in vars(args).items()}
    rows = [asdict(setting) | asdict(cost) for setting, cost in costs.items()]
    write_json(args.out / "training.json", {"settings": settings, "rows": rows}, indent=2)
    with atomic_write(args.out / "training.md") as temporary:
        temporary.write_text(markdown(costs), encoding="utf-8")
    print(markdown(costs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
