"""Time and memory of networks that do the same in different ways, for `benchmarks/operators.py`.

Run as a script it measures the memory of one contestant, in this process of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

from alignshift import convert_to_3d

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.baseline.resnet import TextbookResNet  # noqa: E402

CHANNELS_LAST, CONTIGUOUS = "2D, channels_last", "2D, contiguous"
TEXTBOOK_SUFFIX = ", textbook"
FORWARD, TRAINING = "forward", "forward + backward"
MODES = (FORWARD, TRAINING)
RGB_CHANNELS = 3
THICKNESS_MM = 5.0
WARMUP_ROUNDS = 2
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# Largest difference of two formulations that is rounding, as a share of the largest output.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
# With an explicit threshold, glibc maps every tensor by itself and gives it back when it is freed.
RETURN_FREED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
KIB, PAGE = 1024, 4096


@dataclass(frozen=True)
class Settings:
    """What is measured, and where."""

    network: str = "resnet50"
    operators: tuple[str, ...] = ()
    slices: int = 7
    size: int = 256
    batch: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    compile: bool = False
    threads: int = 1
    clock: str = "wall"
    repeat: int = 9

    @property
    def on_gpu(self) -> bool:
        """Whether the device is not the CPU."""
        return torch.device(self.device).type != "cpu"


class Contestant(NamedTuple):
    """A network and what it is called with."""

    network: nn.Module
    inputs: tuple[Tensor, ...]


def plain_network(settings: Settings) -> nn.Module:
    """The 2D network, always with the same weights."""
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(settings.network, weights=None)
    return network


def contestant_names(settings: Settings) -> list[str]:
    """Names of all contestants; only ResNets have a textbook formulation."""
    names = [CHANNELS_LAST, CONTIGUOUS, *settings.operators]
    if isinstance(plain_network(settings), torchvision.models.ResNet):
        names += [name + TEXTBOOK_SUFFIX for name in settings.operators]
    return names


def build(name: str, settings: Settings) -> Contestant:
    """Build a contestant; all have the same weights and the same volume."""
    network = plain_network(settings)
    torch.manual_seed(0)
    n, d, size = settings.batch, settings.slices, settings.size
    volume = torch.randn(n, RGB_CHANNELS, d, size, size).to(settings.device)
    inputs: tuple[Tensor, ...] = volume, torch.full((n,), THICKNESS_MM, device=settings.device)
    if name in (CHANNELS_LAST, CONTIGUOUS):
        layout = torch.channels_last if name == CHANNELS_LAST else torch.contiguous_format
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        inputs = (volume.transpose(1, 2).flatten(0, 1).contiguous(memory_format=layout),)
    else:
        network = _network_3d(network, name, settings)
    network = network.to(settings.device)
    if settings.compile:
        network.compile()
    return Contestant(network, inputs)


def _network_3d(network: nn.Module, name: str, settings: Settings) -> nn.Module:
    """The converted network, or the textbook formulation with its weights."""
    operator = name.removesuffix(TEXTBOOK_SUFFIX)
    options: dict[str, Any] = {"dimension": settings.slices} if operator == "A3DConv" else {}
    converted = convert_to_3d(network, operator, in_channels=RGB_CHANNELS, **options)
    if name == operator:
        return converted
    assert isinstance(network, torchvision.models.ResNet)
    textbook = TextbookResNet(network, operator, converted.report.converted, options)
    textbook.network.load_state_dict(converted.state_dict())
    return textbook


def forward(contestant: Contestant, settings: Settings) -> Tensor:
    """The network's output; of networks with auxiliary heads the first."""
    device = torch.device(settings.device).type
    with torch.autocast(device, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
        out = contestant.network(*contestant.inputs)
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def step(contestant: Contestant, mode: str, settings: Settings) -> None:
    """One step of inference or of training, to its end on the device; no gradients stay."""
    if mode == FORWARD:
        with torch.inference_mode():
            forward(contestant, settings)
    else:
        forward(contestant, settings).sum().backward()
        contestant.network.zero_grad()
    if settings.on_gpu:
        torch.cuda.synchronize()


def compare_outputs(field: Mapping[str, Contestant], settings: Settings) -> dict[str, float]:
    """Compare every operator with its textbook formulation.

    Returns:
        Largest difference of each, as a share of the largest output.

    Raises:
        RuntimeError: If one is more than rounding.
    """
    differences = {}
    for name in settings.operators:
        if name + TEXTBOOK_SUFFIX in field:
            pair = field[name], field[name + TEXTBOOK_SUFFIX]
            with torch.inference_mode():
                ours, textbook = (
                    forward(Contestant(c.network.eval(), c.inputs), settings).float() for c in pair
                )
            difference = float((ours - textbook).abs().max() / textbook.abs().max())
            if not difference <= TOLERANCE[settings.dtype]:
                raise RuntimeError(
                    f"{name} and its textbook formulation differ by {difference:.2g}"
                )
            differences[name] = difference
    return differences


def measure_times(
    field: Mapping[str, Contestant], mode: str, settings: Settings
) -> dict[str, list[float]]:
    """Seconds of a step of every contestant, round by round, in another order each round."""
    for contestant in field.values():
        contestant.network.train(mode == TRAINING)
    times: dict[str, list[float]] = {name: [] for name in field}
    order, shuffle, clock = list(field), random.Random(0).shuffle, CLOCKS[settings.clock]
    rounds = WARMUP_ROUNDS + settings.repeat
    with tqdm(total=rounds * len(field), desc=f"time of {mode}", file=sys.stderr) as progress:
        for turn in range(rounds):
            shuffle(order)
            for name in order:
                start = clock()
                step(field[name], mode, settings)
                if turn >= WARMUP_ROUNDS:
                    times[name].append(clock() - start)
                progress.update()
    return times


def measure_memory(name: str, settings: Settings) -> dict[str, int]:
    """Bytes at the peak of a step of each mode above those before it, in a new process."""
    command = [sys.executable, __file__, name, json.dumps(asdict(settings))]
    environment = {**os.environ, **RETURN_FREED}
    result = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    peaks: dict[str, int] = json.loads(result.stdout.splitlines()[-1])
    return peaks


def peak_memory(contestant: Contestant, mode: str, settings: Settings) -> int:
    """Bytes at the peak of the second step above those before it."""
    contestant.network.train(mode == TRAINING)
    step(contestant, mode, settings)
    if settings.on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(contestant, mode, settings)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, see proc(5)
    before = _resident("VmRSS")
    step(contestant, mode, settings)
    return max(_resident("VmHWM") - before, PAGE)


def _resident(field: str) -> int:
    """Resident bytes of this process: ``VmRSS`` now, ``VmHWM`` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) * KIB


def main(name: str, settings: str) -> None:
    """Print the memory of one contestant as JSON."""
    read = Settings(**json.loads(settings))
    torch.set_num_threads(read.threads)
    contestant = build(name, read)
    print(json.dumps({mode: peak_memory(contestant, mode, read) for mode in MODES}))


if __name__ == "__main__":
    main(*sys.argv[1:])
