"""Pretrained 2D weights of backbones, from a file or by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from torch import nn

from alignshift.weights import load_2d_weights, read_state_dict
from deeplesion.engine.checkpoint import CheckpointError, read_checkpoint

TORCHVISION_PREFIX = "torchvision://"
MODEL_ZOO_PREFIX = "open-mmlab://"
# Of ``init_cfg``; where weights are put while they are read changes nothing.
SETTINGS = ("type", "checkpoint", "prefix", "map_location")


def is_pretrained(init_cfg: Any) -> bool:
    """Whether an ``init_cfg`` is that of pretrained weights."""
    return isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained"


def load_pretrained(
    backbone: nn.Module, init_cfg: Mapping[str, Any], place: str = "model.backbone"
) -> None:
    """Load pretrained 2D weights and log what was not loaded.

    Args:
        backbone: Loaded into.
        init_cfg: Of type ``Pretrained``. Its ``checkpoint`` is a local file, a URL, or
            ``torchvision://`` or ``open-mmlab://`` and a name; its ``prefix`` is that of the
            weights to load, without which they are told by themselves.
        place: Where in the config the backbone with that ``init_cfg`` stands.

    Raises:
        ConnectionError: They could not be downloaded; the message says how to do without.
        CheckpointError: They cannot be read, not one of them fits, or ``init_cfg`` is wrong.
    """
    try:
        _check_settings(init_cfg)
        weights = read_weights(resolve_checkpoint(init_cfg["checkpoint"]))
        if prefix := init_cfg.get("prefix"):
            weights = _below(weights, prefix)
        report = load_2d_weights(backbone, weights)
    except ConnectionError as error:
        without = f"--cfg-options {place}.init_cfg=None"
        raise ConnectionError(f"{error}; or train without: {without}") from error
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"{place}.init_cfg: {error}") from error
    print_log(f"weights from {init_cfg['checkpoint']}: {report}", logger="current")


def _check_settings(init_cfg: Mapping[str, Any]) -> None:
    if unknown := sorted(map(str, init_cfg.keys() - SETTINGS)):
        raise ValueError(f"it must have {', '.join(SETTINGS)} alone, got {', '.join(unknown)}")
    for name in ("checkpoint", "prefix"):
        value = init_cfg.get(name, "" if name == "prefix" else None)
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, got {value!r}")


def _below(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Weights of one part of a network, named as if it were alone."""
    start = f"{prefix.rstrip('.')}."
    part = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
    if not part:
        raise ValueError(f"no weight begins with its prefix {start!r}, but e.g. {[*weights][:2]}")
    return part


def resolve_checkpoint(checkpoint: str) -> str:
    """Turn the name of a model into the URL of its weights.

    Args:
        checkpoint: A local file, a URL, ``torchvision://`` and the name of a model (its default
            weights), or ``open-mmlab://`` and a name of mmengine's list.

    Returns:
        A local file or a URL.

    Raises:
        ValueError: ``open-mmlab://`` has no such name.
    """
    if checkpoint.startswith(TORCHVISION_PREFIX):
        from torchvision.models import get_model_weights

        return get_model_weights(checkpoint.removeprefix(TORCHVISION_PREFIX)).DEFAULT.url
    if checkpoint.startswith(MODEL_ZOO_PREFIX):
        return _model_zoo_url(checkpoint.removeprefix(MODEL_ZOO_PREFIX))
    return checkpoint


def _model_zoo_url(name: str) -> str:
    from mmengine.runner.checkpoint import get_external_models

    urls = get_external_models()
    if name not in urls:
        known = ", ".join(sorted(urls))
        raise ValueError(f"{MODEL_ZOO_PREFIX} must be followed by one of {known}; got {name!r}")
    return urls[name]


def read_weights(source: str) -> dict[str, Any]:
    """Read the weights of a URL or a local file, which may be a training checkpoint of mmengine.

    Args:
        source: A local file or a URL.

    Returns:
        A state dict.
    """
    if source.startswith(("http://", "https://")):
        return read_state_dict(source)
    weights = read_checkpoint(source)["state_dict"]
    return weights["model"] if isinstance(weights.get("model"), dict) else weights
