"""Files of checkpoints, safe and not."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.legacy.files import file_hash, read_file, split_file, write_file


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.folder,)


def test_reads_plain_and_wrapped_files(tmp_path: Path) -> None:
    state = OrderedDict(a=torch.ones(2))
    for content in ({"meta": {"epoch": 1}, "state_dict": state}, state):
        torch.save(content, tmp_path / "a.pth")
        for unsafe in (False, True):
            assert read_file(tmp_path / "a.pth", unsafe).keys() == content.keys()
    # As old versions of PyTorch wrote them.
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_file(tmp_path / "c.pth")["a"], torch.ones(2))


def test_more_than_data_is_read_only_when_asked_to(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": {"x": Evil(marker)}}, path)
    message = r"was not read, for safety: it uses pathlib\.\S+; --unsafe reads it"
    with pytest.raises(CheckpointError, match=message) as error:
        read_file(path)
    assert "weights_only" not in str(error.value)
    assert not marker.exists()
    assert read_file(path, unsafe=True)["state_dict"]["a"] == 1
    assert marker.is_dir()


@pytest.mark.parametrize("unsafe", [False, True])
def test_files_that_are_none_are_named(unsafe: bool, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.pth does not exist"):
        read_file(tmp_path / "none.pth", unsafe)
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"torn.pth (is torn|cannot be read)"):
        read_file(tmp_path / "torn.pth", unsafe)
    for content in (b"", b"<!DOCTYPE html>", b"a text\n", b"\x80\x02h\x05.", b"\xff\x00\x13"):
        (tmp_path / "none.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"none.pth (is torn|cannot be read)") as error:
            read_file(tmp_path / "none.pth", unsafe)
        assert not str(error.value).endswith(": ")
        assert "unsafe" not in str(error.value)
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"holds a list, not a dict"):
        read_file(tmp_path / "list.pth", unsafe)


def test_tells_apart_what_a_file_holds() -> None:
    tensor = torch.ones(1)
    content = {
        "meta": {
            "epoch": np.int64(1),
            "x": {"a": [np.float64(0.5), (tensor,)]},
            "odd": object(),
            "od": OrderedDict(a=torch.Size([2])),
        },
        "optimizer": {},
        "state_dict": {"module.a": tensor, "module.b": tensor},
    }
    file = split_file(content)
    assert list(file.state) == ["a", "b"]
    assert file.prefix == "module."
    assert repr(file.meta) == repr({"epoch": 1, "x": {"a": [0.5, (tensor,)]}, "od": {"a": (2,)}})
    assert file.others == ["optimizer", "meta.odd"]
    assert not file.bare
    file = split_file({"module.a": tensor})
    assert (list(file.state), file.prefix, file.meta, file.bare) == (["a"], "module.", None, True)
    file = split_file({"state_dict": {"module.a": tensor, "b": tensor}})
    assert (list(file.state), file.prefix, file.meta) == (["module.a", "b"], "", None)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "it is empty"),
        ({"a": 1}, "but 'a' is a int"),
        ({1: torch.ones(1)}, "tensors by name, but 1 is a Tensor"),
        (1, "must be a dict, got a int"),
    ],
)
def test_state_dicts_hold_tensors(weights: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        split_file({"state_dict": weights})


def test_writes_the_same_bytes_for_the_same_content(tmp_path: Path) -> None:
    for name in ("a.pth", "folder/b.pth"):
        write_file(tmp_path / name, {"state_dict": {"a": torch.ones(2)}})
    data = (tmp_path / "a.pth").read_bytes()
    assert data == (tmp_path / "folder/b.pth").read_bytes()
    assert file_hash(tmp_path / "a.pth") == hashlib.sha256(data).hexdigest()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
