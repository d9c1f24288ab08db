"""What the papers' network costs: the trunk alone, in training, and in the whole detector.

The truncated DenseNet-121 with AlignShift is compared with itself written the textbook way
(`benchmarks/baseline/densenet.py`: contiguous ``conv3d``, slice assignments, a concatenation per
layer) and with itself without slice mixing, all with the same weights; that ours and the textbook's
give the same is checked first. They take turns, in another order each round: figures are medians
over rounds of the ratio, with quartiles. Evaluation runs under `torch.inference_mode`; training is
forward, sum and backward. Memory is the peak during a training step above what stood before it, of
each in a process of its own, which gives back what it frees. bfloat16 means autocast, against the
textbook way in float32, on processors that have instructions for it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from alignshift import TruncatedDenseNet3d
from deeplesion.io import atomic_write, write_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.baseline.densenet import TextbookDenseNet  # noqa: E402
from benchmarks.figures import Figure, markdown, of_rounds  # noqa: E402
from benchmarks.measuring import RETURN_FREED, peak_bytes, take_turns  # noqa: E402

OURS, RECOMPUTED, UNMIXED, TEXTBOOK = "ours", "ours, recomputed", "without mixing", "textbook"
TOLERANCE = 1e-4  # of the largest value
MEGABYTE = 1e6
DETECTOR = "configs/alignshift/mask-rcnn_alignshift-densenet121_7x2mm_20e_deeplesion.py"
Step = Callable[[], object]


@dataclass(frozen=True)
class Settings:
    """What is measured, and where.

    Attributes:
        size: Height and width of slices in evaluation, in px.
        training_size: In training.
        rounds: Of everything.
        threads: Of PyTorch.
        device: ``cpu`` or ``cuda``.
    """

    size: int = 512
    training_size: int = 256
    rounds: int = 5
    threads: int = 2
    device: str = "cpu"


def figures(settings: Settings | None = None) -> list[Figure]:
    """Measure everything.

    Raises:
        RuntimeError: If ours and the textbook way differ by more than rounding.
    """
    settings = settings or Settings()
    torch.set_num_threads(settings.threads)
    check_same(settings)
    return [
        *evaluation(settings),
        *training(settings),
        *memory(settings),
        *detector(settings),
    ]


def build(name: str, device: str = "cpu") -> nn.Module:
    """A contestant, always with the same weights."""
    torch.manual_seed(0)
    ours = TruncatedDenseNet3d(memory_efficient=name == RECOMPUTED)
    if name in (OURS, RECOMPUTED):
        return ours.to(device)
    other = TextbookDenseNet() if name == TEXTBOOK else TruncatedDenseNet3d(operator=None)
    other.load_state_dict(ours.state_dict())
    return other.to(device)


def evaluation_inputs(settings: Settings) -> tuple[Tensor, Tensor]:
    """Seven slices of 5 mm."""
    size = settings.size
    return random_inputs(1, 7, size, settings.device)


def training_inputs(settings: Settings) -> tuple[Tensor, Tensor]:
    """Two stacks of three slices."""
    return random_inputs(2, 3, settings.training_size, settings.device)


def random_inputs(batch: int, depth: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    """Seeded noise and a thickness at which AlignShift blends slices."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(batch, 1, depth, size, size, generator=generator)
    return volume.to(device), torch.full((batch,), 5.0, device=device)


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


def evaluate(network: nn.Module, inputs: tuple[Tensor, Tensor], bfloat16: bool) -> None:
    """One forward in evaluation mode, to its end on the device."""
    kind = inputs[0].device.type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
        network(*inputs)
    _wait(kind)


def train(network: nn.Module, inputs: tuple[Tensor, Tensor], bfloat16: bool) -> None:
    """One training step without an optimizer; no gradients stay."""
    kind = inputs[0].device.type
    with torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
        maps = network(*inputs)
    sum((level.float().sum() for level in maps), torch.zeros(())).backward()
    network.zero_grad()
    _wait(kind)


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()


def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16, rather than emulate it."""
    if device != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text()


def _field(settings: Settings, function: Callable[..., None], training: bool) -> dict[str, Step]:
    """A step of each contestant, ours in bfloat16 too where the device has it."""
    inputs = (training_inputs if training else evaluation_inputs)(settings)
    networks = {name: build(name, settings.device).train(training) for name in _NAMES}
    field: dict[str, Step] = {
        name: partial(function, network, inputs, False) for name, network in networks.items()
    }
    if has_bfloat16(settings.device):
        field["bfloat16"] = partial(function, networks[OURS], inputs, True)
    return field


_NAMES = (OURS, UNMIXED, TEXTBOOK)


def _compare(
    key: str, what: str, times: dict[str, list[float]], bars: tuple[float, float]
) -> list[Figure]:
    """Figures of a way to use the trunk; the bars are of float32 and of bfloat16."""
    ours, textbook = times[OURS], times[TEXTBOOK]
    found = [
        of_rounds(f"{key}_float32", what, ours, textbook, TEXTBOOK, "speedup", bars[0]),
        of_rounds(
            f"{key}_mixing", f"{what}: slice mixing", ours, times[UNMIXED], UNMIXED, "share", 1.10
        ),
    ]
    if "bfloat16" in times:
        half = f"{what}, bfloat16"
        found.append(
            of_rounds(
                f"{key}_bfloat16", half, times["bfloat16"], textbook, TEXTBOOK, "speedup", bars[1]
            )
        )
    return found


def evaluation(settings: Settings) -> list[Figure]:
    """The trunk in evaluation."""
    what = f"trunk, evaluation, 7 x {settings.size} x {settings.size}"
    times = take_turns(_field(settings, evaluate, False), settings.rounds, "evaluation")
    return _compare("trunk_evaluation", what, times, (2.2, 4.5))


def training(settings: Settings) -> list[Figure]:
    """The trunk in training."""
    size = settings.training_size
    what = f"trunk, training step, 2 x 3 x {size} x {size}"
    times = take_turns(_field(settings, train, True), settings.rounds, "training")
    return _compare("trunk_training", what, times, (2.3, 3.5))


def memory(settings: Settings) -> list[Figure]:
    """Peak memory of the training step, with and without recomputation."""
    peaks = {name: _peak_apart(name, settings) for name in (OURS, RECOMPUTED, TEXTBOOK)}
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


def _peak_apart(name: str, settings: Settings) -> int:
    command = [sys.executable, __file__, "--peak", name, json.dumps(asdict(settings))]
    environment = {**os.environ, **RETURN_FREED}
    result = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return int(result.stdout.split()[-1])


def peak(name: str, settings: Settings) -> int:
    """Bytes at the peak of the second training step of one contestant, in this process."""
    torch.set_num_threads(settings.threads)
    network, inputs = build(name, settings.device).train(), training_inputs(settings)
    train(network, inputs, False)
    return peak_bytes(lambda: train(network, inputs, False), settings.device != "cpu")


def detector(settings: Settings) -> list[Figure]:
    """One evaluation step of the whole detector: preprocessing, network, boxes and masks."""
    from benchmarks.detectors import make_detectors, make_sample

    models = make_detectors(ROOT / DETECTOR, settings.device)
    sample = make_sample(7, settings.size)
    steps: dict[str, Step] = {n: partial(_test_step, m, sample) for n, m in models.items()}
    times = take_turns(steps, settings.rounds, "detector")
    what = f"whole detector, evaluation, 7 x {settings.size} x {settings.size}"
    ours, theirs = times[OURS], times[TEXTBOOK]
    return [of_rounds("detector_float32", what, ours, theirs, TEXTBOOK, "speedup", 2.0)]


def _test_step(model: nn.Module, sample: Callable[[], dict]) -> None:
    with torch.inference_mode():
        model.test_step(sample())  # type: ignore[operator]
    _wait(next(model.parameters()).device.type)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/network.py --out work_dirs/network --threads 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/network"), help="folder of the tables")
    add("--peak", nargs=2, metavar=("NAME", "SETTINGS"), help=argparse.SUPPRESS)
    for name, default in asdict(Settings()).items():
        add(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = vars(parser.parse_args(argv))
    if args["peak"]:
        print(peak(args["peak"][0], Settings(**json.loads(args["peak"][1]))))
        return 0
    settings = Settings(**{name: args[name] for name in asdict(Settings())})
    found = figures(settings)
    write_json(args["out"] / "network.json", [figure.record() for figure in found], indent=2)
    with atomic_write(args["out"] / "network.md") as temporary:
        temporary.write_text(markdown(found), encoding="utf-8")
    print(markdown(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
