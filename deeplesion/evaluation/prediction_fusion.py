"""Fusing the predictions of several detectors for the same images, from their files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from deeplesion.datasets.info_files import read_json
from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.box_fusion import IOU_THRESHOLD, FusedBoxes, fuse_images, vote_masks
from deeplesion.evaluation.cases import canonical_name
from deeplesion.evaluation.matching import Floats, Ints
from deeplesion.evaluation.prediction_rows import our_rows

#: A mask as COCO's run lengths: ``size`` and ``counts``.
Rle = dict[str, Any]


class MemberPredictions(NamedTuple):
    """What one detector predicted.

    Attributes:
        source: The file, for messages.
        boxes: By canonical file name ``(n, 5)`` x1, y1, x2, y2 in px and score.
        masks: Likewise a mask of each box; None where the file has none.
        meta: What the file tells of itself.
    """

    source: str
    boxes: dict[str, Floats]
    masks: dict[str, list[Rle]] | None
    meta: dict[str, Any]


def read_member(path: str | os.PathLike[str]) -> MemberPredictions:
    """Read ``predictions.json`` as an evaluation wrote it.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: It is of another layout or malformed; it says where.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must be a predictions.json of tools/test.py, got a list")
    rows = our_rows(content, path)
    boxes = {str(name): found for name, found in rows.boxes.items()}
    entries = {canonical_name(entry["file_name"]): entry for entry in content["images"]}
    masks = {name: entry["masks"] for name, entry in entries.items() if "masks" in entry}
    for name, found in masks.items():
        if not (isinstance(found, list) and len(found) == len(boxes[name])):
            raise DataError(f"{path}: image {name} must have a mask for each of its boxes")
    return MemberPredictions(
        os.fspath(path), boxes, masks if len(masks) == len(boxes) else None, rows.meta
    )


def check_same_images(images: Mapping[str, Sequence[str]]) -> None:
    """Refuse to fuse what was predicted for other images.

    Args:
        images: By the name of the member its images' file names, two members or more.

    Raises:
        DataError: Two differ; it names an image that one of them lacks.
    """
    (first, wanted), *others = ((name, set(files)) for name, files in images.items())
    for name, there in others:
        for one, other, missing in ((name, first, wanted - there), (first, name, there - wanted)):
            if missing:
                raise DataError(
                    f"{one} lacks image {min(missing)} ({len(missing)} in all) that {other} has: "
                    "the members of an ensemble must be evaluated on the same images"
                )


def fuse_predictions(
    members: Sequence[MemberPredictions],
    weights: Sequence[float] | None = None,
    iou_threshold: float = IOU_THRESHOLD,
) -> dict[str, tuple[Floats, list[Rle] | None]]:
    """Fuse predictions by :func:`deeplesion.evaluation.box_fusion.weighted_box_fusion`.

    Args:
        members: Predictions for the same images.
        weights: How much each member counts; None: all the same.
        iou_threshold: See there.

    Returns:
        By file name ``(m, 5)`` fused boxes with scores, and their masks where all members have
        some: those of :func:`deeplesion.evaluation.box_fusion.vote_masks`.

    Raises:
        DataError: They are for other images, or a score is negative.
    """
    check_same_images({f"{i + 1}: {m.source}": list(m.boxes) for i, m in enumerate(members)})
    names = sorted(members[0].boxes)
    for member in members:
        for name in names:
            if (member.boxes[name][:, 4] < 0).any():
                raise DataError(f"{member.source}: image {name} has scores < 0, got logits?")
    parts = [[member.boxes[name] for member in members] for name in names]
    fused = fuse_images(
        [([p[:, :4] for p in part], [p[:, 4] for p in part]) for part in parts],
        weights,
        iou_threshold,
    )
    masks = [member.masks for member in members]
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    result: dict[str, tuple[Floats, list[Rle] | None]] = {}
    for name, part, one in zip(names, parts, fused, strict=True):
        found = None
        if all(m is not None for m in masks):
            rles = [rle for m in masks if m is not None for rle in m[name]]
            votes = np.concatenate([p[:, 4] * w for p, w in zip(part, shares, strict=True)])
            found = _fused_masks(rles, votes, one)
        result[name] = (np.column_stack([one.boxes, one.scores]), found)
    return result


def members_of(cluster: Ints, number: int) -> list[Ints]:
    """Indices of the boxes that went into each fused box.

    Args:
        cluster: Of :class:`deeplesion.evaluation.box_fusion.FusedBoxes`.
        number: How many fused boxes there are.
    """
    order = np.argsort(cluster, kind="stable")
    edges = np.searchsorted(cluster[order], np.arange(number + 1))
    return [order[start:end] for start, end in pairwise(edges)]


def _fused_masks(rles: Sequence[Rle], votes: Floats, fused: FusedBoxes) -> list[Rle]:
    """The mask of each fused box; one that has a single member keeps its own."""
    found = []
    for members in members_of(fused.cluster, len(fused.boxes)):
        if len(members) == 1:
            found.append(dict(rles[members[0]]))
            continue
        stack = np.stack([coco_mask.decode(rles[i]) for i in members])
        voted = vote_masks(stack, votes[members]).astype(np.uint8)
        rle = coco_mask.encode(np.asfortranarray(voted))
        found.append({"size": rle["size"], "counts": rle["counts"].decode("ascii")})
    return found
