"""What made a result, and what it must not be used for: written into every output."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

SOFTWARE = "deeplesion-alignshift"
DISCLAIMER = (
    "Research software, not a medical device: not for diagnosis or treatment. Findings are "
    "proposals of a neural network. Lesions are missed and normal structures are marked; a "
    "qualified reader must check every one."
)
LIMITS = (
    "Lesions are found in single slices and linked; kinds that the training data lacks are missed.",
    "Scores are not probabilities unless the detector was calibrated on data like this scan.",
    "Measurements follow the predicted masks and boxes, not the edge that a reader would draw.",
)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelCard:
    """Which network and software made a result, and its limits.

    Attributes:
        config: Name of the config file, without its folder.
        config_sha256: Of its content, hexadecimal.
        checkpoint: Name of the checkpoint file, without its folder.
        checkpoint_sha256: Of its content, hexadecimal.
        training_data: What it was trained on; empty where that is not known.
        limits: A sentence each.
        software: Name of this distribution.
        version: Of the software; that installed unless given.
    """

    config: str
    config_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    training_data: str = ""
    limits: tuple[str, ...] = LIMITS
    software: str = SOFTWARE
    version: str = ""

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", version(SOFTWARE))

    @classmethod
    def of_files(
        cls,
        config: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        config_text: str | None = None,
        training_data: str = "",
    ) -> ModelCard:
        """The card of a network made from two files, which are read for their hashes.

        Args:
            config: The config file.
            checkpoint: The checkpoint file.
            config_text: The config with all that it inherits, hashed in place of the file, which
                alone does not tell the network.
            training_data: See the class.

        Raises:
            OSError: If a file cannot be read.
        """
        text = config_text
        return cls(
            config=Path(config).name,
            config_sha256=file_sha256(config) if text is None else _sha256(text.encode()),
            checkpoint=Path(checkpoint).name,
            checkpoint_sha256=file_sha256(checkpoint),
            training_data=training_data,
        )

    def as_dict(self) -> dict[str, Any]:
        """What JSON takes of it; ``training_data`` is None where it is not known."""
        content = asdict(self)
        return {
            **content,
            "training_data": self.training_data or None,
            "limits": list(self.limits),
        }

    def summary(self) -> str:
        """One line for captions: software, version, checkpoint and config with short hashes."""
        return (
            f"{self.software} {self.version}, checkpoint {self.checkpoint} "
            f"(sha256 {self.checkpoint_sha256[:12]}), config {self.config} "
            f"(sha256 {self.config_sha256[:12]})"
        )


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal; read in parts."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
