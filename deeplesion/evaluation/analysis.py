"""All figures of one or several detectors on one ground truth, for ``tools/analyze.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.bootstrap import (
    BAND_FPS,
    LEVEL,
    REPLICATES,
    SEED,
    BootstrapResult,
    SetFigures,
    bootstrap,
)
from deeplesion.evaluation.calibration import Reliability, reliability
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.coco import coco_ap
from deeplesion.evaluation.comparison import Comparison, compare
from deeplesion.evaluation.froc import REPORT_FPS
from deeplesion.evaluation.matching import match_detections
from deeplesion.evaluation.outcomes import Method
from deeplesion.evaluation.overlaps import describe_rule
from deeplesion.evaluation.predictions import Predictions, unique_names
from deeplesion.evaluation.strata import KINDS, Stratum, strata_of

#: Images of these strata are also scored as a set of their own, as papers do.
OWN_SETS = ("slice_interval",)
IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Settings:
    """How detectors are scored.

    Attributes:
        criterion, threshold, one_to_one: The protocol, see
            :func:`deeplesion.evaluation.matching.match_detections`.
        fps: False positives per image at which sensitivities are given.
        replicates, level, seed: Of the bootstrap, see
            :func:`deeplesion.evaluation.bootstrap.bootstrap`.
        kinds, edges: Of strata, see :func:`deeplesion.evaluation.strata.strata_of`.
    """

    criterion: str = "iou"
    threshold: float = IOU_THRESHOLD
    one_to_one: bool = False
    fps: tuple[float, ...] = REPORT_FPS
    replicates: int = REPLICATES
    level: float = LEVEL
    seed: int = SEED
    kinds: tuple[str, ...] = KINDS
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def protocol(self) -> dict[str, Any]:
        """The arguments of the matching."""
        return {
            "criterion": self.criterion,
            "threshold": self.threshold,
            "one_to_one": self.one_to_one,
        }

    @property
    def rule(self) -> str:
        """When a box hits a lesion, in words."""
        return describe_rule(**self.protocol)

    @property
    def drawing(self) -> dict[str, Any]:
        """The arguments of the bootstrap."""
        return {"replicates": self.replicates, "level": self.level, "seed": self.seed}


class Analysis(NamedTuple):
    """Everything that was worked out.

    Attributes:
        cases: The key slices.
        predictions: One for each detector.
        methods: The detectors with their matches.
        strata: Strata of the lesions.
        results: Figures with intervals by detector; ``strata`` of each in the order of the strata,
            ``own`` in that of those made of images of :data:`OWN_SETS`.
        comparisons: Each detector but the first against the first.
        reliabilities: By detector.
        precisions: ``AP`` and ``AP50`` of COCO by detector.
        settings: How it was scored.
    """

    cases: Sequence[Case]
    predictions: Sequence[Predictions]
    methods: Sequence[Method]
    strata: Sequence[Stratum]
    results: dict[str, BootstrapResult]
    comparisons: list[Comparison]
    reliabilities: dict[str, Reliability]
    precisions: dict[str, dict[str, float]]
    settings: Settings

    @property
    def own_strata(self) -> list[Stratum]:
        """Strata whose images are also scored as a set of their own."""
        return own_strata(self.strata)

    def strata_of_kind(self, name: str, kind: str) -> list[tuple[Stratum, SetFigures]]:
        """Strata of one kind with the figures of one detector."""
        pairs = zip(self.strata, self.results[name].strata, strict=True)
        return [(stratum, figures) for stratum, figures in pairs if stratum.kind == kind]


def own_strata(strata: Sequence[Stratum]) -> list[Stratum]:
    """Those whose images are also scored as a set of their own."""
    return [s for s in strata if s.kind in OWN_SETS and s.images is not None]


def analyze(
    cases: Sequence[Case],
    predictions: Sequence[Predictions],
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Analysis:
    """Score detectors on one ground truth.

    Args:
        cases: The key slices.
        predictions: Of :func:`deeplesion.evaluation.predictions.read_predictions`, each its own
            name. The first is the one that the others are compared with.
        settings: How to score; None: the official protocol.
        progress: Is told what comes next.

    Returns:
        The figures. Strata without lesions are left out.

    Raises:
        DataError: If there are no predictions, or two have one name.
        ValueError: If a setting is out of its range.
    """
    settings = settings or Settings()
    check_predictions(predictions)
    strata = [s for s in strata_of(cases, settings.kinds, settings.edges) if s.lesions.any()]
    patients = [case.patient for case in cases]
    lesions = [case.lesions for case in cases]
    methods, results, reliabilities, precisions = [], {}, {}, {}
    for item in predictions:
        progress(f"{item.name}: matching, {settings.replicates} draws of patients")
        matches = match_detections(item.detections, lesions, **settings.protocol)
        methods.append(Method(item.name, item.detections, matches))
        results[item.name] = bootstrap(
            matches,
            patients,
            lesion_strata=[stratum.lesions for stratum in strata],
            image_strata=[s.images for s in own_strata(strata) if s.images is not None],
            fps=settings.fps,
            band_fps=BAND_FPS,
            **settings.drawing,
        )
        reliabilities[item.name] = reliability(matches, patients, **settings.drawing)
        precisions[item.name] = coco_ap(item.detections, lesions)
    comparisons = []
    if len(methods) > 1:
        progress(f"comparing {len(methods) - 1} with {methods[0].name}")
        by_name = {method.name: method.matches for method in methods}
        comparisons = compare(by_name, patients, fps=settings.fps, **settings.drawing)
    figures = (results, comparisons, reliabilities, precisions)
    return Analysis(cases, predictions, methods, strata, *figures, settings)


def check_predictions(predictions: Sequence[Predictions]) -> None:
    """DataError if there are no predictions, or two have one name."""
    if not predictions:
        raise DataError("there are no predictions: name one file or more")
    try:
        unique_names(predictions)
    except ValueError as error:
        raise DataError(str(error)) from error
