"""tools/doctor.py: what it reports, what it calls a problem, and that nothing brings it down."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import doctor
from tools.doctor import Report

GOOD_ROW = {
    "File_name": "000001_01_01_109.png",
    "Patient_index": "1",
    "Study_index": "1",
    "Series_ID": "1",
    "Key_slice_index": "109",
    "Measurement_coordinates": "20, 20, 40, 40, 25, 35, 35, 25",
    "Bounding_boxes": "15, 15, 45, 45",
    "Lesion_diameters_Pixel_": "28.3, 14.1",
    "Normalized_lesion_location": "0.4, 0.4, 0.5",
    "Coarse_lesion_type": "3",
    "Possibly_noisy": "0",
    "Slice_range": "108, 110",
    "Spacing_mm_px_": "0.8, 0.8, 5",
    "Image_size": "64, 64",
    "DICOM_windows": "-175, 275",
    "Patient_gender": "F",
    "Patient_age": "62",
    "Train_Val_Test": "2",
}

NEXT_SLICE = {"File_name": "000001_01_01_111.png", "Key_slice_index": "111"}


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the variable nor the default folder of the machine counts."""
    monkeypatch.delenv(doctor.DATA_ROOT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def data_root(folder: Path, *changes: dict[str, str]) -> Path:
    """A data root without images whose rows are the good one with some cells changed."""
    root = folder / "root"
    (root / "Images_png" / "000001_01_01").mkdir(parents=True)
    rows = [GOOD_ROW | change for change in changes]
    lines = [list(GOOD_ROW), *([f'"{cell}"' for cell in row.values()] for row in rows)]
    (root / "DL_info.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    return root


def problems(report: Report) -> str:
    """All problems with their remedies, one a line."""
    return "\n".join(f"{problem.what} -> {problem.remedy}" for problem in report.problems)


def run(repo_root: Path, prelude: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor in an interpreter of its own, some code before it."""
    tool = repo_root / "tools/doctor.py"
    code = f"{prelude}; import runpy; runpy.run_path({str(tool)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)


def test_python_of_this_environment_is_fine() -> None:
    report = Report()
    doctor.check_python(report)
    assert not report.problems
    assert sys.executable in report.sections["versions"]["python"]


@pytest.mark.parametrize("version", [(3, 9), (3, 13)])
def test_unsupported_python(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", version)
    report = Report()
    doctor.check_python(report)
    assert "is not supported -> make the environment with Python 3.10 to 3.12" in problems(report)


def test_modules_are_reported_with_their_distributions() -> None:
    report = Report()
    doctor.check_modules(report, ("numpy", "mmcv"))
    assert not report.problems
    assert f"numpy {importlib.metadata.version('numpy')}" in report.sections["versions"]["numpy"]
    assert "mmcv" in report.sections["versions"]["mmcv"]


def test_missing_module_is_a_problem() -> None:
    report = Report()
    doctor.check_modules(report, ("no_such_module",))
    assert report.sections["versions"]["no_such_module"] == "does not import"
    (problem,) = report.problems
    assert problem.what == (
        "no_such_module does not import: ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert problem.remedy == doctor.INSTALL


def test_cv2_without_libgl_has_its_own_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ImportError("libGL.so.1: cannot open shared object file\nsecond line")
    monkeypatch.setattr(doctor, "try_import", lambda name: error)
    report = Report()
    doctor.check_modules(report, ("cv2",))
    assert "libGL.so.1: cannot open shared object file -> python -m pip" in problems(report)
    assert "opencv-python-headless" in problems(report)
    assert "second line" not in problems(report)


def metadata_of(
    monkeypatch: pytest.MonkeyPatch, requires: list[str], installed: dict[str, str]
) -> None:
    """Let the doctor see some requirements of ours and some installed distributions."""
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    monkeypatch.setattr(doctor, "installed_version", installed.get)


def test_requirements_that_are_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = ["torch>=2.4", "tqdm>=4.60", "onedl-mmcv>=2.3", 'ruff>=0.9; extra == "dev"']
    metadata_of(monkeypatch, requires, {"torch": "2.3.1", "mmcv-lite": "2.1.0"})
    report = Report()
    doctor.check_distributions(report)
    assert [problem.what for problem in report.problems] == [
        "torch is 2.3.1, torch>=2.4 is needed",
        "tqdm is not installed",
    ]


def test_not_installed_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    report = Report()
    doctor.check_distributions(report)
    assert "deeplesion-alignshift is not fully installed" in problems(report)
    assert "pip install -c constraints.txt -e ." in problems(report)


@pytest.mark.parametrize(
    ("headless", "count"), [({"opencv-python-headless": "4.11.0"}, 1), ({}, 0)]
)
def test_opencv_twins_of_two_versions(
    monkeypatch: pytest.MonkeyPatch, headless: dict[str, str], count: int
) -> None:
    metadata_of(monkeypatch, [], {"opencv-python": "4.12.0"} | headless)
    report = Report()
    doctor.check_opencv_twins(report)
    assert len(report.problems) == count
    assert not count or "share the folder cv2/ but differ in version" in problems(report)


def test_devices() -> None:
    report = Report()
    doctor.check_devices(report)
    assert "logical cores" in report.sections["devices"]["CPU"]
    assert any(name.startswith("CUDA device") for name in report.sections["devices"])


def test_broken_cuda_device_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    card = SimpleNamespace(name="Card", total_memory=8 * doctor.GIB, major=7)

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch, "ones", fail)
    report = Report()
    doctor.check_devices(report)
    assert report.sections["devices"]["CUDA device 0"] == "Card, 8.0 GiB, no fast bf16"
    assert "CUDA device 0 does not compute: RuntimeError: CUDA error" in problems(report)


def test_kernels() -> None:
    report = Report()
    doctor.check_kernels(report)
    assert not report.problems
    assert report.sections["kernels"]["mmcv.ops"].split()[0] in {"compiled", "torchvision"}


def test_no_data_root_is_a_note() -> None:
    report = Report()
    doctor.check_data(report, None, deep=False)
    assert not report.problems
    assert report.sections["data"] == {"data root": "data/deeplesion (default)", "found": "no"}
    assert "make_synthetic.py" in report.notes[0]


def test_named_data_root_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report()
    doctor.check_data(report, "nowhere", deep=False)
    monkeypatch.setenv(doctor.DATA_ROOT_VARIABLE, "elsewhere")
    doctor.check_data(report, None, deep=False)
    assert [problem.what for problem in report.problems] == [
        "data root nowhere (--data-root) is not a folder",
        "data root elsewhere (DEEPLESION_ROOT) is not a folder",
    ]
    assert all("make_synthetic.py" in problem.remedy for problem in report.problems)


def test_all_bad_rows_are_listed_with_row_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = data_root(
        tmp_path,
        {"Bounding_boxes": "45, 45, 15, 15"},
        {},
        NEXT_SLICE | {"Spacing_mm_px_": "0.8, 0.8, -1"},
        {"Bounding_boxes": "15, 15, NaN, 45"},
    )
    assert doctor.main(["--data-root", str(root), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    found = [problem for problem in report["problems"] if "DL_info.csv)" in problem["what"]]
    for row in (2, 4, 5):
        assert any(f"(row {row} of DL_info.csv)" in problem["what"] for problem in found), row
    assert all(problem["remedy"] for problem in found)


def test_good_data_are_counted(synthetic_root: Path) -> None:
    report = Report()
    doctor.check_data(report, str(synthetic_root), deep=True)
    assert not report.problems
    assert {"train", "val", "test"} <= set(report.sections["data"])


def test_real_data_are_counted(shared_data: Path) -> None:
    report = Report()
    doctor.check_data(report, str(shared_data / "deeplesion_mini"), deep=True)
    assert problems(report) == ""
    assert report.sections["data"]["val"].endswith(", 35 lesions")
    assert report.sections["data"]["test"].endswith(", 16 lesions")


def test_text_lists_problems_with_their_remedies() -> None:
    report = Report(notes=["a remark"])
    report.add("versions", "torch", "2.15.0")
    report.problem("it is broken", "mend it")
    assert doctor.as_text(report) == (
        "versions\n  torch  2.15.0\nnote: a remark\n"
        "problem: it is broken\n  what to do: mend it\n1 problem found"
    )
    assert doctor.as_text(Report()) == "no problem found"


def test_exit_code_and_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda *args: Report())
    assert doctor.main([]) == 0
    assert capsys.readouterr().out == "no problem found\n"
    with pytest.raises(SystemExit, match="0"):
        doctor.main(["--help"])
    assert "example:" in capsys.readouterr().out


def test_missing_packages_do_not_bring_it_down(repo_root: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(['mmdet', 'mmcv', 'cv2']))"
    result = run(repo_root, block)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    for name in ("mmdet", "mmcv", "cv2"):
        assert f"problem: {name} does not import" in result.stdout
    assert "torch threads" in result.stdout


def test_absent_masks_and_empty_splits_are_notes(tmp_path: Path) -> None:
    root = data_root(tmp_path, {}, {"File_name": "000001_01_01_110.png", "Key_slice_index": "110"})
    report = Report()
    doctor.check_data(report, str(root), deep=False)
    assert [note.split(" of ")[0] for note in report.notes] == ["split train", "split test"]
    path = root / "DL_info.csv"
    path.write_text(path.read_text().replace('"2"\n', '"1"\n'))
    report = Report()
    doctor.check_data(report, str(root), deep=False)
    assert any(
        f"no masks_train.json, training needs it: python tools/make_masks.py --data-root {root}"
        in n
        for n in report.notes
    )
