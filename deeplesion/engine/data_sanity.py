"""What looks wrong in the data of a training: what the sets hold, and what their pipeline loses."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplesion.engine.sanity import ERROR, OK, WARNING, Finding
from deeplesion.engine.wording import counted

#: Slice intervals in mm that CT has; others are likely mistakes.
PLAUSIBLE_MM = (0.2, 20.0)
#: Shares of lesions that a pipeline may lose at random, and that no pipeline should.
SOME_LOST, MANY_LOST = 0.05, 0.5
#: Narrower boxes hold nothing, in px.
NARROWEST = 1.0
SHOWN, SHOWN_INTERVALS = 3, 6


@dataclass(frozen=True)
class DataFacts:
    """What the annotations of a data set say.

    Attributes:
        name: ``train`` or ``val``.
        files: File name of each image.
        patients: Patient of each image, None where unknown.
        intervals: Slice interval of each image in mm, NaN where unknown.
        lesions: Number of lesions of each image.
        degenerate: File names of images with a box that is not finite or narrower than a pixel.
    """

    name: str
    files: tuple[str, ...]
    patients: tuple[Any, ...]
    intervals: tuple[float, ...]
    lesions: tuple[int, ...]
    degenerate: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line."""
        counts = [
            counted(len(self.files), "image"),
            counted(sum(self.lesions), "lesion"),
            counted(len(set(self.patients)), "patient"),
        ]
        rounded = Counter(_interval_name(mm) for mm in self.intervals)
        slices = [f"{name}: {count}" for name, count in sorted(rounded.items())]
        if len(slices) > SHOWN_INTERVALS:
            slices[SHOWN_INTERVALS:] = ["..."]
        return f"{', '.join(counts)} ({', '.join(slices)})"


@dataclass
class PipelineFacts:
    """What a pipeline made of some images.

    Attributes:
        images: Number of them.
        lesions_in, lesions_out: Lesions of the annotations, and of the training samples.
        masks, empty_masks: Masks of the samples, and those without a pixel.
        degenerate: Boxes of the samples that are not finite or narrower than a pixel.
        unknown_thickness: Samples whose ``thickness`` is missing or no number > 0.
        image_bytes: Largest stack of slices.
        seconds: Spent by the pipeline.
        losers: Images of which all lesions were lost.
        failures: Messages of images that it failed on.
    """

    images: int = 0
    lesions_in: int = 0
    lesions_out: int = 0
    masks: int = 0
    empty_masks: int = 0
    degenerate: int = 0
    unknown_thickness: int = 0
    image_bytes: int = 0
    seconds: float = 0.0
    losers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def data_facts(name: str, dataset: Any) -> DataFacts:
    """Read what the annotations of a data set of mmdetection say, without loading an image."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    boxes = [[lesion["bbox"] for lesion in info.get("instances", ())] for info in infos]
    files = [str(info.get("file_name", info.get("img_path"))) for info in infos]
    return DataFacts(
        name=name,
        files=tuple(files),
        patients=tuple(info.get("patient_id") for info in infos),
        intervals=tuple(_number(info.get("slice_interval")) for info in infos),
        lesions=tuple(map(len, boxes)),
        degenerate=tuple(f for f, b in zip(files, boxes, strict=True) if _count_degenerate(b)),
    )


def try_pipeline(dataset: Any, number: int, budget: float = math.inf) -> PipelineFacts:
    """Run the pipeline of a data set over some of its images, from first to last.

    Args:
        dataset: Of mmdetection.
        number: How many, at most.
        budget: No further one is begun after this many seconds.

    Returns:
        What came out; a failure is noted, not raised.
    """
    facts = PipelineFacts()
    step = max(1, math.ceil(len(dataset) / number))
    begin = time.perf_counter()
    for index in range(0, len(dataset), step):
        if time.perf_counter() - begin > budget:
            break
        info = dataset.get_data_info(index)
        name = str(info.get("file_name", index))
        facts.images += 1
        lesions = sum(not lesion.get("ignore_flag") for lesion in info.get("instances", ()))
        try:
            # Data sets in wrappers only give whole samples.
            sample = dataset.pipeline(info) if hasattr(dataset, "pipeline") else dataset[index]
        except Exception as error:  # whatever a pipeline fails with is what is looked for
            facts.failures.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        _count_sample(facts, name, lesions, sample)
    facts.seconds = time.perf_counter() - begin
    return facts


def _count_sample(facts: PipelineFacts, name: str, lesions: int, sample: dict | None) -> None:
    instances: Any = sample["data_samples"].gt_instances if sample else ()
    facts.lesions_in += lesions
    facts.lesions_out += len(instances)
    if lesions and not len(instances):
        facts.losers.append(name)
    if sample is None:
        return
    facts.image_bytes = max(facts.image_bytes, sample["inputs"].nbytes)
    thickness = _number(sample["data_samples"].metainfo.get("thickness"))
    facts.unknown_thickness += not thickness > 0
    boxes = instances.bboxes if "bboxes" in instances else []
    facts.degenerate += _count_degenerate(getattr(boxes, "tensor", boxes))
    if "masks" in instances:
        pixels = np.asarray(instances.masks.areas)
        facts.masks += len(pixels)
        facts.empty_masks += int((pixels == 0).sum())


def check_sets(train: DataFacts, val: DataFacts | None) -> list[Finding]:
    """Look for patients in both sets, and for what the annotations lack.

    Args:
        train: The training set.
        val: The validation set, if there is one.
    """
    found = [check_overlap(train, val)] if val is not None else []
    for facts in filter(None, (train, val)):
        found += [check_intervals(facts), *check_lesions(facts)]
    return found


def check_overlap(train: DataFacts, val: DataFacts) -> Finding:
    """Look for patients of the training set in the validation set."""
    if set(val.files) <= set(train.files):
        what = "the validation images are training images: figures tell nothing of new patients"
        return Finding(WARNING, what, "fine for a test of over-fitting, else set another split")
    shared = (set(train.patients) & set(val.patients)) - {None}
    if shared:
        first = ", ".join(sorted(map(str, shared))[:SHOWN])
        patients = counted(len(shared), "patient")
        what = f"{patients} in both train and val ({first}): figures will be too good"
        return Finding(ERROR, what, "split by patient")
    return Finding(OK, "no patient is in train and val")


def check_intervals(facts: DataFacts) -> Finding:
    """Look for slice intervals that are missing or implausible."""
    low, high = PLAUSIBLE_MM
    missing = [f for f, mm in zip(facts.files, facts.intervals, strict=True) if not mm > 0]
    odd = [
        f
        for f, mm in zip(facts.files, facts.intervals, strict=True)
        if mm > 0 and not low <= mm <= high
    ]
    if not missing and not odd:
        return Finding(OK, f"{facts.name}: every image has a plausible slice interval")
    parts = []
    if missing:
        images = counted(len(missing), "image")
        parts.append(f"{images} without a slice interval ({missing[0]})")
    if odd:
        parts.append(f"{len(odd)} not between {low:g} and {high:g} mm ({odd[0]})")
    remedy = "mend Spacing_mm_px_ of DL_info.csv; unknown thickness is treated as 2D"
    return Finding(WARNING, f"{facts.name}: {', '.join(parts)}", remedy)


def check_lesions(facts: DataFacts) -> list[Finding]:
    """Look for images without lesions and boxes without area."""
    found = []
    empty = [f for f, count in zip(facts.files, facts.lesions, strict=True) if not count]
    if empty:
        level = ERROR if len(empty) == len(facts.files) else WARNING
        what = f"{facts.name}: {len(empty)} of {len(facts.files)} images have no lesion"
        remedy = "drop them by filter_cfg=dict(filter_empty_gt=True), unless that is meant"
        found.append(Finding(level, f"{what} ({empty[0]})", remedy))
    if facts.degenerate:
        what = f"{facts.name}: {len(facts.degenerate)} images have boxes without area"
        found.append(Finding(ERROR, f"{what} ({facts.degenerate[0]})", "mend Bounding_boxes"))
    return found or [Finding(OK, f"{facts.name}: every image has lesions with boxes")]


def check_pipeline(facts: PipelineFacts) -> list[Finding]:
    """Look for what the training pipeline loses or spoils."""
    if facts.failures:
        what = f"the pipeline fails on {len(facts.failures)} of {facts.images} images"
        remedy = "mend the data (tools/doctor.py --deep), or set on_error='skip' of the dataset"
        return [Finding(ERROR, f"{what}: {facts.failures[0]}", remedy)]
    found = [_check_lost(facts)]
    if facts.masks:
        what = f"{facts.empty_masks} of {facts.masks} masks are empty after the pipeline"
        remedy = "make them anew: tools/make_masks.py" if facts.empty_masks else ""
        found.append(Finding(WARNING if facts.empty_masks else OK, what, remedy))
    if facts.degenerate:
        what = f"{facts.degenerate} boxes have no area after the pipeline"
        found.append(Finding(ERROR, what, "look at the augmentation, and at min_visible"))
    if facts.unknown_thickness:
        what = f"{facts.unknown_thickness} of {facts.images} samples have no thickness"
        remedy = "add 'thickness' to meta_keys of PackDetInputs, and mend Spacing_mm_px_"
        found.append(Finding(WARNING, what, remedy))
    return found


def _check_lost(facts: PipelineFacts) -> Finding:
    lost = facts.lesions_in - facts.lesions_out
    share = lost / max(facts.lesions_in, 1)
    what = f"the pipeline loses {lost} of {facts.lesions_in} lesions on {facts.images} images"
    if share <= SOME_LOST:
        return Finding(OK, what)
    named = f" ({', '.join(facts.losers[:SHOWN])})" if facts.losers else ""
    remedy = "look at min_visible and the limits of RandomCTAffine, and at crops"
    return Finding(ERROR if share > MANY_LOST else WARNING, what + named, remedy)


def _count_degenerate(boxes: Sequence) -> int:
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2] + 1
    return int((~(np.isfinite(corners).all(axis=1) & (sides >= NARROWEST).all(axis=1))).sum())


def _interval_name(mm: float) -> str:
    return f"{mm:g} mm" if mm > 0 else "unknown"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
