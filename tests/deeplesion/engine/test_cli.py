"""Errors of tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from deeplesion.datasets.ct import SliceError
from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.cli import check_targets, run_tool
from deeplesion.engine.config import UsageError


class Broken(Dataset):
    """A data set whose slices cannot be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        try:
            raise OSError("torn")
        except OSError as error:
            raise SliceError("a.png is torn: fetch it again (row 2)") from error


def fail(error: BaseException) -> None:
    raise error


def test_exit_codes_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tool(lambda: None) == 0
    assert run_tool(lambda: fail(UsageError("no such thing"))) == 1
    assert capsys.readouterr().err == "error: no such thing\n"
    assert run_tool(lambda: fail(KeyboardInterrupt())) == 130


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_of_workers_end_in_one_line(
    num_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = DataLoader(Broken(), num_workers=num_workers)
    assert run_tool(lambda: next(iter(loader))) == 1
    assert capsys.readouterr().err == "error: a.png is torn: fetch it again (row 2)\n"


def test_every_error_of_user_data_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tool(lambda: fail(DataError("no key slice of split val"))) == 1
    assert capsys.readouterr().err == "error: no key slice of split val\n"


def test_files_that_cannot_be_written_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(lambda: tmp_path.write_text("")) == 1
    assert capsys.readouterr().err == f"error: [Errno 21] Is a directory: '{tmp_path}'\n"
    with pytest.raises(OSError, match="no file of the user's"):
        run_tool(lambda: fail(OSError("no file of the user's")))


def test_a_full_disk_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def tool() -> None:
        # A device that is always full.
        with open("/dev/full", "w") as file:
            file.write("x")

    assert run_tool(tool) == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


def test_targets_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    source, folder = tmp_path / "in.pth", tmp_path / "folder"
    source.touch()
    folder.mkdir()
    check_targets(source, [tmp_path / "a" / "b.pth"], overwrite=False)
    for target, message in {
        folder: r"folder is a folder: name a file",
        Path("."): r"\. is a folder: name a file",
        source / "b" / "c.pth": r"c\.pth cannot be written: .*in\.pth is a file",
        source: r"in\.pth is what is to be converted: give another name",
        tmp_path / "a\udcff.pth": r"must be UTF-8, got '.*a\\udcff\.pth'",
    }.items():
        with pytest.raises(UsageError, match=message):
            check_targets(source, [target], overwrite=True)
    (folder / "a").touch()
    check_targets(source, [folder / "a"], overwrite=True)
    with pytest.raises(UsageError, match="a exists: give --overwrite to replace it"):
        check_targets(source, [folder / "a"], overwrite=False)


def test_errors_of_ours_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: fail(ZeroDivisionError()))
