"""Errors of tools."""

from __future__ import annotations

import pytest

from deeplesion.engine.cli import run_tool
from deeplesion.engine.config import UsageError


def fail(error: BaseException) -> None:
    raise error


def test_exit_codes_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tool(lambda: None) == 0
    assert run_tool(lambda: fail(UsageError("no such thing"))) == 1
    assert capsys.readouterr().err == "error: no such thing\n"
    assert run_tool(lambda: fail(KeyboardInterrupt())) == 130


def test_errors_of_ours_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: fail(ZeroDivisionError()))
