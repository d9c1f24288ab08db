"""A detector of key slices, run over a whole scan."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from tqdm import tqdm

from deeplesion.engine.config import UsageError
from deeplesion.engine.flip_views import DEFAULT_VIEWS, check_views
from deeplesion.inference.findings import Findings
from deeplesion.inference.loading import build_detector, choose_device, read_config
from deeplesion.inference.network import StackNetwork, raise_score_threshold
from deeplesion.inference.pipeline import SlicePipeline, pipeline_steps
from deeplesion.inference.planes import choose_key_slices
from deeplesion.inference.sweep import Sweep
from deeplesion.lesions.linking import (
    LINK_THRESHOLD,
    SCORE_THRESHOLD,
    key_stride,
    link_detections,
)
from deeplesion.lesions.model_card import ModelCard
from deeplesion.scans import read_scan
from deeplesion.scans.scan import Scan

PathLike = str | os.PathLike[str]


class LesionDetector:
    """Finds lesions in CT scans.

    Any detector of this project will do. A scan is prepared as its config's test pipeline prepares
    key slices: number and distance of slices, interpolation, window and size are the config's.
    Every slice, or one every so many mm, is a key slice and seen with its neighbors.

    Args:
        config: A config file, or a config.
        checkpoint: A file of its weights. It is read without running what is in it.
        device: Such as ``cpu`` or ``cuda:0``; None: a GPU if there is one.
        amp: Compute in mixed precision (bfloat16 where the device has it).
        batch_size: Key slices at once; None: as many as memory allows.
        score_threshold: Least score of a lesion, in [0, 1].
        link_threshold: Least score of a box that is taken for a part of one; None: 0.1, or the
            score threshold if that is lower. See :mod:`deeplesion.lesions.linking`.
        tta: Test-time augmentation: see each key slice flipped, too, and fuse what is found, as
            ``tools/test.py --tta`` does. ``True`` for the horizontal view, or names of
            :data:`deeplesion.engine.flip_views.VIEWS`. Each view costs as much time again.

    Attributes:
        card: Which network this is, as every output tells.
        views: Flipped views that are seen, too.

    Raises:
        UsageError: The config, device, a threshold or a view cannot be used.
        CheckpointError: The checkpoint cannot be read or does not fit the config.

    Example:
        >>> detector = LesionDetector("config.py", "weights.pth")
        >>> findings = detector.detect("patient/CT")
        >>> findings.save("findings")
    """

    def __init__(
        self,
        config: PathLike | Config,
        checkpoint: PathLike,
        device: str | torch.device | None = None,
        *,
        amp: bool = False,
        batch_size: int | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        link_threshold: float | None = None,
        tta: bool | Sequence[str] = False,
    ) -> None:
        if link_threshold is None:
            link_threshold = min(LINK_THRESHOLD, score_threshold)
        if not 0 <= link_threshold <= score_threshold <= 1:
            raise UsageError(
                "thresholds must be 0 <= link_threshold <= score_threshold <= 1, got "
                f"{link_threshold} and {score_threshold}"
            )
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be >= 1, got {batch_size}")
        self.views = DEFAULT_VIEWS if tta is True else tuple(tta or ())
        if self.views:
            check_views(self.views)
        cfg = read_config(config)
        self.pipeline = SlicePipeline.from_config(cfg)
        model = build_detector(cfg, os.fspath(checkpoint), choose_device(device))
        if not self.views:  # a box that is faint in one view counts where views are fused
            raise_score_threshold(model, link_threshold)
        self.network = StackNetwork(model, amp)
        self.card = _model_card(cfg, checkpoint)
        self.batch_size = batch_size
        self.score_threshold, self.link_threshold = score_threshold, link_threshold

    def detect(
        self,
        scan: Scan | PathLike | Sequence[PathLike],
        slices: slice | Sequence[int] | None = None,
        stride_mm: float | None = None,
        *,
        series: str | int | None = None,
        spacing: tuple[float, float, float] | None = None,
        check_hu: bool = True,
        progress: bool = False,
    ) -> Findings:
        """Look at a scan.

        Args:
            scan: A scan, or what :func:`deeplesion.scans.read_scan` takes.
            slices: Key slices, from 0 at the head: Python's ``slice`` or indices; None: all.
                Their neighbors are seen whether they are among them or not.
            stride_mm: Take a key slice every so many mm; None: every slice.
            series: Which DICOM series, see :func:`deeplesion.scans.read_scan`.
            spacing: Of PNG slices, x, y, z in mm, see there.
            check_hu: Whether to refuse what does not look like a CT in HU.
            progress: Show progress on stderr.

        Returns:
            The lesions and what there is to tell of them.

        Raises:
            ScanError: The scan cannot be read, or is none.
            UsageError: There are no such slices, or memory is not enough.
        """
        if not isinstance(scan, Scan):
            scan = read_scan(scan, series, spacing=spacing, check_hu=check_hu)
        keys = choose_key_slices(scan, slices, stride_mm)
        options = (self.batch_size, self.link_threshold, self.views)
        sweep = Sweep(self.network, self.pipeline, scan, keys, *options)
        bar = tqdm(sweep, scan.name, len(keys), unit="slice", file=sys.stderr, disable=not progress)
        detections = tuple(bar)
        lesions = link_detections(
            detections,
            scan.geometry.spacing,
            link_threshold=self.link_threshold,
            score_threshold=self.score_threshold,
        )
        settings = {
            "score_threshold": self.score_threshold,
            "link_threshold": self.link_threshold,
            "key_slices": [keys[0], keys[-1]],
            "stride": key_stride(detections),
            "network_slices": self.pipeline.load.num_slices,
            "network_interval_mm": _known(sweep.thickness),
            "mixed_precision": self.network.amp,
            "flipped_views": list(self.views),
        }
        return Findings(scan, tuple(lesions), detections, self.card, settings)


def _model_card(cfg: Config, checkpoint: PathLike) -> ModelCard:
    """Card whose hash of the config is that of network and pipeline, whatever files they are in."""
    decisive = {"model": cfg.to_dict()["model"], "pipeline": pipeline_steps(cfg)}
    text = json.dumps(decisive, sort_keys=True, default=str)
    name = Path(cfg.filename or "config").name
    return ModelCard.of_files(name, checkpoint, config_text=text)


def _known(millimeters: float) -> float | None:
    """None for NaN, which JSON lacks."""
    return millimeters if millimeters == millimeters else None
