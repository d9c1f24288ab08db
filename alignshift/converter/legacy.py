"""The converter as the published code spells it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from alignshift.operators import SliceConv

from .convert import convert
from .network import SliceNetwork

__all__ = ["Converter"]

OLD_SETTINGS = {"ref_spacing": "ref_thickness"}
OLD_ARGUMENTS = {
    "first_conv_input_channles": "first_conv_in_channels",
    "first_conv_input_channels": "first_conv_in_channels",
}


class Converter(SliceNetwork):
    """`convert_to_3d` with the arguments of the code published with AlignShift.

    Args:
        model: Any 2D network; it is not changed.
        conv_cfg: ``conv_type``, an operator's class or name, and settings of it. Not changed.
        additional_forward_fts: What forward takes beside the volume; ``"thickness"`` is all that
            there is, and it may be given to every operator.
        skip_first_conv: Whether the convolution that reads the volume works on each slice alone.
        first_conv_in_channels: Channels of the volumes.
        **old: Old spellings of arguments, with a DeprecationWarning.

    Raises:
        ValueError: As `convert_to_3d`; if ``conv_cfg`` has no ``conv_type``.
        TypeError: If an argument or a setting is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        conv_cfg: Mapping[str, Any],
        additional_forward_fts: str | Sequence[str] = (),
        skip_first_conv: bool = True,
        first_conv_in_channels: int = 1,
        **old: Any,
    ) -> None:
        renamed = _with_new_names(old, OLD_ARGUMENTS)
        channels = renamed.pop("first_conv_in_channels", first_conv_in_channels)
        if renamed:
            raise TypeError(f"Converter has no argument {sorted(renamed)}")
        if isinstance(additional_forward_fts, str):
            additional_forward_fts = [additional_forward_fts]
        if unknown := set(additional_forward_fts or ()) - {"thickness"}:
            raise ValueError(
                f"additional_forward_fts must be ['thickness'] or empty, got {sorted(unknown)}"
            )
        if not isinstance(conv_cfg, Mapping):
            raise TypeError(f"conv_cfg must be a dict with a conv_type, got {conv_cfg!r}")
        settings = _with_new_names(conv_cfg, OLD_SETTINGS)
        operator: str | type[SliceConv] | None = settings.pop("conv_type", None)
        if operator is None:
            raise ValueError(f"conv_cfg must have a conv_type, got {sorted(settings)}")
        arguments = (channels, skip_first_conv, (), False)
        network = convert(model, operator, *arguments, settings, stacklevel=3)
        parts = (network.model, network.context, network.report)
        super().__init__(*parts, network.in_channels, network.expand_channels)


def _with_new_names(arguments: Mapping[str, Any], old_names: Mapping[str, str]) -> dict[str, Any]:
    """A copy of ``arguments`` without old names, of which it warns."""
    renamed = dict(arguments)
    for old in old_names.keys() & renamed.keys():
        new = old_names[old]
        if new in renamed:
            raise ValueError(f"{new} was given twice, as {old} too")
        # Points at the line that calls Converter.
        warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=3)
        renamed[new] = renamed.pop(old)
    return renamed
