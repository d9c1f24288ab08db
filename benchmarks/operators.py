"""What each operator costs: time and memory of a whole network, against two others.

Each operator is put into a 2D network by `alignshift.convert_to_3d` and measured, on random
volumes of 3 channels (so that the first convolution is the same one), against

- the plain 2D network on the same N * D slices, in channels_last and, as it comes, contiguous;
- the textbook formulation (`benchmarks/baseline/resnet.py`): contiguous ``conv3d`` with 1 x k x k
  kernels and slice assignments. That both give the same output is checked first.

Converted networks and their volumes are as a user has them: contiguous. Contestants take turns, in
another order each round, and each is compared with the others of its round, so that a machine that
slows down slows all of them down: figures are the median over rounds, with quartiles. Forward runs
in eval mode under `torch.inference_mode`; training is forward, sum and backward. bfloat16 means
autocast.

Beware of two things on a CPU. With one thread, PyTorch sends 1 x 1 convolutions of fewer than 16
slices past oneDNN, which takes twice as long whoever asks. And glibc gives large tensors back to
the system, to fault them in again in the next layer, more or less often depending on what ran
before: the variables of malloc(3) in the example keep them, as allocators made for such work do.
Where others use the machine, ``--clock cpu --threads 1 --batch 3`` still gives steady figures.

Memory is the peak during a step above what stood before it (network and volume), of each
contestant in a process of its own, in its second step. On a GPU it is what PyTorch had allocated.
On a CPU it is the peak of the resident set, scratch memory of oneDNN included, which Linux can
reset; malloc is told to give back every freed tensor, so that it is what was in use at a time
rather than what malloc kept for later.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from tqdm import tqdm

from alignshift import OPERATORS
from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.measuring import (  # noqa: E402
    CHANNELS_LAST,
    CLOCKS,
    CONTIGUOUS,
    MODES,
    TEXTBOOK_SUFFIX,
    Settings,
    build,
    compare_outputs,
    contestant_names,
    measure_memory,
    measure_times,
)

HEADER = (
    "| | ms | x 2D (channels_last) | x 2D (contiguous) | faster than textbook | peak MB "
    "| x 2D (channels_last) | x textbook |"
)
MEGABYTE = 1e6
BAR_OPERATOR, BAR_COST, BAR_SPEEDUP = "AlignShiftConv", 1.10, 1.8
BAR_SETTINGS = {
    "network": "resnet50",
    "slices": 7,
    "size": 256,
    "dtype": "float32",
    "compile": False,
}
# What decides how memory is taken from the system, and with it how long a step takes.
MALLOC_VARIABLES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
EXAMPLE = """example:
  python benchmarks/operators.py --out work_dirs/operators --threads 2
  MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 \\
    python benchmarks/operators.py --out work_dirs/operators --threads 2
  python benchmarks/operators.py --out work_dirs/operators_gpu --device cuda --dtype bfloat16
"""


class Ratio(NamedTuple):
    """Median over rounds of the ratio of two contestants, and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """The median, and the quartiles in brackets."""
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


class Row(NamedTuple):
    """Figures of an operator, or of the 2D network, in one mode."""

    milliseconds: float
    cost: Ratio
    cost_to_contiguous: Ratio
    speedup: Ratio | None
    megabytes: float
    memory: float
    memory_to_textbook: float | None


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Ratio of two contestants, round by round."""
    low, median, high = np.percentile(np.divide(times, reference), [25, 50, 75])
    return Ratio(float(median), float(low), float(high))


def make_row(name: str, times: Mapping[str, list[float]], peaks: Mapping[str, int]) -> Row:
    """Compare one contestant with the others."""
    textbook = name + TEXTBOOK_SUFFIX
    known = textbook in times
    return Row(
        milliseconds=1e3 * float(np.median(times[name])),
        cost=ratio(times[name], times[CHANNELS_LAST]),
        cost_to_contiguous=ratio(times[name], times[CONTIGUOUS]),
        speedup=ratio(times[textbook], times[name]) if known else None,
        megabytes=peaks[name] / MEGABYTE,
        memory=peaks[name] / peaks[CHANNELS_LAST],
        memory_to_textbook=peaks[name] / peaks[textbook] if known else None,
    )


def measure(settings: Settings) -> tuple[dict[str, dict[str, Row]], dict[str, float]]:
    """Run the benchmark.

    Returns:
        Rows of each mode, and how far the outputs are from those of the textbook formulation.
    """
    names = contestant_names(settings)
    found = [measure_memory(n, settings) for n in tqdm(names, desc="memory", file=sys.stderr)]
    field = {name: build(name, settings) for name in names}
    differences = compare_outputs(field, settings)
    rows = [name for name in names if not name.endswith(TEXTBOOK_SUFFIX)]
    table = {}
    for mode in MODES:
        times = measure_times(field, mode, settings)
        peaks = {name: peak[mode] for name, peak in zip(names, found, strict=True)}
        table[mode] = {name: make_row(name, times, peaks) for name in rows}
    return table, differences


def machine(settings: Settings) -> dict[str, str | int]:
    """What it was measured on."""
    cpu_info = Path("/proc/cpuinfo")
    models = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    cpu = [line.split(":", 1)[1].strip() for line in models if line.startswith("model name")]
    found: dict[str, str | int] = {
        "machine": platform.platform(),
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count() or 0,
        "threads": settings.threads,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    found |= {k: v for k, v in os.environ.items() if k.startswith(MALLOC_VARIABLES)}
    if settings.on_gpu:
        found["gpu"] = torch.cuda.get_device_name(settings.device)
    return found


def markdown(table: Mapping[str, Mapping[str, Row]]) -> str:
    """The tables as Markdown."""
    lines = []
    for mode, rows in table.items():
        lines += [f"**{mode.capitalize()}**", "", HEADER, "|---" * (HEADER.count("|") - 1) + "|"]
        for name, row in rows.items():
            cells = [
                name,
                f"{row.milliseconds:.0f}",
                str(row.cost),
                str(row.cost_to_contiguous),
                "" if row.speedup is None else str(row.speedup),
                f"{row.megabytes:.0f}",
                f"{row.memory:.2f}",
                "" if row.memory_to_textbook is None else f"{row.memory_to_textbook:.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def bars(table: Mapping[str, Mapping[str, Row]], settings: Settings) -> list[str]:
    """Whether the bars hold, a line each; nothing where something else was measured."""
    measured = asdict(settings)
    if settings.on_gpu or any(measured[name] != value for name, value in BAR_SETTINGS.items()):
        return []
    lines = []
    for mode, rows in table.items():
        row = rows.get(BAR_OPERATOR)
        if row is not None and row.speedup is not None:
            cost, speedup = row.cost.median, row.speedup.median
            for figure, holds, bar in (
                (f"{cost:.2f} x its 2D self", cost <= BAR_COST, f"<= {BAR_COST:.2f}"),
                (
                    f"{speedup:.2f} x textbook speed",
                    speedup >= BAR_SPEEDUP,
                    f">= {BAR_SPEEDUP:.1f}",
                ),
            ):
                verdict = "holds" if holds else "MISSED"
                lines.append(f"bar: {BAR_OPERATOR}, {mode}: {figure} ({bar}): {verdict}")
    return lines


def parse_args(argv: list[str] | None = None) -> tuple[Settings, Path]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/operators"), help="folder of the tables")
    add("--network", default="resnet50", help="a classification model of torchvision")
    add("--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS))
    add("--slices", type=int, default=7)
    add("--size", type=int, default=256, help="of a slice, in px")
    add("--batch", type=int, default=1, help="volumes")
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--device", default="cpu")
    add("--compile", action="store_true", help="by torch.compile, every contestant")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--clock", choices=CLOCKS, default="wall", help="cpu: time of the process, on one thread")
    add("--repeat", type=int, default=9, help="rounds")
    args = vars(parser.parse_args(argv))
    known = torchvision.models.list_models(module=torchvision.models)
    if args["network"] not in known:
        parser.error(f"--network must be one of {', '.join(known)}, got {args['network']!r}")
    for name in ("slices", "size", "batch", "threads", "repeat"):
        if args[name] < 1:
            parser.error(f"--{name} must be >= 1, got {args[name]}")
    if args["clock"] == "cpu" and (args["threads"] > 1 or args["device"] != "cpu"):
        parser.error("--clock cpu needs --threads 1 and --device cpu: waiting would count as work")
    out: Path = args.pop("out")
    return Settings(**{**args, "operators": tuple(args["operators"])}), out


def save(out: Path, text: str, content: Mapping[str, Any]) -> None:
    """Write the tables as Markdown and JSON."""
    write_json(out / "operators.json", content, indent=2)
    with atomic_write(out / "operators.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    settings, out = parse_args(argv)
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.benchmark = True
    table, differences = measure(settings)
    where = machine(settings)
    verdicts = bars(table, settings)
    about = [f"{name}: {value}" for name, value in {**where, **asdict(settings)}.items()]
    text = "\n".join([markdown(table), *verdicts, "", *about]) + "\n"
    rows = {mode: {name: _plain(row) for name, row in rows.items()} for mode, rows in table.items()}
    content = {
        "machine": where,
        "settings": asdict(settings),
        "difference_from_textbook": differences,
        "table": rows,
        "bars": verdicts,
    }
    save(out, text, content)
    print(text)
    print(f"tables are in {out}")
    return 0


def _plain(row: Row) -> dict[str, Any]:
    figures = row._asdict()
    return {k: v._asdict() if isinstance(v, Ratio) else v for k, v in figures.items()}


if __name__ == "__main__":
    raise SystemExit(main())
