"""Which checkpoint is resumed when some are torn."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.checkpoint_files import (
    agree_on_checkpoint,
    check_whole,
    find_resumable,
    read_header,
    remove_temporary_files,
    writing,
)


def write(path: Path, iteration: int, run: str = "a", validated: int | None = None) -> Path:
    """A checkpoint of a training."""
    meta = {"iter": iteration, "seed": 7, "run": {"identity": run, "validated": validated}}
    state = {"weight": torch.arange(2000.0)}
    torch.save({"meta": meta, "state_dict": state, "message_hub": {}, "optimizer": {}}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints of one training, the best, and the pointer to the last."""
    for number in (1, 2, 3):
        write(tmp_path / f"epoch_{number}.pth", 10 * number)
    torch.save({"state_dict": {}, "meta": {"iter": 99}}, tmp_path / "best_froc_mean_epoch_2.pth")
    (tmp_path / "last_checkpoint").write_text("somewhere/else/epoch_3.pth")
    return tmp_path


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lose_the_end(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def change_a_weight(path: Path) -> None:
    """As a page of the file that never reached the disk."""
    content = bytearray(path.read_bytes())
    place = content.index(torch.tensor([1000.0, 1001.0]).numpy().tobytes())
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)


TEARS = [cut_short, lose_the_end, empty, fill_with_zeros, change_a_weight]


def test_takes_the_furthest(folder: Path) -> None:
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path == folder / "epoch_3.pth"
    assert choice.header.meta["seed"] == 7
    assert choice.complaints == ()


@pytest.mark.parametrize("tear", TEARS)
def test_passes_over_a_torn_one_and_names_it(folder: Path, tear: Callable[[Path], None]) -> None:
    tear(folder / "epoch_3.pth")
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path == folder / "epoch_2.pth"
    (complaint,) = choice.complaints
    assert f"{folder}/epoch_3.pth is torn" in complaint


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_one_that_is_named_is_an_error(folder: Path, tear: Callable[[Path], None]) -> None:
    tear(folder / "epoch_3.pth")
    with pytest.raises(CheckpointError, match=r"epoch_3\.pth is torn"):
        agree_on_checkpoint(str(folder / "epoch_3.pth"), None, str(folder))


def test_several_torn_ones(folder: Path) -> None:
    empty(folder / "epoch_3.pth")
    change_a_weight(folder / "epoch_2.pth")
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path == folder / "epoch_1.pth"
    assert len(choice.complaints) == 2


def test_nothing_whole_is_an_error_with_a_remedy(folder: Path) -> None:
    for number in (1, 2, 3):
        cut_short(folder / f"epoch_{number}.pth")
    with pytest.raises(
        CheckpointError, match=r"epoch_1\.pth is torn.*Name another one by --resume"
    ):
        find_resumable(folder)


def test_weights_alone_are_an_error(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match="they hold weights only"):
        find_resumable(tmp_path)


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert find_resumable(tmp_path).header is None
    assert find_resumable(tmp_path / "missing").header is None


def test_an_earlier_training_in_the_folder_is_left_alone(folder: Path) -> None:
    write(folder / "epoch_1.pth", 10, run="b")
    (folder / "last_checkpoint").write_text(str(folder / "epoch_1.pth"))
    choice = find_resumable(folder)
    assert choice.header is not None
    assert (choice.header.path.name, choice.header.run) == ("epoch_1.pth", "b")


def test_the_last_one_counts_though_the_pointer_was_not_written(folder: Path) -> None:
    write(folder / "interim_iter_35.pth", 35)
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path.name == "interim_iter_35.pth"


def test_a_torn_pointer_does_no_harm(folder: Path) -> None:
    (folder / "last_checkpoint").write_bytes(b"\xff\xfe\0\0")
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path.name == "epoch_3.pth"


def test_of_two_as_far_the_validated_one_is_taken(folder: Path) -> None:
    write(folder / "interim_iter_30.pth", 30, validated=30)
    os.utime(folder / "interim_iter_30.pth", (1, 1))
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path.name == "interim_iter_30.pth"


def test_checksums_of_an_old_format_are_not_asked_for(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_whole(tmp_path / "old.pth")
    assert not read_header(tmp_path / "old.pth").resumable


def test_a_zip_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(CheckpointError, match=r"a\.pth is torn or no checkpoint"):
        read_header(tmp_path / "a.pth")


def test_left_over_files_of_killed_runs_go_and_others_stay(tmp_path: Path) -> None:
    torn = [".epoch_3.a1_b2c3d.pth", ".last_checkpoint.abcdefgh", ".scalars.abcdefgh.jsonl"]
    others = ["epoch_3.pth", ".settings", ".gitignore", "scalars.jsonl", ".my.pth"]
    for name in torn + others:
        (tmp_path / name).touch()
    assert remove_temporary_files(tmp_path) == sorted(torn)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def write_half(folder: Path) -> None:
    with writing(str(folder), "epoch_1.pth") as (place, name):
        Path(place, name).write_text("half")
        raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    (tmp_path / "epoch_1.pth").write_text("whole")
    with pytest.raises(CheckpointError, match=r"epoch_1\.pth cannot be written: No space left on"):
        write_half(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]
    assert (tmp_path / "epoch_1.pth").read_text() == "whole"


def test_files_of_other_machines_are_written_as_they_are() -> None:
    with writing("s3://bucket", "epoch_1.pth") as target:
        assert target == ("s3://bucket", "epoch_1.pth")


def test_what_somebody_went_back_behind_is_left_alone(folder: Path) -> None:
    written = write(folder / "interim_iter_17.pth", 17)
    (folder / "last_checkpoint").write_text(str(written))
    for number in (1, 2, 3):
        os.utime(folder / f"epoch_{number}.pth", (number, number))
    choice = find_resumable(folder)
    assert choice.header is not None
    assert choice.header.path == written


def test_a_folder_of_checkpoints_elsewhere_is_found(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "last_checkpoint").write_text(str(folder / "epoch_3.pth"))
    choice = find_resumable(work)
    assert choice.header is not None
    assert choice.header.path == folder / "epoch_3.pth"
