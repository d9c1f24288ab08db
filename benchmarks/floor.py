"""Where the time of a training step goes, and what no way to compute it comes below.

The floor of a step is its convolutions alone, at the rate of this machine's large products of
matrices: what lies between convolutions costs nothing there, and no memory is waited for. The
textbook way's time over the floor is therefore the most that ours could ever gain on it, however
it were written (short of algorithms with fewer multiplications, such as Winograd's).

A step of each is also taken apart by `torch.profiler`, by kinds of operators. The rest, of the time
that a step takes without the profiler, is Python, views, dispatch and other operators.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from deeplesion.engine.malloc import keep_freed_memory
from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.contestants import OURS, UNMIXED, Settings, Step, make_step  # noqa: E402
from benchmarks.measuring import take_turns  # noqa: E402
from benchmarks.worker import TEXTBOOK_KEEPING  # noqa: E402

NAMES = (OURS, UNMIXED, TEXTBOOK_KEEPING)
PRODUCTS, BETWEEN, COPIES = "convolutions and products", "norms, ReLUs, sums", "copies, mixing"
REST, ALL = "the rest", "all"
KINDS = (PRODUCTS, BETWEEN, COPIES, REST)
# By what their names contain; the first that fits.
OPERATORS = {
    PRODUCTS: ("convolution", "::mm"),
    BETWEEN: ("norm", "addcmul", "threshold", "clamp", "relu", "sum", "::add", "::sub", "::mul"),
    COPIES: ("copy", "lerp", "cat", "fill", "clone"),
}
MATRIX = 2048
MICROSECONDS, GIGA = 1e6, 1e9


def kind_of(operator: str) -> str:
    """The kind of an operator by its name, such as ``aten::mm``."""
    for kind, words in OPERATORS.items():
        if operator.startswith("aten::") and any(word in operator for word in words):
            return kind
    return REST


def product_rate(device: str, rounds: int) -> float:
    """Floating point operations a second of a large product of matrices."""
    a, b = torch.rand(2, MATRIX, MATRIX, device=device)
    out = torch.empty_like(a)
    steps = {"product": lambda: torch.mm(a, b, out=out)}
    return 2 * MATRIX**3 / min(take_turns(steps, rounds, "product")["product"])


def count(step: Step) -> int:
    """Floating point operations of the convolutions of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def seconds_by_kind(step: Step) -> dict[str, float]:
    """Seconds of a step, without the profiler, and of the kinds of its operators, with it."""
    start = time.perf_counter()
    step()
    found = {ALL: time.perf_counter() - start} | dict.fromkeys(KINDS, 0.0)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    for event in profiler.key_averages():
        found[kind_of(event.key)] += event.self_cpu_time_total / MICROSECONDS
    # The profiler makes many small operators seem slow.
    found[REST] = found[ALL] - sum(found[kind] for kind in KINDS if kind != REST)
    return found


@dataclass(frozen=True)
class Floor:
    """What was measured.

    Attributes:
        operations: Floating point operations of a step's convolutions.
        rate: Of products of matrices, in operations a second.
        seconds: Of a step, by contestant, and of it by kind; medians.
    """

    operations: int
    rate: float
    seconds: dict[str, dict[str, float]]

    @property
    def floor(self) -> float:
        """Seconds that the convolutions of a step take at that rate."""
        return self.operations / self.rate

    def most(self) -> float:
        """How many times faster than the textbook way a step could be."""
        return self.seconds[TEXTBOOK_KEEPING][ALL] / self.floor

    def markdown(self) -> str:
        """A table, and what follows from it."""
        rows = [("a training step, s", *self.seconds), ("---",) * (len(self.seconds) + 1)]
        for kind in (*KINDS, ALL):
            rows.append((kind, *(f"{each[kind]:.2f}" for each in self.seconds.values())))
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return (
            f"{table}\n\n{self.operations / GIGA:.0f} GFLOP at {self.rate / GIGA:.0f} GFLOP/s take "
            f"{self.floor:.2f} s: a step can be {self.most():.2f} times as fast as the textbook "
            "way's at most.\n"
        )


def measure(settings: Settings) -> Floor:
    """Measure all of it; malloc keeps what is freed, here and from now on."""
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    steps = {name: make_step("training", name, settings) for name in NAMES}
    rounds = [
        {name: seconds_by_kind(step) for name, step in steps.items()}
        for _ in tqdm(range(settings.rounds + 1), desc="training", file=sys.stderr)
    ][1:]  # the first one warms up
    seconds = {
        name: {kind: median(each[name][kind] for each in rounds) for kind in (*KINDS, ALL)}
        for name in NAMES
    }
    rate = product_rate(settings.device, settings.rounds)
    return Floor(count(steps[OURS]), rate, seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/floor.py --out work_dirs/floor --threads 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, given = parser.add_argument, Settings()
    add("--out", type=Path, default=Path("work_dirs/floor"), help="folder of the table")
    add("--size", type=int, default=given.training_size, help="height and width in px (256)")
    add("--rounds", type=int, default=given.rounds, help="of everything (5)")
    add("--threads", type=int, default=given.threads, help="of PyTorch (2)")
    args = parser.parse_args(argv)
    for name in ("size", "rounds", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(args, name)}")
    settings = Settings(training_size=args.size, rounds=args.rounds, threads=args.threads)
    found = measure(settings)
    write_json(args.out / "floor.json", asdict(found), indent=2)
    with atomic_write(args.out / "floor.md") as temporary:
        temporary.write_text(found.markdown(), encoding="utf-8")
    print(found.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
