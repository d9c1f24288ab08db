"""What a sample of :class:`DeepLesionDataset` is made of, and its masks.

A *data info* is a dict of plain values about one key slice:

=================  =================================================================================
``img_id``         int, the number of its first row in ``DL_info.csv``
``file_name``      ``000001_01_01_109.png``
``series``         ``000001_01_01``
``key_slice``      109
``patient_id``     int
``slice_interval``  mm; NaN (in JSON also null) where unknown
``spacing``        pixel spacing x, y in mm
``window``         lower and upper end of the DICOM window in HU
``height``, ``width``  px
``split``          ``train``, ``val`` or ``test``
``row``            line of its first lesion in ``DL_info.csv``, the header being line 1
``instances``      a list of lesions, see below
``img_path``, ``image_root``  of the key slice and of the series folders; not in files
``packed``         folder of the packed cache, where slices come from one; not in files
=================  =================================================================================

A lesion is a dict of ``bbox`` ``[x1, y1, x2, y2]`` (px, 0-based), ``bbox_label`` 0,
``ignore_flag`` 0, ``recist`` (four points, long axis first), ``diameters_mm`` (long, short),
``coarse_type``, ``location`` (x, y, z normalized to the body; NaN where unknown), ``row``, and,
where there are masks, ``mask``, COCO's RLE.

Files of key slices are read by :mod:`deeplesion.datasets.info_files`.

A file of masks is ``{"meta": {...}, "masks": {file_name: [{"bbox": [...], "size": [h, w],
"counts": "..."}, ...]}}``; a mask belongs to the lesion of its box.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from deeplesion.datasets.dl_info import KeySlice, slice_file
from deeplesion.datasets.info_files import read_json
from deeplesion.datasets.lesion_record import INFO_FILE, SPLITS, DataError

#: How far the box of a mask may be from that of its lesion, in px, for rounding in the file.
BOX_TOLERANCE_PX = 1.0


def info_of(key_slice: KeySlice) -> dict[str, Any]:
    """The data info of a key slice, without its paths."""
    first = key_slice.first
    return {
        "img_id": first.row,
        "file_name": first.file_name,
        "series": first.series,
        "key_slice": first.key_slice,
        "patient_id": first.patient_id,
        "slice_interval": first.slice_interval,
        "spacing": first.spacing,
        "window": first.window,
        "height": first.image_size[0],
        "width": first.image_size[1],
        "split": first.split,
        "row": first.row,
        "instances": [
            {
                "bbox": list(lesion.bbox),
                "bbox_label": 0,
                "ignore_flag": 0,
                "recist": lesion.recist,
                "diameters_mm": lesion.diameters_mm,
                "coarse_type": lesion.coarse_type,
                "location": lesion.location,
                "row": lesion.row,
            }
            for lesion in key_slice.lesions
        ],
    }


def add_paths(info: dict[str, Any], image_root: str) -> None:
    """Add ``image_root`` and ``img_path`` to a data info."""
    info["image_root"] = image_root
    info["img_path"] = f"{image_root}{os.sep}{slice_file(info['series'], info['key_slice'])}"


class MissingMasksError(DataError, FileNotFoundError):
    """There is no file of masks; the text names the command that makes it."""


def make_masks_command(data_root: Path, split: str | None, keep_noisy: bool) -> str:
    """The command that makes the masks of a split, or of all."""
    command = f"python tools/make_masks.py --data-root {data_root} --split {split or 'all'}"
    return f"`{command}{' --keep-noisy' if keep_noisy else ''}`"


def read_masks(
    mask_file: str, data_root: Path, split: str | None, keep_noisy: bool = False
) -> dict[str, list[dict]]:
    """Read the masks of one split, or of all.

    Args:
        mask_file: Path relative to ``data_root``; ``{split}`` in it is replaced.
        data_root: Folder of the data set.
        split: The split; None reads the files of all three.
        keep_noisy: Whether the data set has noisy rows, for advice.

    Returns:
        Masks by the file name of their key slice.

    Raises:
        MissingMasksError: If a file is not there.
        DataError: If a file is not of that layout.
    """
    splits = SPLITS if split is None and "{split}" in mask_file else (split,)
    masks: dict[str, list[dict]] = {}
    for name in splits:
        path = data_root / mask_file.replace("{split}", str(name))
        if not path.is_file():
            command = make_masks_command(data_root, name, keep_noisy)
            raise MissingMasksError(f"mask_file {path} is not there: make it by {command}")
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("masks"), dict):
            raise DataError(f"{path} must be {{'meta': ..., 'masks': {{file_name: [...]}}}}")
        masks.update(content["masks"])
    return masks


def attach_masks(
    info: dict[str, Any], masks: dict[str, list[dict]], mask_file: str, advice: str
) -> None:
    """Give each lesion of a key slice, as ``mask``, the one whose box is its own.

    Args:
        info: A data info, changed in place.
        masks: Of :func:`read_masks`.
        mask_file: Named in errors.
        advice: What to do, for errors.

    Raises:
        DataError: If a lesion has no mask, one of another size than its slice, or none that is a
            mask.
    """
    candidates = masks.get(info["file_name"], [])
    for number, lesion in enumerate(info["instances"]):
        row = lesion.get("row")
        place = f"lesion {number}" if row is None else f"row {row} of {INFO_FILE}"
        where = f"the lesion of {info['file_name']}, {place},"
        try:
            mask = min(candidates, key=lambda m: _distance(m, lesion), default=None)
            if mask is None or _distance(mask, lesion) > BOX_TOLERANCE_PX:
                box = lesion["bbox"]
                raise DataError(f"{where} has no mask in {mask_file}: its box is {box}; {advice}")
            size, counts = list(mask["size"]), mask["counts"]
        except (KeyError, TypeError) as error:
            text = f"{where} has a malformed mask in {mask_file}"
            raise DataError(f"{text} ({type(error).__name__}: {error}); {advice}") from None
        if size != [info["height"], info["width"]]:
            wanted = [info["height"], info["width"]]
            raise DataError(
                f"{where} has a mask of {size} px (h, w) in {mask_file}, wanted is {wanted}"
            )
        lesion["mask"] = {"size": size, "counts": counts}


def _distance(mask: dict[str, Any], lesion: dict[str, Any]) -> float:
    return max(abs(a - b) for a, b in zip(mask["bbox"], lesion["bbox"], strict=True))
