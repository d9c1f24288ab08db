"""Writing findings down, as a whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplesion.engine.config import UsageError
from deeplesion.inference import Findings
from deeplesion.inference.findings import LeftOutWarning
from deeplesion.lesions.lesion import SliceDetections
from tests.deeplesion.lesions.scans import CARD, SECRETS, SETTINGS, make_lesions, make_scan


@pytest.fixture
def findings() -> Findings:
    """Two lesions in a scan whose every second slice was looked at."""
    nothing = np.zeros((0, 4)), np.zeros(0)
    detections = tuple(SliceDetections(z, *nothing) for z in (0, 2, 4))
    return Findings(make_scan(), tuple(make_lesions()), detections, CARD, SETTINGS)


def test_everything_is_written(findings: Findings, tmp_path: Path) -> None:
    written = findings.save(tmp_path / "new/out", extra={"more.json": {"a": 1}})
    names = ["lesions.csv", "lesions.json", "lesions.nii.gz", "more.json", "overlays"]
    assert [path.name for path in written] == [*names, "report.html"]
    assert all(path.exists() for path in written)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert findings.stride == 2
    assert len(json.loads(written[1].read_text())["lesions"]) == 2


def test_nothing_tells_who_the_patient_is_unless_asked(findings: Findings, tmp_path: Path) -> None:
    for with_identity in (False, True):
        folder = tmp_path / str(with_identity)
        findings.save(folder, with_identity=with_identity, without=("overlays",))
        texts = {path.name: path.read_bytes().decode("latin-1") for path in folder.iterdir()}
        telling = {
            name for name, text in texts.items() if any(secret in text for secret in SECRETS)
        }
        assert telling == ({"lesions.json", "report.html"} if with_identity else set())


def test_outputs_can_be_left_out(findings: Findings, tmp_path: Path) -> None:
    without = ("csv", "labels", "overlays", "html", "sr")
    (only,) = findings.save(tmp_path / "out", without=without)
    assert only.name == "lesions.json"
    with pytest.raises(UsageError, match=r"outputs are json, .* got pdf"):
        findings.save(tmp_path / "other", without=("pdf",))


def test_a_folder_is_replaced_only_when_asked(findings: Findings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/more.json").touch()
    (tmp_path / "out/lesions.csv").touch()
    only_json = ("csv", "labels", "overlays", "html")
    with pytest.raises(UsageError, match="out exists"):
        findings.save(tmp_path / "out", without=only_json)
    with pytest.raises(UsageError, match=r"move .*more\.json elsewhere"):
        findings.save(tmp_path / "out", without=only_json, overwrite=True)
    extra = {"more.json": {}}
    findings.save(tmp_path / "out", without=only_json, overwrite=True, extra=extra)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lesions.json", "more.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_but_findings_is_replaced(findings: Findings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").touch()
    with pytest.raises(UsageError, match=r"out does not hold findings alone .* move .*thesis"):
        findings.save(tmp_path / "out", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file and is not replaced"):
        findings.save(tmp_path / "file", overwrite=True)
    assert (tmp_path / "out/thesis.tex").exists()


def test_the_scan_is_not_replaced(findings: Findings, tmp_path: Path) -> None:
    source = tmp_path / "out/lesions.nii.gz"
    source.parent.mkdir()
    for name in ("lesions.nii.gz", "lesions.csv"):
        (source.parent / name).touch()
    own = replace(findings, scan=replace(findings.scan, files=(source,)))
    with pytest.raises(UsageError, match=r"out, for the scan .* is there"):
        own.save(tmp_path / "out", overwrite=True)


def test_what_is_put_there_meanwhile_is_kept(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings.save(tmp_path / "out", without=("html", "overlays"))
    monkeypatch.setattr(
        "deeplesion.inference.findings.write_csv", lambda *_: (tmp_path / "out/mine").touch()
    )
    with pytest.raises(UsageError, match=r"move .*mine elsewhere"):
        findings.save(tmp_path / "out", without=("html", "overlays"), overwrite=True)
    assert (tmp_path / "out/mine").exists()


def test_headers_that_lack_what_a_report_needs_cost_the_report_alone(
    findings: Findings, tmp_path: Path
) -> None:
    from_dicom = replace(findings, scan=replace(findings.scan, format="DICOM", files=()))
    with pytest.warns(LeftOutWarning, match="no structured report was written: "):
        written = from_dicom.save(tmp_path / "out", without=("html", "overlays"))
    assert [path.name for path in written] == ["lesions.csv", "lesions.json", "lesions.nii.gz"]
