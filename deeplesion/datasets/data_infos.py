"""What a sample of :class:`DeepLesionDataset` is made of, and its files in JSON.

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
=================  =================================================================================

A lesion is a dict of ``bbox`` ``[x1, y1, x2, y2]`` (px, 0-based), ``bbox_label`` 0,
``ignore_flag`` 0, ``recist`` (four points, long axis first), ``diameters_mm`` (long, short),
``coarse_type``, ``row``, and, where there are masks, ``mask``, COCO's RLE.

A file of key slices is ``{"metainfo": {"classes": ["lesion"]}, "data_list": [data info, ...]}``,
mmdetection's own layout. ``file_name``, ``height``, ``width``, ``slice_interval`` and
``instances`` with ``bbox`` must be there; the rest has defaults.

A file of masks is ``{"meta": {...}, "masks": {file_name: [{"bbox": [...], "size": [h, w],
"counts": "..."}, ...]}}``; a mask belongs to the lesion of its box.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deeplesion.datasets.dl_info import KeySlice, slice_file
from deeplesion.io import write_json

#: How far the box of a mask may be from that of its lesion, in px, for rounding in the file.
BOX_TOLERANCE_PX = 1.0
DEFAULT_WINDOW_HU = (-175.0, 275.0)
_REQUIRED = ("file_name", "height", "width", "slice_interval", "instances")
_NOT_IN_FILES = ("img_path", "image_root", "sample_idx", "skip_bad_neighbors")


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
                "row": lesion.row,
            }
            for lesion in key_slice.lesions
        ],
    }


def add_paths(info: dict[str, Any], image_root: str) -> None:
    """Add ``image_root`` and ``img_path`` to a data info."""
    info["image_root"] = image_root
    info["img_path"] = os.path.join(image_root, slice_file(info["series"], info["key_slice"]))


def write_infos(path: str | os.PathLike[str], infos: Iterable[dict[str, Any]]) -> None:
    """Write a file of key slices that :func:`read_infos` reads back; paths are left out."""
    kept = [{k: v for k, v in info.items() if k not in _NOT_IN_FILES} for info in infos]
    write_json(path, {"metainfo": {"classes": ["lesion"]}, "data_list": kept})


def read_infos(path: str | os.PathLike[str], split: str | None = None) -> list[dict[str, Any]]:
    """Read a file of key slices.

    Args:
        path: The JSON file.
        split: Only key slices of this split; None for all.

    Returns:
        Data infos without paths, defaults filled in.

    Raises:
        ValueError: If the file is not of that layout; it names the file and the entry.
    """
    content = _read_json(path)
    entries = content.get("data_list") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path} must be {{'metainfo': ..., 'data_list': [...]}} of key slices")
    infos = [_checked(entry, number, path) for number, entry in enumerate(entries)]
    return [info for info in infos if split in (None, info["split"])]


def _checked(entry: Any, number: int, path: str | os.PathLike[str]) -> dict[str, Any]:
    where = f"entry {number} of data_list in {path}"
    missing = [key for key in _REQUIRED if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    series, _, index = Path(entry["file_name"]).stem.rpartition("_")
    if not (series and index.isdigit()):
        raise ValueError(f"{where}: file_name must look like 000001_01_01_109.png")
    info = {
        "img_id": number,
        "series": series,
        "key_slice": int(index),
        "patient_id": -1,
        "spacing": (math.nan, math.nan),
        "window": DEFAULT_WINDOW_HU,
        "split": None,
        "row": None,
        **entry,
    }
    interval = info["slice_interval"]
    info["slice_interval"] = math.nan if interval is None else float(interval)
    info["instances"] = [_checked_lesion(lesion, where) for lesion in info["instances"]]
    return info


def _checked_lesion(lesion: dict[str, Any], where: str) -> dict[str, Any]:
    box = lesion.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"{where}: bbox must be [x1, y1, x2, y2] with an area, got {box}")
    return {"bbox_label": 0, "ignore_flag": 0, **lesion}


def read_masks(mask_file: str, data_root: Path, split: str | None) -> dict[str, list[dict]]:
    """Read the masks of one split, or of all.

    Args:
        mask_file: Path relative to ``data_root``; ``{split}`` in it is replaced.
        data_root: Folder of the data set.
        split: The split; None reads the files of all three.

    Returns:
        Masks by the file name of their key slice.

    Raises:
        FileNotFoundError: If a file is not there; it names the command that makes it.
        ValueError: If a file is not of that layout.
    """
    splits = ("train", "val", "test") if split is None and "{split}" in mask_file else (split,)
    masks: dict[str, list[dict]] = {}
    for name in splits:
        path = data_root / mask_file.format(split=name)
        if not path.is_file():
            raise FileNotFoundError(
                f"mask_file {path} is not there: make it by `python tools/make_masks.py "
                f"--data-root {data_root} --split {name or 'all'}`"
            )
        content = _read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("masks"), dict):
            raise ValueError(f"{path} must be {{'meta': ..., 'masks': {{file_name: [...]}}}}")
        masks.update(content["masks"])
    return masks


def attach_masks(
    infos: Iterable[dict[str, Any]], masks: dict[str, list[dict]], mask_file: str
) -> None:
    """Give each lesion, as ``mask``, the one whose box is its own.

    Args:
        infos: Data infos, changed in place.
        masks: Of :func:`read_masks`.
        mask_file: Named in errors.

    Raises:
        ValueError: If a lesion has no mask, or one of another size than its slice.
    """
    for info in infos:
        candidates = masks.get(info["file_name"], [])
        for lesion in info["instances"]:
            where = f"the lesion of {info['file_name']}, row {lesion.get('row')} of DL_info.csv,"
            mask = min(candidates, key=lambda m: _distance(m, lesion), default=None)
            if mask is None or _distance(mask, lesion) > BOX_TOLERANCE_PX:
                raise ValueError(
                    f"{where} has no mask in {mask_file}: its box is {lesion['bbox']}; "
                    "make the masks anew by tools/make_masks.py"
                )
            if list(mask["size"]) != [info["height"], info["width"]]:
                raise ValueError(
                    f"{where} has a mask of {mask['size']} px (h, w) in {mask_file}, "
                    f"wanted is [{info['height']}, {info['width']}]"
                )
            lesion["mask"] = {"size": list(mask["size"]), "counts": mask["counts"]}


def _distance(mask: dict[str, Any], lesion: dict[str, Any]) -> float:
    return max(abs(a - b) for a, b in zip(mask["bbox"], lesion["bbox"], strict=True))


def _read_json(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
