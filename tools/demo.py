"""The whole way on synthetic data: make it, make masks, train, evaluate by FROC, draw overlays.

Each step is one of the other tools, called as you would call it; the commands are printed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
CONFIG = (
    TOOLS.parent / "configs/alignshift/mask-rcnn_alignshift-densenet-small_7x2mm_500it_synthetic.py"
)
# What the default schedule reaches: mean sensitivity at 0.5, 1, 2 and 4 false positives per image.
PROMISED_MEAN = 0.85
EXAMPLE = """example:
  python tools/demo.py --work-dir work_dirs/demo
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    parser.add_argument("--config", type=Path, default=CONFIG, help="config to train")
    parser.add_argument("--patients", type=int, default=250, help="patients of the data set")
    parser.add_argument("--size", type=int, default=128, help="pixels of a slice's side")
    parser.add_argument("--iters", type=int, help="training iterations (default: the config's)")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of the training")
    return parser.parse_args(argv)


def call(tool: str, *arguments: str | Path) -> None:
    """Print and run a tool; raises ``CalledProcessError`` where it fails."""
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    print(f"\n$ {shlex.join(['python', f'tools/{tool}', *map(str, arguments)])}", flush=True)
    subprocess.run(command, check=True)


def schedule_options(iters: int | None) -> list[str]:
    """``--cfg-options`` that shorten the schedule, its warm-up and its decay with it."""
    if iters is None:
        return []
    warm_up = max(1, min(50, iters // 10))
    return [
        "--cfg-options",
        f"train_cfg.max_iters={iters}",
        f"train_cfg.val_interval={iters}",
        f"default_hooks.checkpoint.interval={iters}",
        f"param_scheduler.0.end={warm_up}",
        f"param_scheduler.1.begin={warm_up}",
        f"param_scheduler.1.end={iters}",
    ]


def keeps_promise(froc_file: Path) -> bool:
    """Compare the mean sensitivity with the promised one; says so where it is below."""
    mean = json.loads(froc_file.read_text())["metrics"]["mean"]
    # NaN (no lesions) is below, too.
    if mean is not None and mean >= PROMISED_MEAN:
        return True
    print(
        f"warning: the mean sensitivity is {mean}, below the {PROMISED_MEAN} that this schedule "
        "reaches on the default data",
        file=sys.stderr,
    )
    return False


def demo(args: argparse.Namespace) -> bool:
    """Run all steps; returns whether the detector is as good as it should be."""
    start = time.perf_counter()
    data, run = args.work_dir / "data", args.work_dir / "run"
    overlays = args.work_dir / "overlays"
    size = ["--patients", args.patients, "--size", args.size, "--seed", args.seed]
    call("make_synthetic.py", "--out", data, *map(str, size), "--overwrite")
    call("make_masks.py", "--data-root", data, "--split", "train")
    options = schedule_options(args.iters)
    seed = ["--seed", str(args.seed)]
    call("train.py", args.config, "--work-dir", run, "--data-root", data, *seed, *options)
    checkpoint = Path((run / "last_checkpoint").read_text().strip())
    show = ["--show-dir", overlays, "--show-max", "12"]
    call("test.py", args.config, checkpoint, "--work-dir", run, "--data-root", data, *show)
    minutes = (time.perf_counter() - start) / 60
    print(f"\nThe demo took {minutes:.1f} minutes. Look at")
    print(f"  {run / 'froc.png'}   the FROC curve")
    print(f"  {run / 'froc.json'}   its figures")
    print(f"  {overlays}   found, missed and false, slice by slice")
    return args.iters is not None or keeps_promise(run / "froc.json")


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        good = demo(args)
    except subprocess.CalledProcessError as error:
        print(f"error: {Path(error.cmd[1]).name} failed, see above", file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
