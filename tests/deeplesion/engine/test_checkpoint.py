"""Checkpoints are read without running what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from deeplesion.engine.checkpoint import CheckpointError, read_checkpoint


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.target),))


def test_training_checkpoint_with_log_history(tmp_path: Path) -> None:
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    state = {
        "state_dict": {"w": torch.ones(2)},
        "message_hub": {"log_scalars": {"loss": history}, "lr": np.float64(0.1)},
    }
    torch.save(state, tmp_path / "a.pth")
    loaded = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(loaded["state_dict"]["w"], torch.ones(2))
    assert loaded["message_hub"]["log_scalars"]["loss"].mean() == pytest.approx(1.5)
    assert loaded["message_hub"]["lr"] == pytest.approx(0.1)


def test_plain_state_dict(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth")["state_dict"]) == ["w"]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made_by_pickle"
    torch.save({"state_dict": {}, "x": Malicious(target)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth is not a file of plain weights"):
        read_checkpoint(tmp_path / "a.pth")
    assert not target.exists()


def test_attributes_cannot_be_reached(tmp_path: Path) -> None:
    class Reach:
        def __reduce__(self) -> tuple:
            return (getattr, (HistoryBuffer, "__init__"))

    torch.save({"state_dict": {}, "x": Reach()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="plain weights"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_torn_file_is_named(tmp_path: Path, keep: float) -> None:
    file = tmp_path / "a.pth"
    torch.save({"state_dict": {"w": torch.ones(1000)}}, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_checkpoint(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth does not exist"):
        read_checkpoint(tmp_path / "none.pth")


def test_other_content_is_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds a list, not a dict"):
        read_checkpoint(tmp_path / "a.pth")
