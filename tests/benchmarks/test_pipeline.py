"""The benchmark of the data pipeline, at a tiny size, and the textbook way beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from benchmarks import loading, pipeline
from benchmarks.baseline import data as textbook
from benchmarks.figures import Figure
from benchmarks.starting import construct, write_full_info
from benchmarks.worker import TEXTBOOK
from deeplesion.datasets.dl_info import group_by_key_slice, read_dl_info
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_series
from tests.forked import python


@pytest.fixture
def info(tmp_path: Path) -> dict[str, Any]:
    """A key slice among slices that are 10 HU times their number throughout."""
    write_series(tmp_path, "000001_01_01", range(1, 20))
    root = str(tmp_path / "Images_png")
    return {"image_root": root, "series": "000001_01_01", "key_slice": 10}


@pytest.mark.parametrize(
    ("interval", "values"),
    [(5.0, [90, 100, 110]), (1.0, [80, 100, 120]), (0.8, [75, 100, 125])],
)
def test_the_textbook_stack(info: dict, interval: float, values: list[float]) -> None:
    stack = textbook.load_stack({**info, "slice_interval": interval}, 3)
    assert stack.dtype == np.float64
    assert stack[0, 0] == pytest.approx(values)


def test_the_textbook_window() -> None:
    out = textbook.window(np.array([-3000.0, -1024, 513, 2050, 9999]))
    assert out == pytest.approx([-50, -50, 77.5, 205, 205])


def test_the_textbook_boxes() -> None:
    matrix = np.array([[0.0, -1, 50], [1, 0, 0]])
    assert textbook.warp_boxes([[1, 2, 3, 6]], matrix) == [[44, 1, 48, 3]]
    assert textbook.clip_box([-5, 2, 5, 8], (20, 10)) == [0, 2, 5, 8]
    assert textbook.clip_box([-95, 2, 5, 8], (20, 10)) is None
    assert textbook.clip_box([9.5, 2, 12, 8], (20, 10)) is None


def test_ours_and_the_textbook_give_the_same_samples(synthetic_root: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pipeline.pack_data_root(synthetic_root, packed)
    with pipeline.DefaultScope.overwrite_default_scope("mmdet"):
        names = (TEXTBOOK, *loading.WAYS)
        load, whole = (
            {name: loading.make_way(part, name, synthetic_root, packed) for name in names}
            for part in loading.PARTS
        )
        pipeline.check_same(whole, 3)
        for name in loading.WAYS:
            mine = load[name](0)["img"]
            assert np.allclose(mine, load[TEXTBOOK](0), atol=1e-3)
        broken = {**whole, TEXTBOOK: lambda i: _shifted(whole[TEXTBOOK](i))}
        with pytest.raises(RuntimeError, match="png and textbook give different samples of 0"):
            pipeline.check_same(broken, 1)


def test_ways_take_turns(
    synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python())
    pipeline.pack_data_root(synthetic_root, tmp_path / "packed")
    times = pipeline.measure("sample", synthetic_root, tmp_path / "packed", 1, 2)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.values())
    found = {figure.key: figure.bar for figure in pipeline.compare("sample", 64, times)}
    loaded = pipeline.compare("load", 64, times)
    assert {figure.what for figure in loaded} == {
        "load and window 7 x 64 x 64, from PNG",
        "load and window 7 x 64 x 64, from the packed cache",
    }
    assert found == {
        "sample_png": 2.0,
        "sample_png_keeping": None,
        "sample_packed": 4.0,
        "sample_packed_keeping": None,
    }


def _shifted(sample: textbook.Sample) -> textbook.Sample:
    return sample._replace(inputs=torch.roll(sample.inputs, 1, -1))


def test_a_full_annotation_file(tmp_path: Path) -> None:
    template = write_csv(tmp_path / "few.csv", [row_of("000001_01_01", 5, Possibly_noisy=1)])
    write_full_info(template, tmp_path / "full", rows=200)
    groups = group_by_key_slice(read_dl_info(tmp_path / "full" / "DL_info.csv"))
    assert len(groups) == 200
    assert groups[199].file_name == "000003_01_01_029.png"
    built = construct(tmp_path / "full")
    assert built["samples"] == 200
    assert built["seconds"] > 0


def test_main_writes_both_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = Figure("b", "import", "s", 2.0, None, "", "limit", 3.0)
    monkeypatch.setattr(pipeline, "figures", lambda settings: [figure])
    assert pipeline.main(["--out", str(tmp_path), "--samples", "2"]) == 0
    content = json.loads((tmp_path / "pipeline.json").read_text())
    assert content["settings"]["samples"] == 2
    assert content["figures"][0]["holds"] is True
    assert (tmp_path / "pipeline.md").read_text() in capsys.readouterr().out
    with pytest.raises(SystemExit):
        pipeline.parse_args(["--rounds", "0"])
    assert "--rounds must be >= 1, got 0" in capsys.readouterr().err
