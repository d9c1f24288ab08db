"""tools/detect.py as a user runs it, on every kind of scan and on what is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
import torch

from deeplesion.scans import Geometry
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_slice
from tests.deeplesion.inference.blobs import plant_ball, write_blob_detector
from tests.deeplesion.scans.dicom_files import axial_geometry, write_dicom_series
from tests.forked import python
from tests.tools.running import REPO_ROOT, error_line, run_tool
from tools.detect import main

SHAPE, SPACING, BALL = (12, 40, 36), (0.8, 0.8, 2.0), (14, 22, 5)
GEOMETRY = axial_geometry(SHAPE, SPACING)
PLACE = GEOMETRY.to_patient(BALL)
SERIES = "000001_01_01"
FILES = {
    "lesions.csv",
    "lesions.json",
    "lesions.nii.gz",
    "overlays",
    "report.html",
    "run.json",
}


def body() -> np.ndarray:
    """A ball in a body in air, ``(D, H, W)`` in HU."""
    hu = np.full(SHAPE, -1000, np.int16)
    noise = np.random.default_rng(0).normal(40, 20, (SHAPE[0], 32, 28))
    hu[:, 4:36, 4:32] = noise.astype(np.int16)
    plant_ball(hu, np.array(SPACING), BALL, 2.6)
    return hu


def image_of(hu: np.ndarray, geometry: Geometry = GEOMETRY) -> SimpleITK.Image:
    """An image in the patient."""
    image = SimpleITK.GetImageFromArray(hu)
    image.SetOrigin(geometry.origin.tolist())
    image.SetSpacing(geometry.spacing.tolist())
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that name config and checkpoint of a detector that answers to bright balls."""
    folder = tmp_path_factory.mktemp("blobs")
    config, checkpoint = write_blob_detector(folder, side=128, box=16)
    names = ["--config", str(config), "--checkpoint", str(checkpoint)]
    # The fainter answers are those about the edge of the ball.
    return [*names, "--device", "cpu", "--score-threshold", "0.6"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same scan in every format."""
    folder, hu = tmp_path_factory.mktemp("scans"), body()
    paths = {"DICOM": folder / "ct_dicom"}
    tags = {"PatientName": "DOE^Jane", "PatientID": "P-4711"}
    write_dicom_series(paths["DICOM"], hu, GEOMETRY, tags=tags)
    for kind, name in (("NIfTI", "a.nii.gz"), ("MetaImage", "b.mha"), ("NRRD", "c.nrrd")):
        paths[kind] = folder / name
        SimpleITK.WriteImage(image_of(hu), str(paths[kind]))
    paths["DeepLesion"] = folder / "Images_png" / SERIES
    for index, plane in enumerate(hu, start=1):
        write_slice(paths["DeepLesion"] / f"{index:03d}.png", plane.astype(int), SHAPE[1:])
    row = row_of(SERIES, 5, Spacing_mm_px_="0.8, 0.8, 2", Image_size="40, 36")
    write_csv(folder / "DL_info.csv", [row])
    return paths


@pytest.fixture(scope="module")
def done(
    detector: list[str], scans: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The output folder of one run over all of them, and what the tool said."""
    folder = tmp_path_factory.mktemp("run")
    result = run_tool(
        "tools/detect.py", *scans.values(), *detector, "--out", "findings", cwd=folder, fresh=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "findings", result


@pytest.mark.parametrize("kind", ["DICOM", "NIfTI", "MetaImage", "NRRD", "DeepLesion"])
def test_finds_the_ball_in_every_format(
    done: tuple[Path, subprocess.CompletedProcess], scans: dict[str, Path], kind: str
) -> None:
    folder = done[0] / scans[kind].name.partition(".")[0]
    assert {path.name for path in folder.iterdir()} - {"lesions.dcm"} == FILES
    assert (folder / "lesions.dcm").exists() == (kind == "DICOM")
    document = json.loads((folder / "lesions.json").read_text())
    assert document["scan"]["format"] == kind
    (lesion,) = document["lesions"]
    np.testing.assert_allclose(lesion["center"]["voxels"], BALL, atol=1)
    if kind != "DeepLesion":  # whose slices are nowhere in the patient
        np.testing.assert_allclose(lesion["center"]["lps_mm"], PLACE, atol=0.8)
        labels = SimpleITK.ReadImage(str(folder / "lesions.nii.gz"))
        assert labels[labels.TransformPhysicalPointToIndex(PLACE.tolist())] == 1
    assert "not a medical device" in document["disclaimer"]
    assert document["generator"]["checkpoint"] == "blobs.pth"
    html = (folder / "report.html").read_text()
    assert "not a medical device" in html
    for secret in ("DOE", "P-4711"):
        assert secret not in html + (folder / "lesions.json").read_text()


def test_says_what_it_found(done: tuple[Path, subprocess.CompletedProcess]) -> None:
    out, result = done
    assert result.stdout.count("1 lesion in 12 key slices") == 5
    assert "5 of 5 scans are done" in result.stdout
    assert "12/12" in result.stderr  # the progress bar
    assert sorted(path.name for path in out.iterdir()) == [SERIES, "a", "b", "c", "ct_dicom"]


def call(*arguments: object) -> int:
    """Run the tool in this process."""
    return main([str(argument) for argument in arguments])


def test_what_is_done_is_skipped(
    done: tuple[Path, subprocess.CompletedProcess],
    scans: dict[str, Path],
    detector: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = (done[0] / "a" / "lesions.json").stat().st_mtime_ns
    assert call(scans["NIfTI"], *detector, "--out", done[0]) == 0
    assert "done before with the same settings, skipped" in capsys.readouterr().out
    assert (done[0] / "a" / "lesions.json").stat().st_mtime_ns == written


def test_other_settings_need_overwrite(
    scans: dict[str, Path],
    detector: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [scans["NIfTI"], *detector, "--out", tmp_path, "--no-html", "--no-overlays"]
    assert call(*arguments, "--no-labels") == 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "lesions.csv",
        "lesions.json",
        "run.json",
    }
    capsys.readouterr()
    assert call(*arguments, "--slices", "2:8") == 1
    assert "a exists, of other settings" in error_line(capsys.readouterr().err)
    assert (
        call(*arguments, "--slices", "2:8", "--overwrite", "--amp", "--tta", "--batch-size", 2) == 0
    )
    settings = json.loads((tmp_path / "a/lesions.json").read_text())["generator"]["settings"]
    assert settings["key_slices"] == [2, 7]
    assert settings["stride"] == 1
    assert settings["mixed_precision"]
    assert settings["flipped_views"] == ["horizontal"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_bad_scan_keeps_no_other_from_being_done(
    scans: dict[str, Path],
    detector: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sources = ["nothing.nii", scans["NIfTI"], scans["NRRD"]]
    assert call(*sources, *detector, "--out", tmp_path, "--slices", "4:7") == 1
    shown = capsys.readouterr()
    assert "2 of 3 scans are done" in shown.out
    assert "error: 1 of 3 scans failed:\n  nothing: nothing.nii does not exist" in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_processes_share_the_scans(
    scans: dict[str, Path], detector: list[str], tmp_path: Path
) -> None:
    tool = str(REPO_ROOT / "tools/detect.py")
    command = [python(), "-m", "torch.distributed.run", "--nproc_per_node", "2", tool]
    sources = [str(scans[kind]) for kind in ("NIfTI", "MetaImage", "NRRD")] + ["nothing.nii"]
    options = ["--out", str(tmp_path / "out"), "--slices", "4:7", "--no-html", "--no-overlays"]
    result = subprocess.run(
        [*command, *sources, *detector, *options], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 1, result.stderr[-3000:]
    assert result.stdout.count("3 of 4 scans are done") == 1
    assert result.stderr.count("error: 1 of 4 scans failed:") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c"]


def test_files_of_one_scan(
    scans: dict[str, Path], detector: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(scans["DICOM"].iterdir())
    options = ["--out", tmp_path, "--one-scan", "--no-html", "--no-overlays", "--no-sr"]
    assert call(*files, *detector, *options, "--with-identity") == 0
    assert "1 lesion in 12 key slices" in capsys.readouterr().out
    document = json.loads((tmp_path / "ct_dicom/lesions.json").read_text())
    assert "P-4711" in document["scan"]["identity"].values()


def test_headers_no_report_can_be_made_of_cost_the_report_alone(
    scans: dict[str, Path], detector: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scans["DICOM"], tmp_path / "ct")
    for file in (tmp_path / "ct").iterdir():
        header = pydicom.dcmread(file)
        del header.StudyInstanceUID
        header.save_as(file)
    options = ["--out", tmp_path / "out", "--no-html", "--no-overlays"]
    assert call(tmp_path / "ct", *detector, *options) == 0
    shown = capsys.readouterr().out
    assert "note: no structured report was written: " in shown
    assert "has no StudyInstanceUID" in shown
    assert (tmp_path / "out/ct/lesions.json").exists()


def test_series_are_listed(scans: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(scans["DICOM"], "--list-series") == 0
    assert "series 1 (12 axial slices, 2 mm apart)" in capsys.readouterr().out


def bad_scan(kind: str, folder: Path) -> Path:
    """A file or folder that is no scan."""
    hu, path = body(), folder / f"{kind}.nii.gz"
    image = image_of(hu)
    if kind == "mr":
        image = image_of(np.random.default_rng(0).integers(0, 800, SHAPE).astype(np.int16))
    elif kind == "single":
        image = image_of(hu[:1])
    elif kind == "mask":
        image = image_of((hu > 0).astype(np.uint8))
    elif kind == "nan":
        voxels = hu.astype(np.float32)
        voxels[3, 4, 5] = np.nan
        image = image_of(voxels)
    elif kind == "4d":
        image = SimpleITK.JoinSeries([image, image])
    elif kind == "empty":
        path = folder / "empty"
        path.mkdir()
        return path
    SimpleITK.WriteImage(image, str(path))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    if kind == "spacing":
        path = folder / "spacing.nii"
        SimpleITK.WriteImage(image, str(path))
        header = bytearray(path.read_bytes())
        header[80:92] = np.array([0.8, 0.8, 0], np.float32).tobytes()  # pixdim[1:4]
        path.write_bytes(header)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mr", "HU"),
        ("single", "slice"),
        ("mask", "mask"),
        ("nan", "NaN"),
        ("4d", "4"),
        ("empty", "no file in it"),
        ("truncated", "truncated"),
        ("spacing", "spacing"),
    ],
)
def test_what_is_no_scan_is_refused(
    kind: str, words: str, detector: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = bad_scan(kind, tmp_path)
    assert call(source, *detector, "--out", tmp_path / "out") == 1
    message = error_line(capsys.readouterr().err)
    assert source.name in message
    assert words in message
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_checkpoint_of_another_network_is_refused(
    scans: dict[str, Path], detector: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = torch.load(detector[3], weights_only=True)
    weights["backbone.conv0.weight"] = torch.zeros(8, 1, 7, 7)
    torch.save(weights, tmp_path / "other.pth")
    arguments = [*detector, "--checkpoint", tmp_path / "other.pth", "--out", tmp_path / "out"]
    assert call(scans["NIfTI"], *arguments) == 1
    message = error_line(capsys.readouterr().err)
    assert "other.pth does not fit the config" in message
    assert "1 of another shape" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "nothing.py"], "config nothing.py does not exist"),
        (["--checkpoint", "nothing.pth"], "checkpoint nothing.pth does not exist"),
        (["--out", __file__], "cannot be a folder"),
        (["--out", f"{__file__}/below"], "cannot be a folder"),
        (["--out", "/proc/nowhere/out"], "/proc/nowhere"),
        (["--slices", "4:13"], "slices 4:13 are out of range: the scan has 12 slices"),
        (["--stride", "-1"], "stride must be > 0 mm, got -1"),
        (["--score-threshold", "2"], "thresholds must be"),
        (["--device", "abacus"], "device abacus cannot be used"),
        (["--spacing", "1", "1", "2"], "spacing is for PNG slices"),
    ],
)
def test_arguments_that_cannot_be_used(
    arguments: list[str],
    words: str,
    scans: dict[str, Path],
    detector: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert call(scans["NIfTI"], *detector, "--out", out, *arguments) == 1
    assert words in error_line(capsys.readouterr().err)
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("arguments", [["--slices", "four"], ["--slices", "4"], []])
def test_commands_that_cannot_be_understood(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        call("scan.nii", *arguments)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "slices must be A:B" in shown or "--config, --checkpoint, --out" in shown


def test_scans_that_would_go_to_one_folder(
    detector: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("a.nii", "a.nii", *detector, "--out", tmp_path) == 1
    assert "is given twice" in error_line(capsys.readouterr().err)


@pytest.mark.parametrize("out", ["data", "data/CT/findings"])
def test_the_scan_itself_is_never_replaced(
    out: str,
    scans: dict[str, Path],
    detector: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(scans["DICOM"], tmp_path / "data/CT")
    (tmp_path / "data/CT/lesions.csv").touch()
    files = sorted(tmp_path.rglob("*"))
    arguments = [tmp_path / "data/CT", *detector, "--out", tmp_path / out, "--overwrite"]
    assert call(*arguments) == 1
    assert "give another folder (--out), beside the scan's" in error_line(capsys.readouterr().err)
    assert sorted(tmp_path.rglob("*")) == files


def test_what_is_no_findings_is_refused_before_the_search(
    scans: dict[str, Path], detector: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/report.html").touch()
    (tmp_path / "a/thesis.tex").touch()
    assert call(scans["NIfTI"], *detector, "--out", tmp_path, "--overwrite") == 1
    shown = capsys.readouterr().err
    assert "a/thesis.tex elsewhere" in error_line(shown)
    assert "/12" not in shown  # no progress
    assert (tmp_path / "a/thesis.tex").exists()


def test_help_has_an_example_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("--help")
    shown = capsys.readouterr().out
    assert "python tools/detect.py" in shown
    assert "exit codes:" in shown


def test_the_five_lines_of_the_docs_do_it(
    scans: dict[str, Path],
    detector: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (REPO_ROOT / "docs/detect.md").read_text(encoding="utf-8")
    code = page.partition("```py\n")[2].partition("```")[0]
    (tmp_path / "config.py").symlink_to(detector[1])
    (tmp_path / "weights.pth").symlink_to(detector[3])
    (tmp_path / "scan.nii.gz").symlink_to(scans["NIfTI"])
    monkeypatch.chdir(tmp_path)
    assert len([line for line in code.splitlines() if line]) <= 5
    exec(code, {})
    assert (tmp_path / "findings/report.html").is_file()
