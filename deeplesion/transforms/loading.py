"""Loading a key slice with its neighbors, and its lesions."""

from __future__ import annotations

import math

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from deeplesion.datasets.ct import (
    ResampleMode,
    SliceError,
    check_resampling,
    load_volume,
    resample_positions,
    thickness_after,
)
from deeplesion.datasets.lesion_record import INFO_FILE, DataError
from deeplesion.mmdet_parts import LoadAnnotations


@TRANSFORMS.register_module()
class LoadCTSlices(BaseTransform):
    """Load a key slice and its neighbors, resampled along z; see :mod:`deeplesion.datasets.ct`.

    Required keys: ``image_root``, ``series``, ``key_slice``, ``slice_interval`` (mm; NaN where
    unknown); optional: ``height`` and ``width`` (px, checked), ``row`` (named in errors),
    ``skip_bad_neighbors``, ``packed`` (folder of a packed cache to take slices from).

    Added keys: ``img`` (``(H, W, D)`` float32 in HU, top to bottom as stored, a view of whole
    slices one after another in memory, which ``PackDetInputs`` need not copy), ``img_shape`` and
    ``ori_shape`` (``(H, W)``), ``thickness`` (distance of the slices that the network sees, in
    mm; NaN where unknown), ``num_slices``.

    Args:
        num_slices: Depth D of the stack: odd, the key slice in the middle.
        slice_interval: Distance of slices in mm to which the stack is resampled.
        interpolate: ``thin`` resamples slices thinner than ``slice_interval`` and leaves others
            as stored (AlignShift); ``always`` resamples all (A3D, TSM).
        legacy: Whether to load as the published code did, for networks trained with it: every
            neighbor between stored slices takes the first one's interpolation weight, an interval
            that is NaN or negative repeats the key slice, a neighbor that is not stored is the
            next one towards the key slice, and ``thickness`` is the interval as stored.

    Raises:
        ValueError: If ``num_slices`` is even, ``slice_interval`` not positive, or ``interpolate``
            unknown.
    """

    def __init__(
        self,
        num_slices: int = 3,
        slice_interval: float = 2.0,
        interpolate: ResampleMode = "thin",
        legacy: bool = False,
    ) -> None:
        check_resampling(num_slices, slice_interval, interpolate)
        self.num_slices = num_slices
        self.slice_interval = float(slice_interval)
        self.interpolate: ResampleMode = interpolate
        self.legacy = legacy

    def transform(self, results: dict) -> dict:
        """Load the stack.

        Raises:
            SliceError: If the key slice is missing, or a slice is truncated, not 16-bit, or of
                another size than the CSV says; it names file and row.
            PackError: If ``packed`` is incomplete, damaged, or older than the slices' files.
            ValueError: If ``legacy`` is set and the slice interval is 0.
        """
        stored, wanted, mode = results["slice_interval"], self.slice_interval, self.interpolate
        stored = math.nan if stored is None else float(stored)
        size = (results["height"], results["width"]) if "height" in results else None
        try:
            volume = load_volume(
                results["image_root"],
                results["series"],
                results["key_slice"],
                resample_positions(self.num_slices, stored, wanted, mode, self.legacy),
                size,
                results.get("skip_bad_neighbors", False),
                self.legacy,
                results.get("packed"),
            )
        except SliceError as error:
            row = results.get("row")
            where = f" (row {row} of {INFO_FILE})" if row is not None else ""
            raise SliceError(f"{error}{where}") from None
        results["img"] = volume
        results["img_shape"] = results["ori_shape"] = volume.shape[:2]
        # Nothing is resized yet; mmdetection's heads ask for it even where no Resize follows.
        results["scale_factor"] = (1.0, 1.0)
        results["thickness"] = thickness_after(stored, wanted, mode, self.legacy)
        results["num_slices"] = self.num_slices
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_slices={self.num_slices}, "
            f"slice_interval={self.slice_interval}, interpolate={self.interpolate!r}, "
            f"legacy={self.legacy})"
        )


@TRANSFORMS.register_module()
class LoadLesionAnnotations(LoadAnnotations):
    """mmdetection's ``LoadAnnotations`` that says what to do where there are no masks.

    Boxes and labels are loaded by default; ``with_mask=True`` loads masks, which DeepLesion does
    not come with.
    """

    def _load_masks(self, results: dict) -> None:
        if any("mask" not in instance for instance in results.get("instances", [])):
            raise DataError(
                f"{results.get('file_name', 'a sample')} has lesions without masks but with_mask "
                "is True: make masks by tools/make_masks.py and set mask_file of "
                "DeepLesionDataset, or set with_mask=False"
            )
        super()._load_masks(results)
