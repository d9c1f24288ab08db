"""What a detector found in a scan, and writing it down."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.config import UsageError
from deeplesion.inference.folders import OUTPUTS, check_apart, check_replaceable, new_folder
from deeplesion.lesions.document import build_document, write_json
from deeplesion.lesions.label_maps import label_map
from deeplesion.lesions.lesion import Lesion, SliceDetections
from deeplesion.lesions.linking import key_stride
from deeplesion.lesions.model_card import ModelCard
from deeplesion.lesions.overlays import write_overlays
from deeplesion.lesions.page import write_page
from deeplesion.lesions.table import write_csv
from deeplesion.scans import write_labels
from deeplesion.scans.scan import Scan

DICOM = "DICOM"


class LeftOutWarning(UserWarning):
    """An output was not written, for the scan lacks what it needs."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in a scan.

    Attributes:
        scan: The scan.
        lesions: By number, in descending order of score.
        detections: Boxes of every key slice, before they were linked.
        card: What found them.
        settings: How: thresholds and the like.
    """

    scan: Scan
    lesions: tuple[Lesion, ...]
    detections: tuple[SliceDetections, ...]
    card: ModelCard
    settings: Mapping[str, Any]

    @property
    def stride(self) -> int:
        """Distance of key slices, in slices."""
        return key_stride(self.detections)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What ``lesions.json`` holds, see docs/lesions.md; nothing tells who the patient is."""
        return self._document(with_identity=False)

    def _document(self, with_identity: bool) -> dict[str, Any]:
        return build_document(
            self.scan, self.lesions, self.card, self.settings, with_identity, stride=self.stride
        )

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        without: tuple[str, ...] = (),
        with_identity: bool = False,
        overwrite: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Write all there is to tell; the folder appears when it is complete.

        Args:
            folder: Where to; it is made.
            without: Outputs to leave out, of :data:`~.folders.OUTPUTS`. A DICOM SR is written for
                DICOM scans only.
            with_identity: Whether ``lesions.json`` and ``report.html`` tell who the patient is. The
                SR always does, for it belongs to the patient's study; the others never.
            overwrite: Whether the folder may replace findings of that name; one that holds
                anything else is not.
            extra: Further JSON files by name.

        Returns:
            Files and folders that were written; a :class:`LeftOutWarning` tells why there is no SR
            where the headers of a DICOM scan do not do for one.

        Raises:
            UsageError: The folder exists, or holds what is no findings, or the scan; or there is
                no such output.
            OSError: It cannot be written.
        """
        if unknown := set(without) - OUTPUTS.keys():
            raise UsageError(f"outputs are {', '.join(OUTPUTS)}, got {', '.join(sorted(unknown))}")
        check_apart(Path(folder), self.scan.files)
        if overwrite:
            check_replaceable(Path(folder), extra or ())
        wanted = [name for name in OUTPUTS if name not in without]
        if self.scan.format != DICOM and "sr" in wanted:
            wanted.remove("sr")
        document = self._document(True) if with_identity else self.document
        with new_folder(folder, overwrite) as temporary:
            for name in wanted:
                self._write(name, temporary / OUTPUTS[name], document)
            for name, content in (extra or {}).items():
                write_json(temporary / name, content)
            names = sorted(path.name for path in temporary.iterdir())
            if overwrite:
                # Again, for something may have been put there since.
                check_replaceable(Path(folder), extra or ())
        return [Path(folder) / name for name in names]

    def _write(self, name: str, path: Path, document: Mapping[str, Any]) -> None:
        if name == "json":
            write_json(path, document)
        elif name == "csv":
            write_csv(path, document)
        elif name == "labels":
            depth, height, width = self.scan.hu.shape
            labels = label_map(self.lesions, (depth, height, width))
            write_labels(path, labels, self.scan)
        elif name == "overlays":
            write_overlays(path, self.scan, self.lesions, document)
        elif name == "html":
            write_page(path, self.scan, self.lesions, document)
        elif name == "sr":
            self._write_sr(path, document)

    def _write_sr(self, path: Path, document: Mapping[str, Any]) -> None:
        from deeplesion.lesions.dicom_sr import write_sr

        try:
            write_sr(path, self.scan, document)
        except DataError as error:
            # What headers lack for a report must not cost all the rest.
            text = f"no structured report was written: {error}"
            warnings.warn(text, LeftOutWarning, stacklevel=4)
