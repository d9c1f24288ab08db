from __future__ import annotations

import sys
import warnings

import pytest

from deeplesion._import_noise import ONEDL_LINE, quiet_imports

FASTER_COCO = "faster_coco_eval is not installed, metrics will not be computed. Install it."


def test_the_known_line_is_dropped_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_imports():
        print("before")
        print(ONEDL_LINE, end="")
        print(ONEDL_LINE.strip())
        print(ONEDL_LINE + "Could not import torch.")
        print("Could not import One", end="")
    print(ONEDL_LINE.strip())
    assert capsys.readouterr().out == (
        f"before\nCould not import torch.\nCould not import One{ONEDL_LINE}"
    )


def test_the_known_warning_is_dropped_and_no_other() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with quiet_imports():
            warnings.warn(FASTER_COCO, UserWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
        warnings.warn(FASTER_COCO, UserWarning, stacklevel=1)
        assert list(warnings.filters) == filters
    assert [str(warning.message) for warning in seen] == ["something else", FASTER_COCO]


def test_an_error_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    stdout = sys.stdout

    @quiet_imports()
    def interrupted() -> None:
        print("Could not", end="")
        raise ImportError("no mmdet")

    with pytest.raises(ImportError, match="no mmdet"):
        interrupted()
    assert sys.stdout is stdout
    assert capsys.readouterr().out == "Could not"
