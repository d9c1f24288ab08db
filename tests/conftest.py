"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Driver, open_browser
from tests.forked import python

REPO_ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Have Ctrl-C work in what tests start, though a shell began this in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """Root of this repository."""
    return REPO_ROOT


def _shared(name: str) -> Path:
    root = Path(os.environ.get("ALIGNSHIFT_SHARED", REPO_ROOT.parent / "shared"))
    if not (root / name).is_dir():
        pytest.skip(f"needs {name} of the shared test material beside the repository ({root})")
    return root / name


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real DeepLesion slices and CT volumes."""
    return _shared("data")


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Inputs and outputs measured on the published code."""
    return _shared("goldens")


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set with masks: 6 patients, 64 px."""
    root = tmp_path_factory.mktemp("synthetic") / "data"
    make = [python(), str(REPO_ROOT / "tools/make_synthetic.py"), "--out", str(root)]
    subprocess.run([*make, "--patients", "6", "--size", "64", "--seed", "0"], check=True)
    masks = [python(), str(REPO_ROOT / "tools/make_masks.py"), "--data-root", str(root)]
    subprocess.run([*masks, "--split", "all"], check=True)
    return root


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A browser without a window, see :mod:`tests.browser`."""
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser
