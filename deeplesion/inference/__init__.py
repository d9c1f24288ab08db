"""From a scan to findings: a detector run over whole scans."""

from __future__ import annotations

from deeplesion.inference.detector import LesionDetector
from deeplesion.inference.findings import Findings

__all__ = ["Findings", "LesionDetector"]
