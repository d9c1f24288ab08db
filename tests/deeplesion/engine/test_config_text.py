"""The text of a config is that of mmengine, and is formatted once."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from mmengine.config import Config

from deeplesion.engine.config_text import WrittenConfig


@pytest.fixture
def plain() -> Config:
    return Config({"model": {"type": "A", "sizes": [1, 2]}, "lr": 0.1})


@pytest.fixture
def formatted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that were formatted."""
    from yapf.yapflib import yapf_api

    texts: list[str] = []
    original = yapf_api.FormatCode

    def count(text: str, **options: object) -> tuple:
        texts.append(text)
        return original(text, **options)

    monkeypatch.setattr(yapf_api, "FormatCode", count)
    return texts


def test_text_is_formatted_once_and_anew_where_anything_changes(
    plain: Config, formatted: list[str]
) -> None:
    cfg = WrittenConfig.of(plain)
    texts = [cfg.pretty_text, cfg.pretty_text, copy.deepcopy(cfg).pretty_text]
    assert len(formatted) == 1
    assert set(texts) == {plain.pretty_text}
    cfg.model.sizes.append(3)
    cfg.lr = 0.2
    assert "sizes=[" in cfg.pretty_text
    assert Config.fromstring(cfg.pretty_text, ".py").to_dict() == {
        "model": {"type": "A", "sizes": [1, 2, 3]},
        "lr": 0.2,
    }


def test_it_is_a_config_in_all_else(plain: Config, tmp_path: Path) -> None:
    cfg = WrittenConfig.of(plain)
    assert cfg.to_dict() == plain.to_dict()
    cfg.merge_from_dict({"model.type": "B"})
    assert "'B'" in cfg.pretty_text
    assert "_written" not in cfg
    for other in (copy.copy(cfg), copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg))):
        assert isinstance(other, WrittenConfig)
        assert other.to_dict() == cfg.to_dict()
        assert other.pretty_text == cfg.pretty_text
    cfg.dump(tmp_path / "a.py")
    assert Config.fromfile(tmp_path / "a.py").to_dict() == cfg.to_dict()
