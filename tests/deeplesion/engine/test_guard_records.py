"""Tests of what is kept of batches that went wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.structures import BaseDataElement

from deeplesion.engine.guard_records import append_line, bad_entries, describe_samples, summarize


def test_names_of_scalars_that_are_not_finite() -> None:
    values = {"a": torch.tensor(1.0), "b": torch.tensor(math.nan), "c": math.inf, "d": "text"}
    assert bad_entries(values) == ["b", "c"]


def test_samples_are_called_by_what_is_known_of_them() -> None:
    photo = BaseDataElement(metainfo=dict(img_path="a.jpg"))
    batch = {"inputs": torch.zeros(2, 3), "data_samples": [photo, BaseDataElement()]}
    described = describe_samples(batch)
    assert described == [{"img_path": "a.jpg"}, {"img_path": "sample 1 of the batch"}]
    assert describe_samples(None) == []
    assert describe_samples({"inputs": []}) == []


def record_of(*batches: dict, parameters: tuple[str, ...] = ()) -> dict:
    """A skipped step of one process."""
    return {
        "ranks": [{"rank": 0, "batches": list(batches)}],
        "parameters": list(parameters),
        "number_of_parameters": len(parameters),
    }


def test_summary_names_the_suspects_alone() -> None:
    good = {"losses": [], "samples": [{"file_name": "good.png"}]}
    bad = {"losses": ["loss_mask"], "samples": [{"file_name": f"{n}.png"} for n in range(6)]}
    assert summarize(record_of(good, bad)) == ("loss_mask of 0.png, 1.png, 2.png, 3.png and 2 more")
    bad["samples"][5]["non_finite_voxels"] = 7
    assert summarize(record_of(good, bad)) == "loss_mask of 5.png (7 voxels are not finite)"
    assert summarize(record_of(good, parameters=("neck.weight", "neck.bias"))) == (
        "the gradient of 2 parameters, neck.weight first of good.png"
    )


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    append_line(path, {"a": 1})
    append_line(path, {"a": 2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a"')
    append_line(path, {"a": 3})
    assert path.read_text() == '{"a": 1}\n{"a"\n{"a": 3}\n'


def test_numbers_are_strict_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "lines.jsonl", {"a": math.nan})
