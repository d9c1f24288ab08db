"""All that was promised of speed, measured in one run, with machine, versions and ratios.

Runs the benchmarks of the network, of the data pipeline, of FROC and of starting, and writes
``run.json`` and ``run.md``. Bars hold for two CPU cores with nothing else to do: the textbook
formulation of each part, which is in `benchmarks/baseline/`, takes turns with ours in the same run.

``--against CMD`` runs another implementation as well: a command that prints, as its last line, a
JSON object with seconds or MB under the keys of ``figures`` in ``run.json``, of as many as it has.

What the machine has no instructions for (bfloat16), or ``--only`` leaves out, is not measured, and
no bar is said to hold for it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks import froc, network, operators, pipeline  # noqa: E402
from benchmarks.figures import Figure, markdown, of_rounds  # noqa: E402
from benchmarks.measuring import Settings as OperatorSettings  # noqa: E402
from benchmarks.measuring import take_turns  # noqa: E402

EXAMPLE = """examples:
  python benchmarks/run.py --out work_dirs/benchmarks
  python benchmarks/run.py --only network --rounds 9
  python benchmarks/run.py --against "python /path/to/other/benchmark.py"
"""
Part = Callable[[argparse.Namespace], list[Figure]]


def _network(args: argparse.Namespace) -> list[Figure]:
    sizes = {"size": args.size, "training_size": max(args.size // 2, 32)}
    settings = network.Settings(
        **sizes, rounds=args.rounds, threads=args.threads, device=args.device
    )
    return network.figures(settings)


def _pipeline(args: argparse.Namespace) -> list[Figure]:
    settings = pipeline.Settings(args.data_root, args.size, rounds=args.rounds, rows=args.rows)
    return pipeline.figures(settings)


def _froc(args: argparse.Namespace) -> list[Figure]:
    given = froc.make_boxes(args.froc_images, froc.BOXES_PER_IMAGE, seed=0)
    steps = {"ours": lambda: froc.ours(*given), "textbook": lambda: froc.textbook(*given)}
    times = take_turns(steps, args.rounds, "froc")
    what = f"FROC of {args.froc_images} images, {froc.BOXES_PER_IMAGE} boxes each"
    ours, loop = times["ours"], times["textbook"]
    return [of_rounds("froc", what, ours, loop, "textbook", "speedup", froc.BAR_SPEEDUP)]


PARTS: dict[str, Part] = {"network": _network, "pipeline": _pipeline, "froc": _froc}


def run_against(command: str) -> dict[str, float]:
    """Run another implementation.

    Args:
        command: Prints a JSON object of numbers as its last line.

    Raises:
        SystemExit: If it fails or prints something else.
    """
    result = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"error: --against: {command!r} exited with {result.returncode}")
    lines = result.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(_is_number(value) for value in found.values()):
        raise SystemExit(
            "error: --against: the last line of the command must be a JSON object of numbers such "
            f'as {{"trunk_training_float32": 1.5}}, got {lines[-1] if lines else "nothing"!r}'
        )
    return {key: float(value) for key, value in found.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def beside(found: Sequence[Figure], theirs: Mapping[str, float]) -> str:
    """Our figures beside those of another implementation, as a table."""
    unknown = sorted(theirs.keys() - {figure.key for figure in found})
    lines = [f"not measured here: {', '.join(unknown)}", ""] if unknown else []
    lines += ["| what | ours | theirs | theirs / ours |", "|---|---|---|---|"]
    for f in found:
        if f.key in theirs:
            other = theirs[f.key]
            cells = (f"{f.ours:.3g} {f.unit}", f"{other:.3g} {f.unit}", f"{other / f.ours:.2f}")
            lines.append(f"| {f.what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def summary(found: Sequence[Figure]) -> str:
    """How many bars hold, and which do not."""
    held = [figure for figure in found if figure.holds is not None]
    missed = [f"{f.what}: {f.value:.2f} of {f.bar:g}" for f in held if not f.holds]
    text = f"{len(held) - len(missed)} of {len(held)} measured bars hold"
    return text + ("; missed: " + "; ".join(missed) if missed else "")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/benchmarks"), help="folder of the tables")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    add("--against", metavar="CMD", help="command that runs another implementation")
    add("--rounds", type=int, default=5, help="rounds of everything (5)")
    add("--threads", type=int, default=2, help="threads of PyTorch (2)")
    add("--device", default="cpu", help="of the network: cpu or cuda")
    add("--size", type=int, default=512, help="height and width of slices in px (512)")
    add("--data-root", type=Path, help="data set with masks for the pipeline; else a phantom")
    add("--rows", type=int, default=pipeline.Settings().rows, help="of the annotation file")
    add("--froc-images", type=int, default=froc.TEST_IMAGES, help="images of FROC")
    args = parser.parse_args(argv)
    for name in ("rounds", "threads", "size", "rows", "froc_images"):
        if getattr(args, name) < 1:
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} must be >= 1, got {getattr(args, name)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit code."""
    args = parse_args(argv)
    theirs = run_against(args.against) if args.against else {}
    found = [figure for name in args.only for figure in PARTS[name](args)]
    on = OperatorSettings(threads=args.threads, device=args.device)
    machine: dict[str, Any] = operators.machine(on)
    text = "\n".join(
        [
            f"{machine['cpu']}, {args.threads} threads, PyTorch {torch.__version__}.",
            "",
            markdown(found),
            summary(found),
            *(["", f"Against `{args.against}`:", "", beside(found, theirs)] if theirs else []),
        ]
    )
    record = {
        "machine": machine,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "figures": {figure.key: figure.record() for figure in found},
        "against": theirs,
    }
    write_json(args.out / "run.json", record, indent=2)
    with atomic_write(args.out / "run.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"\nwritten to {args.out}/run.json and run.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
