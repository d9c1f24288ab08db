"""What a conversion did to the layers of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ConversionReport"]


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_to_3d` converted, skipped and loaded; print it.

    Attributes:
        converted: Path in the 2D network and operator of every convolution that mixes slices now.
        skipped: Path and reason of every convolution that goes on working on each slice alone.
        slice_wise: Number of other layers, by class; they work on each slice as they did.
        first_conv: Path of the convolution that reads the volume and its channels before and after
            the conversion, or why it was left alone; empty for a network without a convolution.
        loaded: Number of the 2D network's parameters and buffers that live on, all of them.
    """

    converted: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    slice_wise: Mapping[str, int] = field(default_factory=dict)
    first_conv: str = ""
    loaded: int = 0

    def __str__(self) -> str:
        """Sums first, then what was skipped, by reason."""
        operators = Counter(self.converted.values())
        kinds = ", ".join(f"{n} to {operator}" for operator, n in operators.items()) or "none"
        others = ", ".join(f"{n} {kind}" for kind, n in sorted(self.slice_wise.items())) or "none"
        reasons: dict[str, list[str]] = {}
        for path, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(path)
        lines = [
            f"convolutions converted: {kinds}",
            *(f"skipped ({why}): {', '.join(paths)}" for why, paths in reasons.items()),
            f"slice by slice as they are: {others}",
            f"first convolution: {self.first_conv or 'none'}",
            f"loaded: {self.loaded} tensors of the 2D network",
        ]
        return "\n".join(lines)
