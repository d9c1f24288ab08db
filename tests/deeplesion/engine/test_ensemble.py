"""Ensembles: who takes part, what cannot be fused, and how the fusion is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.config import UsageError, load_config, set_result_files
from deeplesion.engine.ensemble import (
    Member,
    check_ensemble,
    lesions_by_image,
    parse_members,
    score_ensemble,
)
from tests.tools.running import SMALL


@pytest.fixture
def cfg(synthetic_root: Path, tmp_path: Path) -> Config:
    """The small config, its results in a folder of their own."""
    config = load_config(SMALL.format("alignshift"), None, str(synthetic_root))
    set_result_files(config, tmp_path / "fused")
    return config


def perfect(cfg: Config, path: Path, score: float, leave_out: int = 0) -> Path:
    """Predictions that hit every lesion, of all images but some."""
    infos, _ = lesions_by_image(cfg)
    images = [
        {"file_name": name, "bboxes": [[*one["bbox"], score] for one in info["instances"]]}
        for name, info in list(infos.items())[leave_out:]
    ]
    path.write_text(json.dumps({"meta": {"checkpoint": f"{path.stem}.pth"}, "images": images}))
    return path


def test_members_are_told_apart(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.pth", "b.pth", "done.json")]
    for file in files:
        file.touch()
    a, b, done = map(str, files)
    members = parse_members("mine.py", [a, f"other.py:{b}", done])
    assert members == [Member("mine.py", a), Member("other.py", b), Member("mine.py", done)]
    assert [member.finished for member in members] == [False, False, True]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["{0}/none.pth"], "checkpoint .*none.pth does not exist"),
        (["{0}/a.pth", "other.py:{0}/none.pth"], "checkpoint .*none.pth does not exist"),
        (["{0}/none.json"], "predictions .*none.json do not exist"),
        (["{0}/a.pth", "{0}/a.pth"], "a.pth is given twice"),
        (["{0}/done.json"], "done.json is evaluated already: .*tools/analyze.py"),
    ],
)
def test_members_that_cannot_be_are_named(texts: list[str], message: str, tmp_path: Path) -> None:
    for name in ("a.pth", "done.json"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=message):
        parse_members("mine.py", [text.format(tmp_path) for text in texts])


def test_fusion_is_scored_and_written_as_one_detector(cfg: Config, tmp_path: Path) -> None:
    files = [perfect(cfg, tmp_path / f"{name}.json", s) for name, s in (("a", 0.9), ("b", 0.3))]
    figures = score_ensemble(cfg, files, weights=[2, 1])
    assert figures["mean"] == 1.0
    fused = json.loads((tmp_path / "fused/predictions.json").read_text())
    scores = [row[4] for image in fused["images"] for row in image["bboxes"]]
    assert scores == pytest.approx([0.7] * len(scores))  # (2 * 0.9 + 0.3) / 3
    meta = json.loads((tmp_path / "fused/froc.json").read_text())["settings"]
    assert meta["checkpoint"] == "a.pth + b.pth"
    assert meta["fusion"]["weights"] == [2, 1]
    assert (tmp_path / "fused/froc.png").is_file()


def test_members_of_other_images_are_found_before_anything_runs(
    cfg: Config, synthetic_root: Path, tmp_path: Path
) -> None:
    member = Member("mine.py", str(perfect(cfg, tmp_path / "part.json", 0.5, leave_out=1)))
    with pytest.raises(DataError, match=r"member 1 .*part\.json\) lacks image"):
        check_ensemble([member], cfg, [cfg])
    options = {"test_dataloader.dataset.indices": 2}
    fewer = load_config(SMALL.format("tsm"), options, str(synthetic_root))
    with pytest.raises(
        DataError, match=r"member 1 \(b\.pth\) lacks image .* that data of mask-rcnn"
    ):
        check_ensemble([Member("other.py", "b.pth")], cfg, [fewer])


def test_finished_predictions_are_not_written_over(cfg: Config, tmp_path: Path) -> None:
    (tmp_path / "fused").mkdir()
    done = perfect(cfg, tmp_path / "fused/predictions.json", 0.5)
    with pytest.raises(UsageError, match=r"would be written over .*: give another --work-dir"):
        check_ensemble([Member("mine.py", str(done))], cfg, [cfg])
