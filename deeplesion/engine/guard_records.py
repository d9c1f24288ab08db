"""What is kept of batches whose loss or gradient was not finite: which samples, which losses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SAMPLE_KEYS = ("file_name", "series", "key_slice", "img_id")
LISTED_PARAMETERS = 20
LISTED_SAMPLES = 4

Record = dict[str, Any]


def bad_entries(values: Mapping[str, Any]) -> list[str]:
    """Names of the scalars that are not finite."""
    return [
        name
        for name, value in values.items()
        if isinstance(value, Tensor | float) and not bool(torch.as_tensor(value).isfinite().all())
    ]


def describe_samples(data_batch: Any) -> list[Record]:
    """What the samples of a batch are called, and how many of their voxels are not finite.

    Args:
        data_batch: Of the dataloader: ``inputs`` and ``data_samples``.

    Returns:
        For each sample what its metainfo has of ``file_name``, ``series``, ``key_slice`` and
        ``img_id``, else ``img_path``, and ``non_finite_voxels`` where there are any.
    """
    if not isinstance(data_batch, Mapping):
        return []
    volumes = data_batch.get("inputs", ())
    described = []
    for number, sample in enumerate(data_batch.get("data_samples") or ()):
        meta = getattr(sample, "metainfo", {})
        record = {key: meta[key] for key in SAMPLE_KEYS if key in meta}
        record = record or {"img_path": str(meta.get("img_path", f"sample {number} of the batch"))}
        voxels = volumes[number] if number < len(volumes) else None
        if isinstance(voxels, Tensor) and (bad := int((~voxels.isfinite()).sum())):
            record["non_finite_voxels"] = bad
        described.append(record)
    return described


def describe_batch(data_batch: Any, losses: Mapping[str, Any]) -> Record:
    """Samples of one batch, and which of its losses are not finite."""
    return {"losses": bad_entries(losses), "samples": describe_samples(data_batch)}


def sample_name(sample: Record) -> str:
    """What a sample is called in a message, with what is wrong with its voxels."""
    name = str(next(iter(sample.values())))
    voxels = sample.get("non_finite_voxels")
    return f"{name} ({voxels} voxels are not finite)" if voxels else name


def summarize(record: Record) -> str:
    """One line about a skipped step: losses or parameters, and samples, the suspects alone."""
    batches = [batch for rank in record["ranks"] for batch in rank["batches"]]
    suspects = [b for b in batches if b["losses"]] or batches
    losses = sorted({name for batch in suspects for name in batch["losses"]})
    samples = [sample for batch in suspects for sample in batch["samples"]]
    samples = [s for s in samples if "non_finite_voxels" in s] or samples
    names = ", ".join(map(sample_name, samples[:LISTED_SAMPLES]))
    more = f" and {len(samples) - LISTED_SAMPLES} more" if len(samples) > LISTED_SAMPLES else ""
    first = f", {record['parameters'][0]} first" if record["parameters"] else ""
    number = record["number_of_parameters"]
    what = ", ".join(losses) or f"the gradient of {number} parameters{first}"
    return f"{what} of {names or 'a batch without names'}{more}"


def plain_number(value: float | None) -> float | str | None:
    """A number for JSON, which has no words for NaN and infinity."""
    return value if value is None or math.isfinite(value) else str(value)


def append_line(path: str | os.PathLike[str], record: Record) -> None:
    """Append a line of JSON that neither a kill nor a crash of the machine tears or loses.

    A line that was torn nevertheless is ended, so that it spoils no other.

    Args:
        path: The file; its folder is made.
        record: What to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whatever data sets call their samples by must not end a training.
    line = json.dumps(record, allow_nan=False, default=str) + "\n"
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
