"""A published checkpoint into one of this project, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.legacy.files import PublishedFile, split_file
from deeplesion.legacy.keys import FC_CLS, current_name, current_tensor
from deeplesion.legacy.networks import OUR_PARTS, unknown_names

__all__ = ["KEPT", "ConvertedWeights", "convert_weights", "restore_file"]

# The entry of a converted file that holds what the way back needs.
KEPT = "published"
KEPT_VERSION = 2
KEPT_TYPES: dict[str, Any] = {
    "names": list,
    "prefix": str,
    "bare": bool,
    "meta": dict | None,
    "dropped": dict,
    "dtypes": dict,
    "rounded": list,
}
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point
}
NOT_EXACT = "the way back would not be exact: "


@dataclass
class ConvertedWeights:
    """A published state dict in our terms.

    Attributes:
        state: Tensors by our names, float32.
        renamed: Our name of each published one that has another.
        dropped: Rows of background and weights without effect, by published name.
        turned: Published names of class scores, whose background went from first to last.
        dtypes: Types that floating tensors had, other than float32, by published name.
        rounded: Published names of tensors that float32 does not hold exactly.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, Tensor] = field(default_factory=dict)
    turned: list[str] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    rounded: list[str] = field(default_factory=list)

    def kept(self, file: PublishedFile) -> dict[str, Any]:
        """What :func:`restore_file` needs beside the state dict."""
        return {
            "version": KEPT_VERSION,
            "names": list(file.state),
            "prefix": file.prefix,
            "bare": file.bare,
            "meta": file.meta,
            "dropped": self.dropped,
            "dtypes": self.dtypes,
            "rounded": self.rounded,
        }


def convert_weights(published: Mapping[str, Tensor]) -> ConvertedWeights:
    """Rename tensors, turn the order of classes, and make all of them float32.

    Args:
        published: Published names and tensors, without ``module.``; left unchanged.
    """
    result = ConvertedWeights()
    for name, original in published.items():
        tensor = original.float() if original.is_floating_point() else original
        if tensor.dtype != original.dtype:
            result.dtypes[name] = str(original.dtype).removeprefix("torch.")
            if not _same_bits(tensor.to(original.dtype), original):
                result.rounded.append(name)
        current = current_name(name)
        if current is None:
            result.dropped[name] = tensor
            continue
        result.state[current] = current_tensor(name, tensor)
        if rows := len(tensor) - len(result.state[current]) if tensor.ndim else 0:
            result.dropped[name] = tensor[:rows].clone()
        if FC_CLS.match(name):
            result.turned.append(name)
        if current != name:
            result.renamed[name] = current
    return result


def restore_file(content: Mapping[str, Any]) -> dict[str, Any]:
    """A converted checkpoint as it was published, bit for bit.

    Args:
        content: A file of :func:`convert_weights` and what it kept, read.

    Returns:
        The content of the published file, but for the state of its training.

    Raises:
        CheckpointError: It lacks what was kept for the way back, or would not come out exactly.
    """
    state, kept = split_file(content).state, _kept(content)
    if rounded := kept["rounded"]:
        raise CheckpointError(f"{NOT_EXACT}{len(rounded)} weights were rounded ({rounded[0]})")
    restored: dict[str, Any] = {}
    for name in kept["names"]:
        tensor = _restored(name, state, kept["dropped"])
        restored[kept["prefix"] + name] = _in_dtype(name, tensor, kept["dtypes"].get(name))
    if state:
        first = next(iter(state))
        raise CheckpointError(f"{NOT_EXACT}{len(state)} weights were not published ({first})")
    if kept["bare"]:
        return restored
    return {**({} if kept["meta"] is None else {"meta": kept["meta"]}), "state_dict": restored}


def _kept(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a converted file holds for the way back.

    Raises:
        CheckpointError: It holds nothing, or not what this tool puts there.
    """
    kept = content.get(KEPT)
    if not isinstance(kept, dict):
        raise CheckpointError(_no_way_back(content.get("state_dict", content)))
    if kept.get("version") != KEPT_VERSION:
        raise CheckpointError(f"{NOT_EXACT}it was made by another version of this tool")
    if damaged := next(_damage(kept), None):
        raise CheckpointError(f"what it kept for the way back is damaged: {KEPT}.{damaged}")
    return kept


def _damage(kept: Mapping[str, Any]) -> Iterator[str]:
    """Entries that are not what this tool writes; only the first can be relied on."""
    yield from (k for k, kind in KEPT_TYPES.items() if not isinstance(kept.get(k, ...), kind))
    names, dropped = kept["names"], kept["dropped"]
    if not all(isinstance(name, str) for name in names) or unknown_names(names):
        yield "names"
    without_effect = {name for name in names if current_name(name) is None}
    if without_effect - dropped.keys() or not all(isinstance(t, Tensor) for t in dropped.values()):
        yield "dropped"
    if not all(isinstance(dtype, str) and dtype in DTYPES for dtype in kept["dtypes"].values()):
        yield "dtypes"


def _restored(name: str, state: dict[str, Tensor], dropped: Mapping[str, Tensor]) -> Tensor:
    """A published tensor; what it is made of is taken out of ``state``."""
    current = current_name(name)
    if current is None:
        return dropped[name]
    if current not in state:
        raise CheckpointError(f"{NOT_EXACT}{current} is missing")
    tensor = state.pop(current)
    try:
        if name in dropped:
            return torch.cat([dropped[name], tensor])
        return torch.roll(tensor, 1, dims=0) if FC_CLS.match(name) else tensor
    except (IndexError, RuntimeError) as error:
        shape = tuple(tensor.shape)
        raise CheckpointError(f"{NOT_EXACT}{current} has another shape, {shape}") from error


def _in_dtype(name: str, tensor: Tensor, dtype: str | None) -> Tensor:
    if dtype is None:
        return tensor
    original = tensor.to(DTYPES[dtype])
    if not _same_bits(original.float(), tensor):
        raise CheckpointError(f"{NOT_EXACT}{name} was {dtype} and has changed since")
    return original


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree, NaN with NaN."""
    return torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0)) and torch.equal(a.isnan(), b.isnan())


def _no_way_back(state: Mapping[str, Any]) -> str:
    if not any(name.startswith(OUR_PARTS) for name in state):
        return "it is no checkpoint that tools/convert_checkpoint.py made"
    return (
        f"{NOT_EXACT}it does not hold what the published networks have beside ours, the rows of "
        "background in bbox_head.fc_reg and mask_head.conv_logits, and A3D's weights without "
        "effect. Files of tools/convert_checkpoint.py hold them, those of a training do not"
    )
