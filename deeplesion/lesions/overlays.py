"""Pictures of lesions: the key slice whole, and close up with what was measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.canvas import Color, Image, captions, draw_label, label_spot
from deeplesion.datasets.ct import window_to_uint8
from deeplesion.lesions.contours import mask_contours
from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.model_card import ModelCard
from deeplesion.lesions.page_data import records_by_number
from deeplesion.lesions.windows import window_of, window_range
from deeplesion.pictures import montage, save_image
from deeplesion.scans.scan import Scan

#: Those of the page.
BOX_COLOR: Color = (60, 190, 255)
CONTOUR_COLOR: Color = (255, 90, 200)
AXES_COLOR: Color = (250, 235, 60)
NOT_A_DEVICE = "Research software, not a medical device"
SHEET = "lesions.png"
_HEIGHT = 768  # of the slice in px of the picture
_GAP = 8
_CLOSE_UP = (_HEIGHT - _GAP) // 2
_CLOSE_UP_MM = 50.0  # at least, and
_CLOSE_UP_TIMES = 2.2  # times the box's longer side
_SHEET_COLUMNS = 5
_SUB_PIXELS = 4  # bits of fractions of px that OpenCV takes
_PAPER = 0
_HALO: Color = (40, 40, 40)


class _View(NamedTuple):
    """Part of a slice as a picture: voxel x is at ``(x - x0 + 1/2) * sx - 1/2``."""

    x0: float
    y0: float
    scale_x: float
    scale_y: float

    def points(self, voxels: Any) -> NDArray[np.float64]:
        """Places in the picture of positions ``(..., 2)`` in px of the slice."""
        scale = np.array([self.scale_x, self.scale_y])
        return (np.asarray(voxels, np.float64) - [self.x0, self.y0] + 0.5) * scale - 0.5

    def corners(self, box: Any) -> tuple[int, int, int, int]:
        """First and last pixel of the picture that a box covers, edges of voxels included."""
        x1, y1, x2, y2 = np.asarray(box, np.float64)
        first = np.rint(self.points([x1 - 0.5, y1 - 0.5]) + 0.5)
        last = np.rint(self.points([x2 + 0.5, y2 + 0.5]) + 0.5) - 1
        return int(first[0]), int(first[1]), int(last[0]), int(last[1])


def draw_lesion(
    scan: Scan,
    lesion: Lesion,
    record: Mapping[str, Any],
    window: tuple[float, float] | None = None,
    made_by: str = "",
) -> Image:
    """Draw a lesion.

    On the left is its key slice with its box; on the right the slice in which it was measured,
    close up with mask and RECIST axes, and the key slice close up with nothing drawn. Voxels are
    as high and wide as they are in the patient. Below are measurements, window and disclaimer.

    Args:
        scan: The scan.
        lesion: The lesion.
        record: The document's part about it.
        window: HU that become black and white; None: lung, soft tissue or bone, as
            :func:`deeplesion.lesions.windows.window_of` chooses.
        made_by: A line about software and network, such as :func:`generator_line` gives.

    Returns:
        ``(H, W, 3)`` RGB.

    Raises:
        ValueError: If the window is empty.
    """
    name = "" if window else window_of(scan, lesion)
    limits = window or window_range(name)
    panels = np.concatenate(
        [
            _whole(scan, lesion, limits),
            np.full((_HEIGHT, _GAP, 3), _PAPER, np.uint8),
            np.concatenate(
                [
                    draw_close_up(scan, lesion, record, limits),
                    np.full((_HEIGHT - 2 * _CLOSE_UP, _CLOSE_UP, 3), _PAPER, np.uint8),
                    _plain_close_up(scan, lesion, limits),
                ]
            ),
        ],
        axis=1,
    )
    lines = [_measured(record), f"{_told_window(name, limits)}   {NOT_A_DEVICE}"]
    lines += [made_by] if made_by else []
    return np.concatenate([panels, captions(lines, panels.shape[1])])


def generator_line(document: Mapping[str, Any]) -> str:
    """Software, version, checkpoint and config of a document, with short hashes, in one line."""
    names = {field.name for field in fields(ModelCard)}
    told = {key: value for key, value in document["generator"].items() if key in names}
    return ModelCard(**told).summary()


def draw_close_up(
    scan: Scan, lesion: Lesion, record: Mapping[str, Any], window: tuple[float, float]
) -> Image:
    """The slice in which a lesion was measured, close up: box, mask, RECIST axes, label.

    Args:
        scan: The scan.
        lesion: The lesion.
        record: The document's part about it.
        window: HU that become black and white.

    Returns:
        ``(s, s, 3)`` RGB.

    Raises:
        ValueError: If the window is empty.
    """
    z = int(record["measured_slice"])
    view = _close_view(scan, lesion, z)
    picture = _render(scan.hu[z], view, (_CLOSE_UP, _CLOSE_UP), window)
    index = int(np.flatnonzero(lesion.slices == z)[0])
    for edge in mask_contours(lesion.masks[index]) if lesion.masks else []:
        _draw_path(picture, view.points(edge), CONTOUR_COLOR, closed=True)
    axes = [view.points(record[axis]["ends_px"]) for axis in ("short_axis", "long_axis")]
    # On white their color alone is hard to see.
    for color, thickness in ((_HALO, 3), (AXES_COLOR, 1)):
        for ends in axes:
            _draw_path(picture, ends, color, thickness=thickness)
    corners = view.corners(lesion.boxes[index])
    cv2.rectangle(picture, corners[:2], corners[2:], BOX_COLOR, 1)
    _put_label(picture, (0, 0, 0, 0), f"#{lesion.number}  slice {z}")
    return picture


def write_overlays(
    folder: str | os.PathLike[str],
    scan: Scan,
    lesions: Sequence[Lesion],
    document: Mapping[str, Any],
    window: tuple[float, float] | None = None,
) -> list[Path]:
    """Write a picture of each lesion, and, if there are any, all close-ups on one sheet.

    Args:
        folder: Where; made if it is missing.
        scan: The scan.
        lesions: What was found in it.
        document: The findings, as ``lesions.json`` has them.
        window: See :func:`draw_lesion`.

    Returns:
        The files: ``lesion_01_slice_0123.png`` and so on, numbers padded to sort well, and
        :data:`SHEET`.

    Raises:
        ValueError: If the document's lesions are not those given, or the window is empty.
        OSError: If a file cannot be written.
    """
    records = records_by_number(lesions, document)
    digits = max(2, len(str(max(records, default=0))))
    made_by = generator_line(document)
    paths, close_ups = [], []
    for lesion in lesions:
        record = records[lesion.number]
        limits = window or window_range(window_of(scan, lesion))
        path = Path(folder) / f"lesion_{lesion.number:0{digits}d}_slice_{lesion.key_slice:04d}.png"
        save_image(path, draw_lesion(scan, lesion, record, window, made_by))
        close_ups.append(_titled(draw_close_up(scan, lesion, record, limits), record))
        paths.append(path)
    if close_ups:
        sheet = montage(close_ups, min(_SHEET_COLUMNS, len(close_ups)), background=_PAPER)
        paths.append(Path(folder) / SHEET)
        lines = captions([NOT_A_DEVICE, made_by], sheet.shape[1])
        save_image(paths[-1], np.concatenate([sheet, lines]))
    return paths


def _whole(scan: Scan, lesion: Lesion, window: tuple[float, float]) -> Image:
    """The key slice with the lesion's box and label."""
    height, width = scan.hu.shape[1:]
    spacing_x, spacing_y = scan.geometry.spacing[:2]
    scale_y = _HEIGHT / height
    scale_x = scale_y * spacing_x / spacing_y
    view = _View(0, 0, scale_x, scale_y)
    size = (max(round(width * scale_x), 1), _HEIGHT)
    picture = _render(scan.hu[lesion.key_slice], view, size, window)
    corners = view.corners(lesion.boxes[lesion.slices == lesion.key_slice][0])
    cv2.rectangle(picture, corners[:2], corners[2:], BOX_COLOR, 2)
    _put_label(picture, corners, f"#{lesion.number}  {lesion.score:.2f}")
    _put_label(picture, (0, 0, 0, 0), f"slice {lesion.key_slice} of 0-{len(scan.hu) - 1}")
    return picture


def _plain_close_up(scan: Scan, lesion: Lesion, window: tuple[float, float]) -> Image:
    z = lesion.key_slice
    view = _close_view(scan, lesion, z)
    picture = _render(scan.hu[z], view, (_CLOSE_UP, _CLOSE_UP), window)
    _put_label(picture, (0, 0, 0, 0), f"slice {z}")
    return picture


def _close_view(scan: Scan, lesion: Lesion, z: int) -> _View:
    """A square in mm about the lesion's box in a slice."""
    found = lesion.slices == z
    if not found.any():
        raise ValueError(
            f"measured_slice of lesion {lesion.number} must be one of its slices "
            f"{lesion.slices.tolist()}, got {z}"
        )
    x1, y1, x2, y2 = lesion.boxes[found][0]
    spacing = scan.geometry.spacing[:2]
    longer = float((np.array([x2 - x1 + 1, y2 - y1 + 1]) * spacing).max())
    side = max(_CLOSE_UP_MM, _CLOSE_UP_TIMES * longer)
    scale = _CLOSE_UP / side * spacing
    corner = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - side / spacing / 2 + 0.5
    return _View(float(corner[0]), float(corner[1]), float(scale[0]), float(scale[1]))


def _render(
    hu: NDArray[np.generic], view: _View, size: tuple[int, int], window: tuple[float, float]
) -> Image:
    """Part of a slice in gray; black beyond the slice."""
    gray = window_to_uint8(hu, window)
    offset = view.points([0.0, 0.0])
    matrix = np.array([[view.scale_x, 0, offset[0]], [0, view.scale_y, offset[1]]])
    # Shrunk slices would show moire without the averages of INTER_AREA, which warps lack.
    if min(view.scale_x, view.scale_y) < 1 and view.x0 == view.y0 == 0:
        enlarged = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    else:
        enlarged = cv2.warpAffine(
            gray, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        _blacken_beyond(enlarged, view.corners([0, 0, hu.shape[1] - 1, hu.shape[0] - 1]))
    return cv2.cvtColor(enlarged, cv2.COLOR_GRAY2RGB)


def _blacken_beyond(gray: NDArray[np.uint8], corners: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = corners
    gray[: max(y1, 0)], gray[max(y2 + 1, 0) :] = 0, 0
    gray[:, : max(x1, 0)], gray[:, max(x2 + 1, 0) :] = 0, 0


def _draw_path(
    picture: Image,
    points: NDArray[np.float64],
    color: Color,
    closed: bool = False,
    thickness: int = 1,
) -> None:
    fixed = np.rint(points * 2**_SUB_PIXELS).astype(np.int32)
    cv2.polylines(picture, [fixed], closed, color, thickness, cv2.LINE_AA, _SUB_PIXELS)


def _put_label(picture: Image, corners: tuple[int, int, int, int], text: str) -> None:
    draw_label(picture, label_spot(corners, text, False, picture.shape, []), text, BOX_COLOR)


def _titled(picture: Image, record: Mapping[str, Any]) -> Image:
    text = f"score {record['score']:.2f}   {_axes_text(record)}"
    return np.concatenate([picture, captions([text], picture.shape[1])])


def _axes_text(record: Mapping[str, Any]) -> str:
    return " x ".join(f"{record[axis]['mm']:.1f}" for axis in ("long_axis", "short_axis")) + " mm"


def _measured(record: Mapping[str, Any]) -> str:
    parts = [f"Lesion {record['number']}", f"score {record['score']:.2f}", _axes_text(record)]
    parts.append(f"{record['volume_mm3'] / 1000:.2f} cm3")
    if (mean := record["hu"]["mean"]) is not None:
        parts.append(f"mean {mean:.0f} HU")
    return "   ".join(parts)


def _told_window(name: str, window: tuple[float, float]) -> str:
    low, high = window
    return f"{f'{name}, ' if name else ''}{low:g} to {high:g} HU"
