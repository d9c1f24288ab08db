"""What a model card tells."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import pytest

from deeplesion.lesions.model_card import SOFTWARE, ModelCard, file_sha256


def test_card_of_files(tmp_path: Path) -> None:
    config, checkpoint = tmp_path / "net.py", tmp_path / "net.pth"
    config.write_bytes(b"model = 1\n")
    checkpoint.write_bytes(bytes(3_000_000))
    card = ModelCard.of_files(config, checkpoint, training_data="DeepLesion")
    assert (card.config, card.checkpoint) == ("net.py", "net.pth")
    assert card.config_sha256 == hashlib.sha256(b"model = 1\n").hexdigest()
    assert card.checkpoint_sha256 == hashlib.sha256(bytes(3_000_000)).hexdigest()
    assert card.version == version(SOFTWARE)
    content = card.as_dict()
    assert json.loads(json.dumps(content)) == content
    assert str(tmp_path) not in json.dumps(content)
    assert content["training_data"] == "DeepLesion"
    assert card.checkpoint_sha256[:12] in card.summary()

    inherited = ModelCard.of_files(config, checkpoint, config_text="model = 2\n")
    assert inherited.config_sha256 == hashlib.sha256(b"model = 2\n").hexdigest()
    assert inherited.as_dict()["training_data"] is None


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        file_sha256(tmp_path / "gone.pth")
