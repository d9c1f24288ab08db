"""Boxes, labels, masks and a legend on an RGB picture, by OpenCV.

Pixel ``i`` of a slice has its center at ``i`` and becomes ``scale`` pixels of the picture, from
``i * scale`` on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = tuple[int, int, int]
Span = tuple[int, int, int, int]  #: first x, y and last x, y
Spot = tuple[int, int, int, int]  #: first x, y and x, y after the last

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.5
LINE = 2
PAD = 3
LEGEND_GAP = 44
DASH = 7
MASK_OPACITY = 0.25
STRIP_ROW = 24
STRIP_COLOR = (24, 24, 24)
TEXT_COLOR = (235, 235, 235)


class Style(NamedTuple):
    """How boxes of one kind look, and whether their label goes below them."""

    color: Color
    dashed: bool = False
    label_below: bool = False
    in_every_legend: bool = True


#: Drawn in this order, the later on top. Color-blind people can tell them apart on gray.
STYLES = {
    "false positive": Style((255, 110, 40)),
    "duplicate": Style((190, 150, 255), label_below=True, in_every_legend=False),
    "hit": Style((60, 190, 255)),
    "lesion found": Style((250, 235, 60), dashed=True),
    "lesion missed": Style((255, 90, 200), dashed=True, label_below=True),
}


class Item(NamedTuple):
    """A box to draw.

    Attributes:
        kind: Key of :data:`STYLES`.
        box: ``(4,)`` x1, y1, x2, y2 in px of the slice.
        label: Text beside it.
    """

    kind: str
    box: NDArray[np.float64]
    label: str = ""


def draw_items(picture: Image, items: Sequence[Item], scale: int) -> None:
    """Draw boxes, then their labels on top, in place.

    Args:
        picture: ``(s * H, s * W, 3)`` RGB.
        items: Boxes; of one kind the later lie on top.
        scale: The enlargement s.
    """
    kinds = list(STYLES)
    ordered = sorted(items, key=lambda item: kinds.index(item.kind))
    spans = [_span(item.box, scale) for item in ordered]
    for item, span in zip(ordered, spans, strict=True):
        _draw_box(picture, span, STYLES[item.kind])
    taken: list[Spot] = []
    # From the top one down: the best score gets the best place.
    for item, span in zip(reversed(ordered), reversed(spans), strict=True):
        if item.label:
            style = STYLES[item.kind]
            spot = label_spot(span, item.label, style.label_below, picture.shape, taken)
            draw_label(picture, spot, item.label, style.color)
            taken.append(spot)


def draw_masks(picture: Image, masks: NDArray[np.float32], kinds: Iterable[str]) -> None:
    """Tint masks in the color of their kind, with an outline, in place.

    Args:
        picture: ``(s * H, s * W, 3)`` RGB.
        masks: ``(n, H, W)`` 0 or 1.
        kinds: Key of :data:`STYLES` of each.
    """
    for mask, kind in zip(masks, kinds, strict=True):
        color = np.array(STYLES[kind].color)
        enlarged = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        mixed = (1 - MASK_OPACITY) * picture[enlarged] + MASK_OPACITY * color
        picture[enlarged] = mixed.astype(np.uint8)
        edges, _ = cv2.findContours(
            enlarged.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, edges, -1, STYLES[kind].color, 1, cv2.LINE_AA)


def draw_recist(picture: Image, axes: NDArray[np.float64], scale: int) -> None:
    """Draw long and short axes, in place.

    Args:
        picture: ``(s * H, s * W, 3)`` RGB.
        axes: ``(m, 4, 2)`` x, y of their ends in px of the slice.
        scale: The enlargement s.
    """
    # The center of pixel i of the slice is that of its scale x scale pixels.
    ends = np.rint((axes + 0.5) * scale - 0.5).astype(int)
    for first, second in ends.reshape(-1, 2, 2).tolist():
        cv2.line(picture, first, second, STYLES["lesion found"].color, 1, cv2.LINE_AA)


def _span(box: NDArray[np.float64], scale: int) -> Span:
    """First and last pixel of the enlarged picture that a box covers; it holds its last pixel."""
    x1, y1, x2, y2 = box
    first, last = np.rint([x1 * scale, y1 * scale]), np.rint([(x2 + 1) * scale, (y2 + 1) * scale])
    return int(first[0]), int(first[1]), int(last[0]) - 1, int(last[1]) - 1


def _draw_box(picture: Image, span: Span, style: Style) -> None:
    x1, y1, x2, y2 = span
    if style.dashed:
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
            _draw_dashes(picture, start, end, style.color)
    else:
        cv2.rectangle(picture, (x1, y1), (x2, y2), style.color, LINE)


def legend(kinds: Sequence[str], caption: str, width: int) -> Image:
    """A strip that tells the meaning of colors.

    Args:
        kinds: Key of :data:`STYLES` of each box, which are counted.
        caption: Line of text below; may be empty.
        width: px.

    Returns:
        ``(h, width, 3)`` RGB; as high as its lines need.
    """
    strip: Image = np.empty((0, width, 3), np.uint8)
    x = width
    for kind, style in STYLES.items():
        count = kinds.count(kind)
        if not count and not style.in_every_legend:
            continue
        text = f"{kind} {count}"
        needed = cv2.getTextSize(text, FONT, FONT_SCALE, 1)[0][0] + LEGEND_GAP
        if x + needed > width:
            strip, x = _with_row(strip), 10
        middle = len(strip) - STRIP_ROW // 2
        _draw_box(strip, (x, middle - 6, x + 22, middle + 6), style)
        _put_line(strip, text, x + 30, style.color)
        x += needed
    return np.concatenate([strip, captions([caption] if caption else [], width)])


def captions(lines: Sequence[str], width: int) -> Image:
    """A strip of lines of text.

    Args:
        lines: Of text; those longer than the strip are broken between words.
        width: px.

    Returns:
        ``(h, width, 3)`` RGB; nothing high without lines.
    """
    strip: Image = np.empty((0, width, 3), np.uint8)
    for line in lines:
        for part in _broken(line, width - 20):
            strip = _with_row(strip)
            _put_line(strip, part, 10, TEXT_COLOR)
    return strip


def _broken(line: str, width: int) -> list[str]:
    """Parts of a line that are at most so many px wide, but for words that are wider alone."""
    parts = [""]
    for word in line.split(" "):
        longer = f"{parts[-1]} {word}" if parts[-1] else word
        if parts[-1] and cv2.getTextSize(longer, FONT, FONT_SCALE, 1)[0][0] > width:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts


def _draw_dashes(
    picture: Image, start: tuple[int, int], end: tuple[int, int], color: Color
) -> None:
    a, b = np.array(start, float), np.array(end, float)
    count = max(1, round(float(np.abs(b - a).max()) / (2 * DASH)))
    for step in range(count):
        # A dash about each end, the gap between them: corners are drawn whole.
        for low, high in ((step, step + 0.25), (step + 0.75, step + 1)):
            p, q = (
                np.rint(a + (b - a) * part / count).astype(int).tolist() for part in (low, high)
            )
            cv2.line(picture, p, q, color, LINE)


def draw_label(picture: Image, spot: Spot, label: str, color: Color) -> None:
    """Draw text on a dark plate, in place.

    Args:
        picture: ``(H, W, 3)`` RGB.
        spot: Where the plate is, as :func:`label_spot` tells.
        label: The text.
        color: Of the text.
    """
    left, top, right, bottom = spot
    plate = picture[max(top, 0) : bottom, max(left, 0) : right]
    plate[:] = plate // 4
    place = (left + PAD, bottom - PAD)
    cv2.putText(picture, label, place, FONT, FONT_SCALE, color, 1, cv2.LINE_AA)


def label_spot(
    span: Span, label: str, below: bool, shape: tuple[int, ...], taken: Sequence[Spot]
) -> Spot:
    """Where a label goes: above or below its box, inside the picture, off other labels.

    Args:
        span: Of the box.
        label: The text.
        below: Prefer the place below the box.
        shape: Of the picture, rows first.
        taken: Spots of other labels.
    """
    (width, height), _ = cv2.getTextSize(label, FONT, FONT_SCALE, 1)
    width, height = width + 2 * PAD, height + 2 * PAD
    x1, y1, x2, y2 = span
    heights = [y1 - LINE - height, y2 + LINE + 1]
    spots = []
    for top in reversed(heights) if below else heights:
        for left in (x1 - LINE, x2 + LINE + 1 - width):
            x = max(min(left, shape[1] - width), 0)
            y = max(min(top, shape[0] - height), 0)
            spots.append((y != top, (x, y, x + width, y + height)))
    spots.sort(key=lambda spot: spot[0])  # stable: those that were not pushed onto their box first
    free = [spot for _, spot in spots if not any(_overlap(spot, other) for other in taken)]
    return free[0] if free else spots[0][1]


def _overlap(first: Spot, second: Spot) -> bool:
    across = first[0] < second[2] and second[0] < first[2]
    return across and first[1] < second[3] and second[1] < first[3]


def _with_row(strip: Image) -> Image:
    row = np.full((STRIP_ROW, strip.shape[1], 3), STRIP_COLOR, np.uint8)
    return np.concatenate([strip, row])


def _put_line(strip: Image, text: str, x: int, color: Color) -> None:
    cv2.putText(strip, text, (x, len(strip) - 7), FONT, FONT_SCALE, color, 1, cv2.LINE_AA)
