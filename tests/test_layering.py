"""The layers: alignshift < deeplesion < tools, each importing only those before it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("alignshift", "deeplesion", "tools", "benchmarks")
TORCH_STACK = {"torch", "torchvision", "mmengine", "mmcv", "mmdet", "timm"}
# Must be importable where neither torch nor mmdetection is installed.
NUMPY_ONLY = (
    "deeplesion/canvas.py",
    "deeplesion/io.py",
    "deeplesion/datasets/checks.py",
    "deeplesion/datasets/ct.py",
    "deeplesion/datasets/data_infos.py",
    "deeplesion/datasets/dl_info.py",
    "deeplesion/datasets/info_files.py",
    "deeplesion/datasets/journal.py",
    "deeplesion/datasets/lesion_record.py",
    "deeplesion/datasets/mask_files.py",
    "deeplesion/datasets/masks.py",
    "deeplesion/datasets/memory.py",
    "deeplesion/datasets/packed.py",
    "deeplesion/datasets/packing.py",
    "deeplesion/datasets/row_parser.py",
    "deeplesion/datasets/row_scanner.py",
    "deeplesion/datasets/selection.py",
    "deeplesion/datasets/slice_codec.py",
    "deeplesion/datasets/slice_files.py",
    "deeplesion/datasets/synthetic",
    "deeplesion/datasets/workers.py",
    "deeplesion/engine/malloc.py",
    "deeplesion/evaluation/analysis.py",
    "deeplesion/evaluation/analysis_page.py",
    "deeplesion/evaluation/bootstrap.py",
    "deeplesion/evaluation/box_fusion.py",
    "deeplesion/evaluation/calibration.py",
    "deeplesion/evaluation/cases.py",
    "deeplesion/evaluation/coco.py",
    "deeplesion/evaluation/comparison.py",
    "deeplesion/evaluation/findings.py",
    "deeplesion/evaluation/froc.py",
    "deeplesion/evaluation/gallery.py",
    "deeplesion/evaluation/ground_truth.py",
    "deeplesion/evaluation/html_report.py",
    "deeplesion/evaluation/matching.py",
    "deeplesion/evaluation/outcomes.py",
    "deeplesion/evaluation/overlaps.py",
    "deeplesion/evaluation/plots.py",
    "deeplesion/evaluation/prediction_fusion.py",
    "deeplesion/evaluation/prediction_rows.py",
    "deeplesion/evaluation/predictions.py",
    "deeplesion/evaluation/reference.py",
    "deeplesion/evaluation/report.py",
    "deeplesion/evaluation/report_data.py",
    "deeplesion/evaluation/resampling.py",
    "deeplesion/evaluation/restricted_pickle.py",
    "deeplesion/evaluation/strata.py",
    "deeplesion/evaluation/strata_plots.py",
    "deeplesion/evaluation/sub_volumes.py",
    "deeplesion/evaluation/tables.py",
    "deeplesion/evaluation/volumes.py",
    "deeplesion/lesions",
    "deeplesion/offline_page.py",
    "deeplesion/pictures.py",
    "deeplesion/scans",
    "deeplesion/sweeps/results.py",
)
# Imports each module in a fork that has none of ours, and prints what was wrong with it.
EACH_BY_ITSELF = """
import json, os, tempfile, traceback
import cv2, matplotlib.pyplot, numpy, pydicom, SimpleITK
faults = {{}}
for module in {modules!r}:
    with tempfile.TemporaryFile("w+") as file:
        if not (pid := os.fork()):
            try:
                __import__(module)
            except BaseException:
                traceback.print_exc(file=file)
            file.flush()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        file.seek(0)
        faults[module] = file.read() + (f"exit status {{status}}" if status else "")
print(json.dumps(faults))
"""


def sources(folder: str) -> list[Path]:
    """Python files of a folder (or the one file), relative to the root of the repository."""
    path = REPO_ROOT / folder
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [file.relative_to(REPO_ROOT) for file in files]


def imported_names(source: str, package: str) -> Iterator[str]:
    """Absolute dotted names of everything that a module imports, at any depth of its code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level]
            prefix = ".".join([*base, node.module or ""]) if node.level else node.module or ""
            yield from (f"{prefix.strip('.')}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    package = ".".join(path.parent.parts)
    return {
        name.split(".")[0]
        for name in imported_names((REPO_ROOT / path).read_text(encoding="utf-8"), package)
    }


def numpy_only_files() -> list[Path]:
    """The files that must do without torch; packages are listed whole."""
    return [file for name in NUMPY_ONLY for file in sources(name)]


def names(files: list[Path]) -> list[str]:
    """Dotted names of modules."""
    return [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]


def run_without(blocked: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter in which some packages cannot be imported."""
    prelude = f"import sys; sys.modules.update(dict.fromkeys({sorted(blocked)!r})); "
    command = [sys.executable, "-c", prelude + code]
    return subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import a.b, c", "p", {"a.b", "c"}),
        ("from a.b import c as d", "p", {"a.b.c"}),
        ("from . import c", "p.q", {"p.q.c"}),
        ("from ..r import c", "p.q", {"p.r.c"}),
        ("def f():\n    import late", "p", {"late"}),
    ],
)
def test_imported_names(source: str, package: str, expected: set[str]) -> None:
    assert set(imported_names(source, package)) == expected


@pytest.mark.parametrize("path", sources("alignshift"), ids=str)
def test_alignshift_imports_torch_alone(path: Path) -> None:
    extra = roots(path) - set(sys.stdlib_module_names) - {"torch", "alignshift"}
    assert not extra, f"{path} imports {sorted(extra)}"


@pytest.mark.parametrize("path", sources("deeplesion"), ids=str)
def test_deeplesion_does_not_import_what_is_above_it(path: Path) -> None:
    assert not roots(path) & {"tools", "benchmarks", "tests", "configs"}


@pytest.mark.parametrize("path", sources("tools"), ids=str)
def test_tools_do_not_import_each_other(path: Path) -> None:
    assert not roots(path) & {"tools", "benchmarks", "tests"}


@pytest.mark.parametrize("path", numpy_only_files(), ids=str)
def test_numpy_modules_do_not_import_the_torch_stack(path: Path) -> None:
    assert not roots(path) & TORCH_STACK


@pytest.fixture(scope="module")
def imported_without_torch() -> dict[str, str]:
    """For each of the modules, why it does not import where torch is absent."""
    result = run_without(TORCH_STACK, EACH_BY_ITSELF.format(modules=names(numpy_only_files())))
    assert result.returncode == 0, result.stderr
    faults: dict[str, str] = json.loads(result.stdout)
    return faults


@pytest.mark.parametrize("module", names(numpy_only_files()))
def test_numpy_modules_import_where_torch_is_absent(
    module: str, imported_without_torch: dict[str, str]
) -> None:
    assert imported_without_torch[module] == ""


def test_a_module_that_does_not_import_is_told() -> None:
    result = run_without(TORCH_STACK, EACH_BY_ITSELF.format(modules=["json", "alignshift"]))
    faults = json.loads(result.stdout)
    assert faults["json"] == ""
    assert "import of torch halted" in faults["alignshift"]


def test_alignshift_imports_with_torch_alone() -> None:
    others = {"torchvision", "mmengine", "mmcv", "mmdet", "timm", "cv2", "pycocotools"}
    result = run_without(others, f"import {', '.join(names(sources('alignshift')))}")
    assert result.returncode == 0, result.stderr


def test_every_numpy_module_exists() -> None:
    missing = [name for name in NUMPY_ONLY if not (REPO_ROOT / name).exists()]
    assert not missing
