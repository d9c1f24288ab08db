"""Folders of findings: one appears when it is complete, and takes the place of nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deeplesion.engine.config import UsageError

#: What :meth:`deeplesion.inference.Findings.save` can write, and as which file or folder.
OUTPUTS = {
    "json": "lesions.json",
    "csv": "lesions.csv",
    "labels": "lesions.nii.gz",
    "overlays": "overlays",
    "html": "report.html",
    "sr": "lesions.dcm",
}
#: Beside the findings: by what they were made.
RUN_FILE = "run.json"
#: A folder without any of these holds no findings.
_TELLING = {OUTPUTS["json"], OUTPUTS["csv"], OUTPUTS["html"]}
_PICTURES = "lesion*.png"


def check_apart(folder: Path, sources: Sequence[Path]) -> None:
    """Refuse a folder that is, contains or lies in what is read.

    Args:
        folder: Where findings shall go.
        sources: Files and folders of scans.

    Raises:
        UsageError: It does.
    """
    target = folder.resolve()
    for source in sources:
        path = source.resolve()
        if path.is_relative_to(target) or (path.is_dir() and target.is_relative_to(path)):
            raise UsageError(
                f"findings cannot go to {folder}, for the scan {source} is there: give another "
                "folder (--out), beside the scan's"
            )


def check_replaceable(folder: Path, extra: Collection[str] = ()) -> None:
    """Refuse to replace what is no findings, or holds more: a folder of another purpose.

    Args:
        folder: What would be replaced; it need not be there.
        extra: Names of further files that go with findings.

    Raises:
        UsageError: It must stay; a file in it that would be lost is named.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file and is not replaced: name another folder")
    inside = {path.name for path in folder.iterdir()}
    ours = {*OUTPUTS.values(), RUN_FILE, *extra}
    strangers = [folder / name for name in sorted(inside - ours)]
    pictures = folder / OUTPUTS["overlays"]
    if pictures.is_dir():
        strangers += sorted(path for path in pictures.iterdir() if not path.match(_PICTURES))
    if inside and (strangers or not inside & _TELLING):
        named = strangers[0] if strangers else folder / min(inside)
        raise UsageError(
            f"{folder} does not hold findings alone and is not replaced: move {named} elsewhere, "
            "or name another folder"
        )


@contextmanager
def new_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder that takes its place on success, and is removed otherwise.

    Args:
        folder: Where it shall be.
        overwrite: Whether it may replace what is there.

    Yields:
        The folder to write to, beside it.

    Raises:
        UsageError: There is something, and it may not be replaced.
    """
    target = Path(folder).absolute()
    _check_free(target, folder, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    inside, old = temporary / "new", temporary / "old"
    try:
        inside.mkdir()
        yield inside
        # Another process may have been faster.
        _check_free(target, folder, overwrite)
        if target.exists():
            target.rename(old)
        try:
            inside.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        # What was there stays, hidden, where it could not be put back.
        if target.exists() or not old.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _check_free(target: Path, folder: str | os.PathLike[str], overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UsageError(f"{folder} exists: name another folder, or have it overwritten")
