"""The benchmark of the network, at a tiny size, and the textbook way that it compares with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from alignshift import TruncatedDenseNet3d
from benchmarks import network
from benchmarks.baseline.densenet import TextbookDenseNet
from benchmarks.detectors import make_detectors, make_sample
from benchmarks.network import OURS, RECOMPUTED, TEXTBOOK, Settings
from tests.forked import python
from tests.tools.running import REPO_ROOT

TINY = Settings(size=64, training_size=32, rounds=1, threads=1)


@pytest.mark.parametrize("mixing", [True, False])
def test_the_textbook_network_is_the_same_network(mixing: bool) -> None:
    torch.manual_seed(0)
    ours = TruncatedDenseNet3d("AlignShiftConv" if mixing else None)
    textbook = TextbookDenseNet(mixing)
    textbook.load_state_dict(ours.state_dict())
    volume, thickness = torch.randn(2, 1, 3, 48, 48), torch.tensor([1.0, 5.0])
    inputs = volume.double(), thickness.double()
    maps = [model.double()(*inputs) for model in (ours, textbook)]
    for actual, expected in zip(*maps, strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_network_that_differs_is_no_contestant(monkeypatch: pytest.MonkeyPatch) -> None:
    built = network.build

    def wrong(name: str, device: str = "cpu") -> torch.nn.Module:
        return built("without mixing" if name == TEXTBOOK else name, device)

    network.check_same(TINY)
    monkeypatch.setattr(network, "build", wrong)
    with pytest.raises(RuntimeError, match="ours and the textbook way differ by"):
        network.check_same(TINY)


def test_trunk_figures_have_bars() -> None:
    found = {f.key: f for f in [*network.evaluation(TINY), *network.training(TINY)]}
    bars = {key: (f.kind, f.bar) for key, f in found.items() if not key.endswith("bfloat16")}
    assert bars == {
        "trunk_evaluation_float32": ("speedup", 2.2),
        "trunk_evaluation_mixing": ("share", 1.1),
        "trunk_training_float32": ("speedup", 2.3),
        "trunk_training_mixing": ("share", 1.1),
    }
    half = [key for key in found if key.endswith("bfloat16")]
    assert bool(half) is network.has_bfloat16("cpu")


def test_memory_is_less_than_that_of_the_textbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size at which it is maps, not weights, that take it."""
    monkeypatch.setattr(sys, "executable", python())
    settings = Settings(training_size=96, threads=1)
    peaks = {name: network._peak_apart(name, settings) for name in (OURS, RECOMPUTED, TEXTBOOK)}
    assert peaks[RECOMPUTED] < peaks[OURS] < 0.7 * peaks[TEXTBOOK]


def test_detectors_see_the_same_map_and_find_something() -> None:
    models = make_detectors(REPO_ROOT / network.DETECTOR, "cpu")
    sample = make_sample(7, 64)
    with torch.inference_mode():
        batch = models[OURS].data_preprocessor(sample())["inputs"]
        (ours,), (textbook,) = (models[name].extract_feat(batch) for name in (OURS, TEXTBOOK))
        (result,) = models[TEXTBOOK].test_step(sample())
    torch.testing.assert_close(ours / ours.abs().max(), textbook / ours.abs().max())
    assert len(result.pred_instances) > 0


def test_the_peak_of_one_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert network.main(["--peak", OURS, '{"training_size": 32, "threads": 1}']) == 0
    assert int(capsys.readouterr().out) > 0


def test_detector_config_exists() -> None:
    assert (Path(REPO_ROOT) / network.DETECTOR).is_file()
