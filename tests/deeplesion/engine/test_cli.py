"""Errors of tools."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, Dataset

from deeplesion.datasets.ct import SliceError
from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.cli import run_tool
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


def test_errors_of_ours_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: fail(ZeroDivisionError()))
