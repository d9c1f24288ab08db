"""Sensitivities of data sets that are drawn from one, patient by patient, without a new matching.

A data set drawn with replacement holds each patient ``w`` times, with all of its images, boxes and
lesions. What its FROC curve gives at some false positives per image follows from the matches of
the original and the weights ``w``: the lesions hit before the box at which the weighted count of
false positives first exceeds the limit. The result is that of
:func:`deeplesion.evaluation.froc.sensitivity_at` on the set actually drawn, bit for bit. (Only
where boxes have the same score may the two differ, by the order in which equal ones are taken.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.evaluation.matching import MISSED, Bools, Floats, Ints, Matches, checked_mask

#: Values of a work array: bounds memory, whatever the number of replicates.
CHUNK_VALUES = 2_000_000
#: False positives are counted by blocks first, and one by one within the block that matters.
MIN_BLOCK = 128
MAX_BLOCKS = 2048


class Grid(NamedTuple):
    """False positives per image at which sets are evaluated.

    Attributes:
        fps: Those of the figures, F of them.
        mean_fps: Those of the mean, M of them.
        band_fps: Those of the band, G of them.
    """

    fps: tuple[float, ...]
    mean_fps: tuple[float, ...]
    band_fps: tuple[float, ...] = ()

    @property
    def columns(self) -> tuple[float, ...]:
        """All of them, F + M + G."""
        return (*self.fps, *self.mean_fps, *self.band_fps)

    def figures(self, sensitivities: Floats) -> Floats:
        """``(..., F + M + G)`` sensitivities to ``(..., F + 1 + G)``: their mean in place of M."""
        first, last = len(self.fps), len(self.fps) + len(self.mean_fps)
        mean = sensitivities[..., first:last].mean(axis=-1, keepdims=True)
        return np.concatenate(
            [sensitivities[..., :first], mean, sensitivities[..., last:]], axis=-1
        )


def checked_grid(
    fps: Sequence[float], mean_fps: Sequence[float], band_fps: Sequence[float] = ()
) -> Grid:
    """A grid; ValueError if a number is negative or not finite, or there is none for the mean."""
    grid = Grid(*(tuple(map(float, values)) for values in (fps, mean_fps, band_fps)))
    for value in grid.columns:
        if not 0 <= value < np.inf:
            raise ValueError(f"false positives per image must be >= 0 and finite, got {value}")
    if not grid.mean_fps:
        raise ValueError("mean_fps must have at least one number of false positives per image")
    return grid


def patient_indices(patients: Sequence[object]) -> tuple[Ints, int]:
    """Number the patients from 0, by their first image.

    Args:
        patients: The patient of each image, anything hashable.

    Returns:
        ``(num_images,)`` index of each image's patient, and how many patients there are.
    """
    numbers: dict[object, int] = {}
    indices = [numbers.setdefault(patient, len(numbers)) for patient in patients]
    return np.array(indices, np.int64), len(numbers)


def patient_weights(num_patients: int, replicates: int, seed: int) -> Iterator[Ints]:
    """How often each patient is drawn, in chunks of replicates.

    Args:
        num_patients: P; as many are drawn, with replacement.
        replicates: B, 1 or more.
        seed: Of numpy's default generator. The same draws come for any size of chunks.

    Yields:
        ``(b, P)`` counts, B rows in all.
    """
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_VALUES // max(num_patients, 1))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        if not num_patients:
            yield np.zeros((rows, 0), np.int64)
            continue
        yield rng.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=rows)


class Resampler:
    """Sensitivities of one set of images, and of strata of its lesions, under patients' weights.

    Memory is bounded apart from the result, for replicates are worked off in chunks.

    Args:
        matches: Of :func:`deeplesion.evaluation.matching.match_detections` or ``select_images``.
        image_patient: ``(num_images,)`` index of each image's patient.
        num_patients: P.
        fps: ``(K,)`` false positives per image.
        strata: Each ``(m,)`` bool, lesions that are counted at the thresholds of the whole set.

    Raises:
        ValueError: If ``image_patient`` or a stratum is of another shape.
    """

    def __init__(
        self,
        matches: Matches,
        image_patient: Ints,
        num_patients: int,
        fps: ArrayLike,
        strata: Sequence[ArrayLike] = (),
    ) -> None:
        if image_patient.shape != (matches.num_images,):
            raise ValueError(
                f"image_patient must have one index for each of {matches.num_images} images, "
                f"got {image_patient.shape}"
            )
        self.num_patients = num_patients
        self.fps = np.asarray(fps, np.float64)
        self.images = np.bincount(image_patient, minlength=num_patients).astype(np.float64)
        self.blocks = _count_blocks(matches, image_patient, num_patients)
        hit = np.flatnonzero(matches.first_hit != MISSED)
        hit = hit[np.argsort(matches.first_hit[hit], kind="stable")]
        # A limit that ends at the i-th false positive lets in all that is hit before that box.
        ends = np.append(np.flatnonzero(matches.false_positive), len(matches.scores))
        self._hits_before = np.searchsorted(matches.first_hit[hit], ends)
        patient = image_patient[matches.lesion_image]
        everything = np.ones(len(patient), np.bool_)
        masks = [everything, *(checked_mask(m, len(patient), "strata") for m in strata)]
        self.sets = [_Lesions.of(mask, hit, patient, num_patients) for mask in masks]

    def sensitivities(self, weights: Ints) -> Floats:
        """Sensitivity under some weights.

        Args:
            weights: ``(B, P)`` how often each patient is there; 0 or more.

        Returns:
            ``(1 + S, B, K)``: of all lesions, then of each stratum. NaN where the weighted set has
            no lesion of them, or no image.
        """
        largest = max(len(lesions.patient) for lesions in self.sets) + 1
        inner = max(len(self.fps) * self.blocks.members.shape[1], len(self.blocks.counts))
        step = max(1, CHUNK_VALUES // max(largest, inner, self.num_patients, 1))
        parts = [
            self._chunk(weights[start : start + step].astype(np.float64))
            for start in range(0, len(weights), step)
        ]
        return np.concatenate([np.empty((len(self.sets), 0, len(self.fps))), *parts], axis=1)

    def _chunk(self, weights: Floats) -> Floats:
        limits = _limits(weights @ self.images, self.fps)
        reached = self._hits_before[self.blocks.within(weights, limits)]
        return np.stack([lesions.shares(weights, reached) for lesions in self.sets])


class _Lesions(NamedTuple):
    """Lesions of a stratum: those hit, in the order in which they are, and how many there are."""

    patient: Ints  # (h,) of each lesion that is hit
    position: Ints  # (H + 1,) how many of the first i lesions hit in the set are of the stratum
    total: Floats  # (P,) lesions of each patient

    @classmethod
    def of(cls, mask: Bools, hit: Ints, patient: Ints, num_patients: int) -> _Lesions:
        member = mask[hit]
        return cls(
            patient=patient[hit][member],
            position=np.concatenate([[0], np.cumsum(member)]),
            total=np.bincount(patient[mask], minlength=num_patients).astype(np.float64),
        )

    def shares(self, weights: Floats, reached: Ints) -> Floats:
        """``(B, K)`` share of the lesions that is among the first ``reached`` hit in the set."""
        hits = np.zeros((len(weights), len(self.patient) + 1))
        np.cumsum(weights[:, self.patient], axis=1, out=hits[:, 1:])
        total = (weights @ self.total)[:, None]
        gained = np.take_along_axis(hits, self.position[reached], axis=1)
        return np.divide(gained, total, out=np.full(gained.shape, np.nan), where=total > 0)


class _Blocks(NamedTuple):
    """False positives in their order, by blocks of equal size."""

    counts: Floats  # (blocks, P) false positives of each patient in the block
    members: Ints  # (blocks + 1, size) patient of each; P, who weighs nothing, fills up
    total: int

    def within(self, weights: Floats, limits: Floats) -> Ints:
        """``(B, K)`` how many false positives come before the one that exceeds the limit."""
        counted = np.zeros((len(weights), len(self.counts) + 1))
        np.cumsum(weights @ self.counts.T, axis=1, out=counted[:, 1:])
        # One search for all rows: each row's numbers are lifted above those of the row before.
        lift = np.arange(len(weights))[:, None] * (counted.max(initial=0) + 2)
        wanted = np.minimum(limits, counted[:, -1:]) + lift
        ahead = np.searchsorted((counted[:, 1:] + lift).ravel(), wanted.ravel(), side="right")
        block = ahead.reshape(limits.shape) - np.arange(len(weights))[:, None] * len(self.counts)
        padded = np.pad(weights, ((0, 0), (0, 1)))
        rows = np.arange(len(weights))[:, None, None]
        inside = np.cumsum(padded[rows, self.members[block]], axis=-1)
        inside += np.take_along_axis(counted, block, axis=1)[:, :, None]
        passed = (inside <= limits[:, :, None]).sum(axis=-1)
        return np.minimum(block * self.members.shape[1] + passed, self.total)


def _count_blocks(matches: Matches, image_patient: Ints, num_patients: int) -> _Blocks:
    patient = image_patient[matches.image[matches.false_positive]]
    most = min(MAX_BLOCKS, max(1, CHUNK_VALUES // max(num_patients, 1)))
    size = max(MIN_BLOCK, -(-len(patient) // most))
    blocks = -(-len(patient) // size)
    members = np.full((blocks + 1) * size, num_patients)
    members[: len(patient)] = patient
    cells = np.arange(len(patient)) // size * num_patients + patient
    counts = np.bincount(cells, minlength=blocks * num_patients).reshape(blocks, num_patients)
    return _Blocks(counts.astype(np.float64), members.reshape(blocks + 1, size), len(patient))


def _limits(images: Floats, fps: Floats) -> Floats:
    """``(B, K)`` largest number of false positives c with ``c / images <= fps``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        limits = np.floor(fps * images[:, None])
        # The curve compares quotients, which rounding may put on the other side of a product.
        limits += (limits + 1) / images[:, None] <= fps
        limits -= limits / images[:, None] > fps
    return limits
