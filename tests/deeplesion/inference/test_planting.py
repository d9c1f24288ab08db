"""A ball planted in a real scan comes back where it was, whatever the axes of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from deeplesion.inference import LesionDetector
from deeplesion.scans import read_scan
from tests.deeplesion.inference.blobs import BALL_HU, write_blob_detector

# Position in the middle of the patient, as a fraction of each axis of the file, and size in voxels.
WHERE, RADIUS = np.array([0.36, 0.58, 0.55]), 2.6
# Order of the axes, and which are flipped; SimpleITK keeps every voxel where it is in the patient.
TURNS = {
    "as it is": ((0, 1, 2), (False, False, False)),
    "flipped left to right": ((0, 1, 2), (True, False, False)),
    "feet first": ((0, 1, 2), (False, False, True)),
    "sagittal slices": ((1, 2, 0), (False, True, False)),
    "coronal slices, all flipped": ((0, 2, 1), (True, True, True)),
    "transposed": ((1, 0, 2), (False, True, True)),
}
TILTED = "turned by 5 degrees"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> LesionDetector:
    """Answers to bright balls."""
    return LesionDetector(*write_blob_detector(tmp_path_factory.mktemp("blobs")), "cpu")


def planted(path: Path, turn: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Plant a ball, write the scan with other axes; the file and the ball's place in LPS mm."""
    image = SimpleITK.Clamp(SimpleITK.ReadImage(str(path)), SimpleITK.sitkInt16, -1024, 1500)
    if turn == TILTED:
        cosine, sine = np.cos(np.radians(5)), np.sin(np.radians(5))
        tilt = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        direction = tilt @ np.reshape(image.GetDirection(), (3, 3))
        image.SetDirection(direction.ravel().tolist())
    center = np.rint(WHERE * image.GetSize()).astype(int)
    place = image.TransformIndexToPhysicalPoint(center.tolist())
    voxels = SimpleITK.GetArrayFromImage(image)
    z, y, x = np.indices(voxels.shape)
    voxels[np.linalg.norm(np.stack([x, y, z], -1) - center, axis=-1) <= RADIUS] = BALL_HU
    ball = SimpleITK.GetImageFromArray(voxels)
    ball.CopyInformation(image)
    if turn != TILTED:
        order, flips = TURNS[turn]
        ball = SimpleITK.Flip(SimpleITK.PermuteAxes(ball, order), flips)
    file = folder / "planted.nii.gz"
    SimpleITK.WriteImage(ball, str(file))
    return file, np.array(place)


# The other scan, whose own axes are others and thinner, takes the turns that move all of them.
@pytest.mark.parametrize(
    ("name", "turn"),
    [
        *(("torso_3mm", turn) for turn in (*TURNS, TILTED)),
        *(("thorax_1.5mm", turn) for turn in ("as it is", "coronal slices, all flipped", TILTED)),
    ],
)
def test_comes_back_within_a_voxel(
    shared_data: Path, detector: LesionDetector, tmp_path: Path, name: str, turn: str
) -> None:
    file, place = planted(shared_data / f"ct/{name}.nii.gz", turn, tmp_path)
    scan = read_scan(file)
    wanted = scan.geometry.to_voxels(place)
    near = round(wanted[2])
    findings = detector.detect(scan, slice(near - 4, near + 5))
    found = findings.document["lesions"][0]
    assert found["score"] > 0.98
    np.testing.assert_allclose(found["center"]["voxels"], wanted, atol=1)
    off = np.asarray(found["center"]["lps_mm"]) - place
    assert (np.abs(scan.geometry.direction.T @ off) <= scan.geometry.spacing).all()
    # In the voxels of the file itself, as another program reads it.
    stored = SimpleITK.ReadImage(str(file)).TransformPhysicalPointToContinuousIndex(place.tolist())
    np.testing.assert_allclose(found["center"]["stored_voxels"], stored, atol=1)
    findings.save(tmp_path / "out", without=("html", "overlays"))
    labels = SimpleITK.ReadImage(str(tmp_path / "out/lesions.nii.gz"))
    assert labels[labels.TransformPhysicalPointToIndex(place.tolist())] == 1
