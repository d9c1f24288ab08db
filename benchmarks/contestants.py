"""The contestants of `benchmarks/network.py`; run as a script, one of them in its own process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from alignshift import TruncatedDenseNet3d
from deeplesion.engine.malloc import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.baseline.densenet import TextbookDenseNet  # noqa: E402
from benchmarks.measuring import RETURN_FREED, peak_bytes  # noqa: E402
from benchmarks.worker import TEXTBOOK_KEEPING, Worker, serve  # noqa: E402

OURS, RECOMPUTED, UNMIXED = "ours", "ours, recomputed", "without mixing"
BFLOAT16 = "ours, bfloat16"
# As tools/train.py, test.py and detect.py have it.
KEEPING = (OURS, UNMIXED, BFLOAT16, TEXTBOOK_KEEPING)
DETECTOR = "configs/alignshift/mask-rcnn_alignshift-densenet121_7x2mm_20e_deeplesion.py"
Step = Callable[[], None]


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


def build(name: str, device: str = "cpu") -> nn.Module:
    """A trunk, always with the same weights."""
    torch.manual_seed(0)
    ours = TruncatedDenseNet3d(memory_efficient=name == RECOMPUTED)
    if name in (OURS, RECOMPUTED, BFLOAT16):
        return ours.to(device)
    other = TruncatedDenseNet3d(operator=None) if name == UNMIXED else TextbookDenseNet()
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


def make_step(part: str, name: str, settings: Settings) -> Step:
    """What a contestant does at its turn.

    Args:
        part: ``evaluation``, ``training`` or ``detector``.
        name: The contestant.
        settings: What is measured.
    """
    if part == "detector":
        return _detector_step(name, settings)
    training = part == "training"
    network = build(name, settings.device).train(training)
    inputs = (training_inputs if training else evaluation_inputs)(settings)
    return partial(train if training else evaluate, network, inputs, name == BFLOAT16)


def _detector_step(name: str, settings: Settings) -> Step:
    from benchmarks.detectors import make_detector, make_sample

    model = make_detector(ROOT / DETECTOR, settings.device, textbook=name != OURS)
    sample = make_sample(7, settings.size)

    def step() -> None:
        with torch.inference_mode():
            model.test_step(sample())  # type: ignore[operator]
        _wait(next(model.parameters()).device.type)

    return step


def peak(name: str, settings: Settings) -> int:
    """Bytes at the peak of the second training step of one contestant, in this process."""
    step = make_step("training", name, settings)
    step()
    return peak_bytes(step, settings.device != "cpu")


def worker(part: str, name: str, settings: Settings) -> Worker:
    """The process of a contestant, for a part of :func:`make_step` or ``memory``."""
    environment = RETURN_FREED if part == "memory" else None
    arguments = part, name, json.dumps(asdict(settings))
    return Worker(Path(__file__), *arguments, environment=environment)


def main(part: str, name: str, settings: str) -> None:
    """Do a step whenever told to, or tell the peak of one."""
    read = Settings(**json.loads(settings))
    torch.set_num_threads(read.threads)
    if part == "memory":
        serve(lambda: {"bytes": peak(name, read)})
        return
    if name in KEEPING:
        keep_freed_memory()
    serve(make_step(part, name, read))


if __name__ == "__main__":
    main(*sys.argv[1:])
