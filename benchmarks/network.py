"""What the papers' network costs: the trunk alone, in training, and in the whole detector.

The truncated DenseNet-121 with AlignShift is compared with itself written the textbook way
(`benchmarks/baseline/densenet.py`: contiguous ``conv3d``, slice assignments, a concatenation per
layer) and with itself without slice mixing, all with the same weights; that ours and the textbook's
give the same is checked first. Each contestant has a process of its own, as a user would run it,
so that what one does to malloc is nothing to the others. Ours keeps what it frees, as
`tools/train.py`, `test.py` and `detect.py` have it; of the textbook way there are both: as PyTorch
runs it by itself, which the bars are of, and keeping what it frees too.

They take turns, in another order each round: figures are medians over rounds of the ratio, with
quartiles. What mixing costs is a tenth, as much as a machine's speed may change from one step to
the next: it is measured in five times as many rounds, of two contestants.

Evaluation runs under `torch.inference_mode`; training is forward, sum and backward. Memory is the
peak during a training step above what stood before it, in a process which gives back what it frees.
bfloat16 means autocast, against the textbook way in float32, on processors that have instructions
for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.contestants import (  # noqa: E402
    BFLOAT16,
    OURS,
    RECOMPUTED,
    UNMIXED,
    Settings,
    build,
    has_bfloat16,
    random_inputs,
    worker,
)
from benchmarks.figures import Figure, markdown, of_rounds  # noqa: E402
from benchmarks.measuring import take_turns  # noqa: E402
from benchmarks.worker import TEXTBOOK, TEXTBOOK_KEEPING  # noqa: E402

TOLERANCE = 1e-4  # of the largest value
MEGABYTE = 1e6
MIXING_BAR = 1.10
MIXING_ROUNDS = 5  # times those of the settings
Times = dict[str, list[float]]


def figures(settings: Settings | None = None) -> list[Figure]:
    """Measure everything.

    Raises:
        RuntimeError: If ours and the textbook way differ by more than rounding.
    """
    settings = settings or Settings()
    check_same(settings)
    return [
        *evaluation(settings),
        *training(settings),
        *memory(settings),
        *detector(settings),
    ]


def check_same(settings: Settings) -> None:
    """See that ours and the textbook's give the same maps.

    Raises:
        RuntimeError: If they do not.
    """
    inputs = random_inputs(1, 3, 64, settings.device)
    with torch.inference_mode():
        maps = [build(name, settings.device).eval()(*inputs) for name in (OURS, TEXTBOOK)]
    for ours, theirs in zip(*maps, strict=True):
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        if not difference <= TOLERANCE:
            raise RuntimeError(f"ours and the textbook way differ by {difference:.2g}")


def measure(part: str, names: Sequence[str], settings: Settings) -> Times:
    """Seconds of contestants, round by round, each in a process of its own."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(part, name, settings)) for name in names}
        steps = {name: process.turn for name, process in workers.items()}
        return take_turns(steps, settings.rounds, part)


def evaluation(settings: Settings) -> list[Figure]:
    """The trunk in evaluation."""
    what = f"trunk, evaluation, 7 x {settings.size} x {settings.size}"
    return _trunk("evaluation", what, settings, (2.2, 4.5))


def training(settings: Settings) -> list[Figure]:
    """The trunk in training."""
    size = settings.training_size
    what = f"trunk, training step, 2 x 3 x {size} x {size}"
    return _trunk("training", what, settings, (2.3, 3.5))


def _trunk(part: str, what: str, settings: Settings, bars: tuple[float, float]) -> list[Figure]:
    """Figures of a way to use the trunk; the bars are of float32 and of bfloat16."""
    half = [BFLOAT16] if has_bfloat16(settings.device) else []
    times = measure(part, [OURS, TEXTBOOK, TEXTBOOK_KEEPING, *half], settings)
    more = replace(settings, rounds=MIXING_ROUNDS * settings.rounds)
    pair = measure(part, [OURS, UNMIXED], more)
    key = f"trunk_{part}"
    mixing = of_rounds(
        f"{key}_mixing", f"{what}: slice mixing", pair[OURS], pair[UNMIXED], UNMIXED, "share",
        MIXING_BAR,
    )  # fmt: skip
    found = [*_speedups(f"{key}_float32", what, times, bars[0]), mixing]
    if half:
        found.append(
            of_rounds(
                f"{key}_bfloat16", f"{what}, bfloat16", times[BFLOAT16], times[TEXTBOOK], TEXTBOOK,
                "speedup", bars[1],
            )
        )  # fmt: skip
    return found


def _speedups(key: str, what: str, times: Times, bar: float) -> list[Figure]:
    """Ours beside the textbook way, as it is and keeping what it frees."""
    return [
        of_rounds(key, what, times[OURS], times[TEXTBOOK], TEXTBOOK, "speedup", bar),
        of_rounds(
            f"{key}_keeping", what, times[OURS], times[TEXTBOOK_KEEPING], TEXTBOOK_KEEPING,
            "speedup",
        ),
    ]  # fmt: skip


def memory(settings: Settings) -> list[Figure]:
    """Peak memory of the training step, with and without recomputation."""
    peaks = {name: peak_apart(name, settings) for name in (OURS, RECOMPUTED, TEXTBOOK)}
    bars = {OURS: ("memory", "", 0.7), RECOMPUTED: ("memory_recomputed", ", recomputed", 0.4)}
    return [
        Figure(
            key,
            f"trunk, peak memory of the training step{how}",
            "MB",
            peaks[name] / MEGABYTE,
            peaks[TEXTBOOK] / MEGABYTE,
            TEXTBOOK,
            "share",
            bar,
        )
        for name, (key, how, bar) in bars.items()
    ]


def peak_apart(name: str, settings: Settings) -> int:
    """Bytes at the peak of a training step of a contestant, in a process of its own."""
    with worker("memory", name, settings) as process:
        return int(process.turn()["bytes"])


def detector(settings: Settings) -> list[Figure]:
    """One evaluation step of the whole detector: preprocessing, network, boxes and masks."""
    times = measure("detector", [OURS, TEXTBOOK, TEXTBOOK_KEEPING], settings)
    what = f"whole detector, evaluation, 7 x {settings.size} x {settings.size}"
    return _speedups("detector_float32", what, times, 2.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/network.py --out work_dirs/network --threads 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/network"), help="folder of the tables")
    for name, default in asdict(Settings()).items():
        add(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = vars(parser.parse_args(argv))
    settings = Settings(**{name: args[name] for name in asdict(Settings())})
    found = figures(settings)
    write_json(args["out"] / "network.json", [figure.record() for figure in found], indent=2)
    with atomic_write(args["out"] / "network.md") as temporary:
        temporary.write_text(markdown(found), encoding="utf-8")
    print(markdown(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
