from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from deeplesion import mmcv_ops

COMPILED = "a compiled mmcv serves mmcv.ops here"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in, newly put in; the module that was there before comes back afterwards."""
    monkeypatch.setitem(sys.modules, mmcv_ops.EXTENSION, None)
    monkeypatch.delitem(sys.modules, mmcv_ops.EXTENSION)
    if mmcv_ops.kernel_source() == "compiled":
        pytest.skip(COMPILED)
    assert mmcv_ops.kernel_source() == "none"
    assert mmcv_ops.install() == "torchvision"
    return sys.modules[mmcv_ops.EXTENSION]


def test_install_is_done_once(extension: ModuleType) -> None:
    assert mmcv_ops.install() == "torchvision"
    assert sys.modules[mmcv_ops.EXTENSION] is extension
    assert mmcv_ops.kernel_source() == "torchvision"


def test_the_module_can_be_looked_up(extension: ModuleType) -> None:
    spec = importlib.util.find_spec("mmcv._ext")
    assert spec is extension.__spec__
    assert spec.loader is not None
    assert importlib.import_module("mmcv._ext") is extension
    from mmcv.utils.ext_loader import check_ops_exist

    assert check_ops_exist()


def test_an_operator_that_is_not_served_says_so_when_called(extension: ModuleType) -> None:
    assert hasattr(extension, "carafe_forward")
    with pytest.raises(NotImplementedError, match=r"'carafe_forward'.*compiled extension: https"):
        extension.carafe_forward(torch.zeros(1))
    with pytest.raises(AttributeError, match=r"'mmcv\._ext' has no attribute '__path__'"):
        _ = extension.__path__


def test_mmcv_names_the_operator_that_is_not_served() -> None:
    if mmcv_ops.install() == "compiled":
        pytest.skip(COMPILED)
    from mmcv.ops import RoIPool

    with pytest.raises(NotImplementedError, match="mmcv operator 'roi_pool_forward'"):
        RoIPool(2)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))


def test_collect_env_works() -> None:
    source = mmcv_ops.install()
    from mmcv.utils.env import collect_env

    compiler = collect_env()["MMCV Compiler"]
    assert (compiler == mmcv_ops.NOT_COMPILED) == (source == "torchvision")


def test_a_module_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ModuleType("mmcv._ext")
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    assert mmcv_ops.install() == "compiled"
    assert sys.modules["mmcv._ext"] is compiled
    assert mmcv_ops.kernel_source() == "compiled"


def test_an_extension_that_can_be_found_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_ext.py").write_text("origin = 'compiled'")
    script = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("mmcv_ops", {mmcv_ops.__file__!r})
mmcv_ops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mmcv_ops)
assert mmcv_ops.install() == mmcv_ops.kernel_source() == "compiled"
assert "mmcv._ext" not in sys.modules
import mmcv._ext
assert mmcv._ext.origin == "compiled"
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_without_mmcv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(ModuleNotFoundError, match="mmcv"):
        mmcv_ops.install()
