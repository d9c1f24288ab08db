"""The benchmark of the network, at a tiny size, and the textbook way that it compares with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from alignshift import TruncatedDenseNet3d
from benchmarks import contestants, network
from benchmarks.baseline.densenet import TextbookDenseNet
from benchmarks.contestants import OURS, RECOMPUTED, Settings
from benchmarks.detectors import make_detector, make_sample
from benchmarks.worker import TEXTBOOK, TEXTBOOK_KEEPING, Worker
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


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of contestants that have imported everything."""
    monkeypatch.setattr(sys, "executable", python())


@pytest.mark.usefixtures("forked")
def test_figures_have_bars() -> None:
    measured = [*network.evaluation(TINY), *network.training(TINY), *network.detector(TINY)]
    found = {f.key: f for f in measured}
    bars = {key: (f.kind, f.bar) for key, f in found.items() if not key.endswith("bfloat16")}
    assert bars == {
        "trunk_evaluation_float32": ("speedup", 2.2),
        "trunk_evaluation_float32_keeping": ("speedup", None),
        "trunk_evaluation_mixing": ("share", 1.1),
        "trunk_training_float32": ("speedup", 2.3),
        "trunk_training_float32_keeping": ("speedup", None),
        "trunk_training_mixing": ("share", 1.1),
        "detector_float32": ("speedup", 2.0),
        "detector_float32_keeping": ("speedup", None),
    }
    half = [key for key in found if key.endswith("bfloat16")]
    assert len(half) == 2 * contestants.has_bfloat16("cpu")
    assert all(f.ours > 0 and f.reference > 0 for f in measured)


@pytest.mark.parametrize(
    ("name", "keeps"), [(OURS, True), (TEXTBOOK, False), (TEXTBOOK_KEEPING, True)]
)
def test_who_keeps_freed_memory(name: str, keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(contestants, "keep_freed_memory", lambda: told.append(name))
    monkeypatch.setattr(contestants, "serve", lambda step: step())
    monkeypatch.setattr(contestants, "make_step", lambda part, name, settings: lambda: None)
    contestants.main("training", name, '{"threads": 1}')
    assert bool(told) is keeps


@pytest.mark.usefixtures("forked")
def test_a_worker_that_ends_is_told(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit(3)")
    with Worker(script) as worker, pytest.raises(RuntimeError, match="ended with exit code 3"):
        worker.turn()


@pytest.mark.usefixtures("forked")
def test_memory_is_less_than_that_of_the_textbook() -> None:
    """At a size at which it is maps, not weights, that take it."""
    settings = Settings(training_size=96, threads=1)
    peaks = {name: network.peak_apart(name, settings) for name in (OURS, RECOMPUTED, TEXTBOOK)}
    assert peaks[RECOMPUTED] < peaks[OURS] < 0.7 * peaks[TEXTBOOK]


def test_detectors_see_the_same_map_and_find_something() -> None:
    config = REPO_ROOT / contestants.DETECTOR
    models = {name: make_detector(config, "cpu", name != OURS) for name in (OURS, TEXTBOOK)}
    sample = make_sample(7, 64)
    with torch.inference_mode():
        batch = models[OURS].data_preprocessor(sample())["inputs"]
        (ours,), (textbook,) = (models[name].extract_feat(batch) for name in (OURS, TEXTBOOK))
        (result,) = models[TEXTBOOK].test_step(sample())
    torch.testing.assert_close(ours / ours.abs().max(), textbook / ours.abs().max())
    assert len(result.pred_instances) > 0


def test_detector_config_exists() -> None:
    assert (Path(REPO_ROOT) / contestants.DETECTOR).is_file()
