"""A published checkpoint file into one of this project with a config that is ready for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from alignshift import __version__
from deeplesion.engine.checkpoint import CheckpointError, compare_weights, describe_operators
from deeplesion.engine.complexity import BUILD_ERRORS
from deeplesion.io import atomic_write
from deeplesion.legacy.checkpoint import KEPT, ConvertedWeights, convert_weights
from deeplesion.legacy.config import (
    ConvertedConfig,
    convert_config,
    load_text,
    published_config,
)
from deeplesion.legacy.config_text import ConfigTextError, read_config_text
from deeplesion.legacy.families import Family
from deeplesion.legacy.files import PublishedFile, file_hash, read_file, split_file, write_file
from deeplesion.legacy.leaf import MISSING, difference
from deeplesion.legacy.networks import MASK_HEAD, PublishedNetwork, recognize

__all__ = ["Conversion", "Options", "convert_content", "convert_file"]

IGNORE_HINT = "--ignore-config takes the settings of the papers instead"
NO_CONFIG = "its meta has no config that tells which it is"
COMMENT = """{} with {} slices, converted from {} by tools/convert_checkpoint.py:
the config of {}, with the numerics of mmdetection 1.x (docs/parity.md)."""


@dataclass(frozen=True)
class Options:
    """What the user of a conversion decides.

    Attributes:
        configs: The folder ``configs``, which the new config stands on.
        operator: Name of the network where neither weights nor meta tell: ``align`` or ``tsm``.
        unsafe: Unpickle files that hold more than plain data.
        ignore_config: Take no notice of the config in the meta.
    """

    configs: Path
    operator: str | None = None
    unsafe: bool = False
    ignore_config: bool = False


@dataclass(frozen=True)
class Conversion:
    """What was done to a checkpoint.

    Attributes:
        file: What was read.
        network: What the weights tell.
        family: Which network it is.
        weights: The weights in our terms.
        config: The config for them; without outcomes where the meta has none.
    """

    file: PublishedFile
    network: PublishedNetwork
    family: Family
    weights: ConvertedWeights
    config: ConvertedConfig


def convert_file(source: Path, target: Path, options: Options) -> Conversion:
    """Convert a published checkpoint; writes ``target`` and a config of the same name beside it.

    Args:
        source: The published file.
        target: The file to write.
        options: What the user decided.

    Returns:
        What was done.

    Raises:
        CheckpointError: The file cannot be read, holds no published network, or which one it holds
            is not known.
        UsageError: A base of the config is not there.
    """
    content = read_file(source, options.unsafe)
    try:
        conversion = convert_content(content, options)
        names = (conversion.family.title, conversion.network.num_slices, source.name, target.name)
        text = conversion.config.text(COMMENT.format(*names))
        operators = _check(text, conversion.weights)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {source} cannot be converted: {error}") from error
    _write(source, target, text, operators, conversion)
    return conversion


def convert_content(content: Mapping[str, Any], options: Options) -> Conversion:
    """Convert what a published file holds; see :func:`convert_file`."""
    file = split_file(content)
    network = recognize(file.state)
    family, config = _choose(network, file.meta or {}, options)
    return Conversion(file, network, family, convert_weights(file.state), config)


def _write(
    source: Path, target: Path, text: str, operators: dict[str, Any], conversion: Conversion
) -> None:
    """Write a converted checkpoint and its config."""
    meta = {
        "operators": operators,
        "converted_from": {"file": source.name, "sha256": file_hash(source)},
        "versions": {"deeplesion-alignshift": __version__, "torch": str(torch.__version__)},
        "dataset_meta": {"classes": _classes(conversion.file.meta or {})},
    }
    kept = conversion.weights.kept(conversion.file)
    with atomic_write(target.with_suffix(".py")) as temporary:
        temporary.write_text(text, encoding="utf-8")
        write_file(target, {"meta": meta, "state_dict": conversion.weights.state, KEPT: kept})


def _choose(
    network: PublishedNetwork, meta: Mapping[str, Any], options: Options
) -> tuple[Family, ConvertedConfig]:
    """The network and its config: by the weights, the config in the meta, and the user."""
    config = _config_of(meta, options)
    told = {config.family.name} if config is not None and config.family is not None else set()
    told |= {options.operator} if options.operator else set()
    possible = [one for one in network.families if not told or told == {one.name}]
    if not possible:
        by_weights = " or ".join(one.title for one in network.families)
        raise CheckpointError(
            f"its weights are of {by_weights}, but the config in its meta or --operator say "
            f"{' and '.join(sorted(told))}; {IGNORE_HINT}"
        )
    if len(possible) > 1:
        ignored = "its config is ignored" if options.ignore_config else NO_CONFIG
        raise CheckpointError(
            f"AlignShift and TSM have the same weights, and {ignored}: "
            f"give --operator {' or --operator '.join(f.name for f in possible)}"
        )
    settings = network.settings(possible[0])
    if config is None:
        config = published_config(possible[0], network.num_slices, options.configs)
    if config.outcomes:
        _compare(settings, config.settings)
    config.settings |= settings
    return possible[0], config


def _compare(by_weights: Mapping[str, Any], by_config: Mapping[str, Any]) -> None:
    """Refuse weights and a config that contradict each other."""
    masks, wanted = (side.get(MASK_HEAD, ...) is not None for side in (by_weights, by_config))
    if masks != wanted:
        raise CheckpointError(
            f"its weights have {'a' if masks else 'no'} mask head, the config in its meta has "
            f"{'one' if wanted else 'none'}; {IGNORE_HINT}"
        )
    for path, value in by_weights.items():
        other = by_config.get(path, MISSING)
        if other is not MISSING and difference(value, other) is not MISSING:
            raise CheckpointError(
                f"{path} is {value} by its weights and {other} by the config in its meta; "
                f"{IGNORE_HINT}"
            )


def _config_of(meta: Mapping[str, Any], options: Options) -> ConvertedConfig | None:
    """The config in the meta of a checkpoint; None where there is none, or none is wanted."""
    text = meta.get("config")
    if options.ignore_config or not isinstance(text, str) or not text.strip():
        return None
    try:
        config = convert_config(read_config_text(text), options.configs, weights_only=True)
    except ConfigTextError as error:
        raise CheckpointError(f"the config in its meta: {error}; {IGNORE_HINT}") from error
    if config.failures:
        first = config.failures[0]
        raise CheckpointError(
            f"the config in its meta cannot be mapped: {first.field}={first.value!r}: "
            f"{first.note}; {IGNORE_HINT}"
        )
    return config


def _check(text: str, weights: ConvertedWeights) -> dict[str, Any]:
    """Build the network of a config, without memory; its operators.

    Raises:
        CheckpointError: It cannot be built, or its weights are others than those converted.
    """
    try:
        cfg = load_text(text)
        init_default_scope(cfg.default_scope)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
    except BUILD_ERRORS as error:
        raise CheckpointError(f"the network of its config cannot be built: {error}") from error
    fit = compare_weights(model.state_dict(), weights.state)
    if not fit.complete:
        raise CheckpointError(
            f"its weights are not those of the network that it seems to be: {fit}"
        )
    return describe_operators(model)


def _classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    match meta.get("CLASSES"):
        case str() as name:
            return (name,)
        case [*names] if names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ("lesion",)
