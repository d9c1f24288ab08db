"""Checkpoints are read without running what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from alignshift.operators import AlignShiftConv, SliceConv, TSMConv
from deeplesion.engine.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    compare_weights,
    describe_operators,
    operators_differ,
    read_checkpoint,
)


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
    message = r"a\.pth is not a file of plain weights .* it uses \w+\.mkdir$"
    with pytest.raises(UnsafeCheckpointError, match=message):
        read_checkpoint(tmp_path / "a.pth")
    assert not target.exists()


def test_attributes_cannot_be_reached(tmp_path: Path) -> None:
    class Reach:
        def __reduce__(self) -> tuple:
            return (getattr, (HistoryBuffer, "__init__"))

    torch.save({"state_dict": {}, "x": Reach()}, tmp_path / "a.pth")
    with pytest.raises(UnsafeCheckpointError, match="it uses attribute '__init__' of <class"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_torn_file_is_named(tmp_path: Path, keep: float) -> None:
    file = tmp_path / "a.pth"
    torch.save({"state_dict": {"w": torch.ones(1000)}}, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_checkpoint(file)


@pytest.mark.parametrize("content", [b"a text", b"<html>", b"\x80\x02h\x05.", b"\xff\x00", b"(("])
def test_other_files_are_no_checkpoints(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth is torn or no checkpoint(: .+)?$") as error:
        read_checkpoint(tmp_path / "a.pth")
    assert not isinstance(error.value, UnsafeCheckpointError)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth does not exist"):
        read_checkpoint(tmp_path / "none.pth")


def test_other_content_is_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds a list, not a dict"):
        read_checkpoint(tmp_path / "a.pth")


def test_state_dict_of_another_kind_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": [1]}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth holds no state dict"):
        read_checkpoint(tmp_path / "a.pth")


def test_weights_are_compared_by_name_and_shape() -> None:
    own = {"a": torch.ones(2), "b": torch.ones(2, 2), "c": torch.ones(1), "d": torch.ones(1)}
    own["n.num_batches_tracked"] = torch.tensor(0)
    fit = compare_weights(own, {"a": torch.ones(2), "b": torch.ones(3, 2), "x": torch.ones(1)})
    assert fit.fitting == 1
    assert fit.missing == ("c", "d")
    assert not fit.complete
    assert str(fit) == (
        "2 missing (c, d); 1 unexpected (x); "
        "1 of another shape (b: (3, 2) in the file, (2, 2) in the model)"
    )
    del own["n.num_batches_tracked"]
    assert compare_weights(own, own).complete


def test_operators_are_described_without_what_saves_memory() -> None:
    model = nn.Sequential(SliceConv(8, 8, 1), AlignShiftConv(8, 8, 1, n_fold=4, inplace=False))
    assert describe_operators(model) == {
        "AlignShiftConv": {
            "n_fold": 4,
            "alignshift": True,
            "ref_thickness": 2.0,
            "shift_padding_zero": False,
        }
    }
    assert describe_operators(nn.Conv2d(1, 1, 1)) == {}


def test_operators_that_differ_are_named() -> None:
    align, tsm = (describe_operators(conv(8, 8, 1)) for conv in (AlignShiftConv, TSMConv))
    assert operators_differ(align, align) == ""
    assert operators_differ(tsm, align) == (
        "it was trained with TSMConv, the config has AlignShiftConv"
    )
    assert "no 3D-context operator" in operators_differ({}, tsm)
    other = {"AlignShiftConv": {**align["AlignShiftConv"], "ref_thickness": 3.0, "new": 1}}
    assert "ref_thickness=3.0 of AlignShiftConv" in operators_differ(other, align)
