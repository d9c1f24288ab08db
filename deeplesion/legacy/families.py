"""The four networks of the published code, which differ in how they use neighboring slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignshift.operators import OPERATORS

__all__ = ["FAMILIES", "Family", "family_of_backbone"]


@dataclass(frozen=True)
class Family:
    """A published network in its variants of width and number of slices.

    Attributes:
        name: What ``--operator`` calls it.
        title: What papers call it.
        backbone: Type of its backbone, in the published code as here.
        operator: Name of its operator here; None for 2.5D.
        dataset: Type of its data set in the published code.
        interpolate: Which slices that resampled, as ``LoadCTSlices`` calls it.
        score_thr: Least score of a detection in the published config.
        settings: Arguments of its backbone that are the operator's.
    """

    name: str
    title: str
    backbone: str
    operator: str | None
    dataset: str
    interpolate: str
    score_thr: float
    settings: tuple[str, ...] = ()

    def slice_settings(self, num_slices: int) -> dict[str, Any]:
        """Settings of a config that tell backbone and neck their number of slices."""
        neck = {"model.neck.num_slices": num_slices if self.operator else 1}
        own = self.operator is None or "dimension" in OPERATORS[self.operator].setting_names()
        return {**({"model.backbone.num_slices": num_slices} if own else {}), **neck}


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "align",
            "AlignShift",
            "DenseNetCustomTrunc3dAlign",
            "AlignShiftConv",
            "DeepLesionDatasetAlign",
            "thin",
            0.001,
            ("n_fold", "ref_thickness", "shift_padding_zero"),
        ),
        Family(
            "tsm",
            "TSM",
            "DenseNetCustomTrunc3dTSM",
            "TSMConv",
            "DeepLesionDatasetTSM",
            "always",
            5e-5,
            ("n_fold",),
        ),
        Family(
            "a3d",
            "A3D",
            "DenseNetCustomTrunc3dA3D",
            "A3DConv",
            "DeepLesionDatasetA3D",
            "always",
            5e-5,
        ),
        Family("25d", "2.5D", "DenseNetCustomTrunc", None, "DeepLesionDataset25d", "always", 0.005),
    )
}


def family_of_backbone(backbone: Any) -> Family | None:
    """The family whose backbone has some type; None where there is no such."""
    return next((family for family in FAMILIES.values() if family.backbone == backbone), None)
