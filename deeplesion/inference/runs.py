"""Many scans in one run: a folder for each, what was done before, and what came of it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deeplesion.engine.config import UsageError
from deeplesion.inference.findings import Findings, LeftOutWarning
from deeplesion.inference.folders import RUN_FILE
from deeplesion.scans.companions import companions
from deeplesion.scans.formats import files_below, named_path, safe_name, stem_of

SHOWN_LESIONS = 20


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        folder: Where its findings are.
        status: ``done``, ``skipped`` (it was done before) or ``failed``.
        message: Why it failed.
        seconds: How long it took.
        slices: Number of key slices.
        warnings: What was mended in it, and what could not be written.
        lesions: Of the document, by number.
    """

    folder: Path
    status: Literal["done", "skipped", "failed"]
    message: str = ""
    seconds: float = 0.0
    slices: int = 0
    warnings: tuple[str, ...] = ()
    lesions: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(
        cls, findings: Findings, folder: Path, seconds: float, left_out: Sequence[str] = ()
    ) -> Outcome:
        """That of a scan in which was found what was found; ``left_out`` was not written."""
        return cls(
            folder,
            "done",
            seconds=seconds,
            slices=len(findings.detections),
            warnings=(*findings.scan.warnings, *left_out),
            lesions=tuple(findings.document["lesions"]),
        )


@contextmanager
def noting_left_out() -> Iterator[list[str]]:
    """Have in a list, not on stderr, what :class:`LeftOutWarning` tells."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LeftOutWarning)
        yield notes
    for each in caught:
        if issubclass(each.category, LeftOutWarning):
            notes.append(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def folder_names(sources: Sequence[Path]) -> list[str]:
    """A name for the output of each scan: its own, with its folder's where two have the same.

    It is that of the path as given: where a symbolic link leads, it may tell who the patient is.

    Args:
        sources: Files or folders.

    Raises:
        UsageError: Two scans are the same, or cannot be told apart by their last two names.
    """
    resolved = [path.resolve() for path in sources]
    if doubles := [path for path in resolved if resolved.count(path) > 1]:
        raise UsageError(f"{min(map(str, doubles))} is given twice")
    paths = [named_path(path) for path in sources]
    names = [safe_name(stem_of(path)) for path in paths]
    longer = [safe_name(f"{named_path(path.parent).name}_{stem_of(path)}") for path in paths]
    names = [long if names.count(n) > 1 else n for n, long in zip(names, longer, strict=True)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"the findings of two scans would both go to {name}: run them one by one, or "
                "rename one"
            )
    return names


def fingerprint(source: Path | Sequence[Path], settings: Mapping[str, Any]) -> str:
    """A hash that changes where a scan's files or the settings do; voxels are not read.

    Files that the scan's refer to are among them: detached voxels, ``DL_info.csv``.

    Args:
        source: A file, a folder or files.
        settings: All on which the findings depend, JSON's types.
    """
    if isinstance(source, Path):
        files = files_below(source) if source.is_dir() else [source]
    else:
        files = list(source)
    files = list(dict.fromkeys(path.resolve() for path in (*files, *companions(files))))
    stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    text = json.dumps([stats, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_done(folder: Path, mark: str) -> bool:
    """Whether a folder holds the findings of a run with this fingerprint."""
    try:
        recorded = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(recorded, dict) and recorded.get("fingerprint") == mark


def summary(outcomes: Sequence[Outcome]) -> str:
    """Tables for people: each scan that is done and its lesions, and how many are done."""
    blocks = [_block(outcome) for outcome in outcomes if outcome.status == "done"]
    for outcome in outcomes:
        if outcome.status == "skipped":
            blocks.append(f"{outcome.folder}: done before with the same settings, skipped")
    done = sum(outcome.status != "failed" for outcome in outcomes)
    if len(outcomes) > 1:
        blocks.append(f"{done} of {len(outcomes)} scans are done")
    return "\n\n".join(blocks)


def _block(outcome: Outcome) -> str:
    count = len(outcome.lesions)
    head = (
        f"{outcome.folder.name}: {count or 'no'} lesion{'s' if count != 1 else ''} in "
        f"{outcome.slices} key slices, {outcome.seconds:.0f} s, see {outcome.folder}"
    )
    lines = [head, *(f"  note: {text}" for text in outcome.warnings)]
    if count:
        lines.append("    no.  score  slice  long x short mm   volume mm3   center LPS mm")
    lines += [_row(lesion) for lesion in outcome.lesions[:SHOWN_LESIONS]]
    if count > SHOWN_LESIONS:
        lines.append(f"    ... and {count - SHOWN_LESIONS} more in lesions.csv")
    return "\n".join(lines)


def _row(lesion: Mapping[str, Any]) -> str:
    axes = f"{lesion['long_axis']['mm']:.1f} x {lesion['short_axis']['mm']:.1f}"
    center = ", ".join(f"{value:.1f}" for value in lesion["center"]["lps_mm"])
    return (
        f"    {lesion['number']:3d}  {lesion['score']:5.3f}  {lesion['key_slice']:5d}  "
        f"{axes:>15s}  {lesion['volume_mm3']:11.0f}   {center}"
    )
