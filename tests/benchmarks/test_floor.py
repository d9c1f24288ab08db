"""Where a training step's time goes, at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import floor
from benchmarks.contestants import OURS, UNMIXED
from benchmarks.floor import ALL, BETWEEN, COPIES, KINDS, PRODUCTS, REST, Floor, kind_of, main
from benchmarks.worker import TEXTBOOK_KEEPING


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", PRODUCTS),
        ("aten::mkldnn_convolution", PRODUCTS),
        ("aten::convolution_backward", PRODUCTS),
        ("aten::native_batch_norm_backward", BETWEEN),
        ("aten::addcmul_", BETWEEN),
        ("aten::lerp_", COPIES),
        ("aten::cat", COPIES),
        ("aten::slice", REST),
        ("autograd::engine::evaluate_function: AddBackward0", REST),
    ],
)
def test_kinds_of_operators(operator: str, kind: str) -> None:
    assert kind_of(operator) == kind


def test_the_floor_is_the_operations_at_the_rate_of_products() -> None:
    textbook = dict(zip((*KINDS, ALL), (1.2, 0.5, 0.4, 0.3, 2.4), strict=True))
    found = Floor(operations=120 * 10**9, rate=150e9, seconds={TEXTBOOK_KEEPING: textbook})
    assert found.floor == pytest.approx(0.8)
    assert found.most() == pytest.approx(3.0)
    table = found.markdown()
    assert "| all | 2.40 |" in table
    assert "120 GFLOP at 150 GFLOP/s take 0.80 s: a step can be 3.00 times as fast" in table


def test_the_script_takes_steps_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(floor, "MATRIX", 64)
    monkeypatch.setattr(floor, "keep_freed_memory", lambda: None)  # other tests share this process
    assert main(["--out", str(tmp_path), "--size", "32", "--rounds", "1", "--threads", "1"]) == 0
    found = json.loads((tmp_path / "floor.json").read_text())
    assert found["seconds"].keys() == {OURS, UNMIXED, TEXTBOOK_KEEPING}
    for each in found["seconds"].values():
        assert min(each[PRODUCTS], each[BETWEEN], each[COPIES]) > 0
    # Kernels of 1 x 1 and 3 x 3, and the 7 x 7 of the stem: forward, and twice that back.
    assert found["operations"] == pytest.approx(112e9 * (32 / 256) ** 2, rel=0.02)
    assert (tmp_path / "floor.md").read_text() in capsys.readouterr().out


def test_a_round_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "--rounds must be >= 1, got 0" in capsys.readouterr().err
