"""The benchmark of operators, at a tiny size, and the baseline that it compares with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from alignshift import OPERATORS, convert_to_3d
from benchmarks import operators
from benchmarks.baseline.resnet import CONVOLUTIONS, TextbookResNet
from benchmarks.measuring import (
    CHANNELS_LAST,
    CONTIGUOUS,
    FORWARD,
    RETURN_FREED,
    TRAINING,
    Contestant,
    Settings,
    compare_outputs,
    contestant_names,
)
from benchmarks.operators import Ratio, Row
from tests.forked import python

SLICES = 3
TINY = ("--network", "resnet18", "--slices", str(SLICES), "--size", "32", "--repeat", "2")
ROW = Row(100.0, Ratio(1.05, 1.0, 1.1), Ratio(0.9, 0.8, 1.0), Ratio(2.0, 1.9, 2.1), 200.0, 1.2, 0.5)


def test_every_operator_has_a_textbook_formulation() -> None:
    assert set(CONVOLUTIONS) == set(OPERATORS)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_textbook_network_gives_outputs_and_gradients_of_the_converted_one(operator: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).double()
    settings = {"dimension": SLICES} if operator == "A3DConv" else {}
    converted = convert_to_3d(network, operator, in_channels=3, **settings)
    textbook = TextbookResNet(network, operator, converted.report.converted, settings)
    textbook.double().network.load_state_dict(converted.state_dict())
    volume = torch.randn(2, 3, SLICES, 32, 32, dtype=torch.float64)
    thickness = torch.tensor([1.0, 5.0], dtype=torch.float64)
    for training in (False, True):
        outputs = [net.train(training)(volume, thickness) for net in (converted, textbook)]
        assert outputs[0].shape == (2, 1000, SLICES)
        torch.testing.assert_close(*outputs)
    for out in outputs:
        out.square().mean().backward()
    expected = dict(textbook.network.named_parameters())
    for name, parameter in converted.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad)


def test_run_gives_tables(repo_root: Path, tmp_path: Path) -> None:
    operator = "AlignShiftConv"
    script = repo_root / "benchmarks" / "operators.py"
    command = [python(), str(script), *TINY, "--operators", operator, "--out", "out"]
    result = subprocess.run(
        [*command, "--threads", "1"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "1000000", "FORK_ANYWAY": "1"},
        capture_output=True,
        text=True,
    )
    text = (tmp_path / "out" / "operators.md").read_text()
    assert text in result.stdout
    assert f"time of {TRAINING}: 100%" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "operators.json",
        "operators.md",
    }
    content = json.loads((tmp_path / "out" / "operators.json").read_text())
    assert content["machine"]["threads"] == 1
    assert content["machine"]["MALLOC_TRIM_THRESHOLD_"] == "1000000"
    assert content["settings"]["network"] == "resnet18"
    assert content["difference_from_textbook"][operator] < 1e-3
    assert content["bars"] == []
    assert set(content["table"]) == {FORWARD, TRAINING}
    for mode, rows in content["table"].items():
        assert list(rows) == [CHANNELS_LAST, CONTIGUOUS, operator]
        assert rows[CHANNELS_LAST]["cost"] == {"median": 1, "low": 1, "high": 1}
        assert rows[operator]["speedup"]["median"] > 0
        assert rows[operator]["megabytes"] > 0
        assert f"**{mode.capitalize()}**" in text
        assert f"| {operator} | {rows[operator]['milliseconds']:.0f} |" in text


def test_networks_without_a_textbook_formulation_go_without() -> None:
    settings = Settings("mobilenet_v3_small", ("SliceConv",))
    assert contestant_names(settings) == [CHANNELS_LAST, CONTIGUOUS, "SliceConv"]


def test_rows_compare_within_rounds() -> None:
    times = {
        CHANNELS_LAST: [1.0, 2.0, 4.0],
        CONTIGUOUS: [2.0, 4.0, 8.0],
        "TSMConv": [1.1, 2.2, 4.4],
        "TSMConv, textbook": [2.2, 4.4, 13.2],
    }
    peaks = {CHANNELS_LAST: 10, CONTIGUOUS: 10, "TSMConv": 12, "TSMConv, textbook": 24}
    row = operators.make_row("TSMConv", times, peaks)
    assert row.milliseconds == pytest.approx(2200)
    assert row.cost == pytest.approx((1.1, 1.1, 1.1))
    assert row.cost_to_contiguous == pytest.approx((0.55, 0.55, 0.55))
    assert row.speedup == pytest.approx((2.0, 2.0, 2.5))
    assert (row.memory, row.memory_to_textbook) == pytest.approx((1.2, 0.5))
    assert operators.make_row(CHANNELS_LAST, times, peaks).speedup is None


def test_table_shows_medians_and_quartiles() -> None:
    lines = operators.markdown({FORWARD: {"TSMConv": ROW}}).splitlines()
    assert lines[0] == "**Forward**"
    assert lines[-1] == (
        "| TSMConv | 100 | 1.05 (1.00-1.10) | 0.90 (0.80-1.00) | 2.00 (1.90-2.10) "
        "| 200 | 1.20 | 0.50 |"
    )


def test_bars_are_told_where_they_apply() -> None:
    settings = Settings(operators=("AlignShiftConv",))
    slow = ROW._replace(cost=Ratio(1.2, 1.2, 1.2))
    lines = operators.bars({FORWARD: {"AlignShiftConv": slow}}, settings)
    assert lines == [
        "bar: AlignShiftConv, forward: 1.20 x its 2D self (<= 1.10): MISSED",
        "bar: AlignShiftConv, forward: 2.00 x textbook speed (>= 1.8): holds",
    ]
    table = {FORWARD: {"AlignShiftConv": ROW}}
    assert operators.bars(table, Settings(size=64)) == []
    assert operators.bars({FORWARD: {"TSMConv": ROW}}, settings) == []


DOUBLED = """
import torch
from benchmarks.measuring import FORWARD, Contestant, Settings, peak_memory

class Doubled(torch.nn.Module):
    def forward(self, x):
        return x * 2

x = torch.ones({numbers}, requires_grad=True)
print(peak_memory(Contestant(Doubled(), (x,)), FORWARD, Settings()))
"""


def test_memory_is_that_of_the_activations(repo_root: Path) -> None:
    # In a process of its own, as when it is measured: memory freed before would be used again.
    bytes_of_output = 64 << 20
    peak = subprocess.run(
        [sys.executable, "-c", DOUBLED.format(numbers=bytes_of_output // 4)],
        cwd=repo_root,
        env={**os.environ, **RETURN_FREED},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(peak.stdout) == pytest.approx(bytes_of_output, rel=0.05)


def test_different_outputs_are_an_error() -> None:
    class Constant(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.value

    x = torch.zeros(4)
    field = {
        name: Contestant(Constant(value), (x,))
        for name, value in (("TSMConv", 1.0), ("TSMConv, textbook", 1.1))
    }
    with pytest.raises(
        RuntimeError, match=r"TSMConv and its textbook formulation differ by 0\.091"
    ):
        compare_outputs(field, Settings(operators=("TSMConv",)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "resnet17"], "--network must be one of .*resnet18.*, got 'resnet17'"),
        (["--slices", "0"], "--slices must be >= 1, got 0"),
        (["--clock", "cpu", "--threads", "2"], "--clock cpu needs --threads 1"),
        (["--operators", "Conv"], "invalid choice: 'Conv'"),
    ],
)
def test_bad_arguments_are_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        operators.parse_args(arguments)
    assert re.search(message, capsys.readouterr().err)


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        operators.parse_args(["--help"])
    assert "python benchmarks/operators.py --out" in capsys.readouterr().out
