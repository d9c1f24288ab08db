"""The page of a scan as a file: complete, escaped, and of nobody."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.overlays import AXES_COLOR, BOX_COLOR, CONTOUR_COLOR
from deeplesion.lesions.page import write_page
from deeplesion.lesions.pixels import PixelFormat
from deeplesion.offline_page import page_source
from deeplesion.scans.scan import Scan
from tests.deeplesion.lesions.page_material import (
    EVIL,
    SECRET,
    decode,
    make_document,
    make_lesions,
    make_scan,
)


def written(
    path: Path,
    scan: Scan | None = None,
    lesions: list[Lesion] | None = None,
    document: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    """Text of a page."""
    scan = scan or make_scan()
    lesions = make_lesions() if lesions is None else lesions
    write_page(path, scan, lesions, document or make_document(scan, lesions), **options)
    return path.read_text(encoding="utf-8")


def slices(page: str) -> list[str]:
    """The coded slices of a page, in order."""
    found = re.findall(r'<script type="text/plain" id="slice-(\d+)">([^<]*)</script>', page)
    assert [int(number) for number, _ in found] == list(range(len(found)))
    return [text for _, text in found]


def test_hu_in_the_page_are_those_of_the_scan(tmp_path: Path) -> None:
    scan = make_scan()
    coded = slices(written(tmp_path / "a.html", scan))
    assert len(coded) == len(scan.hu)
    for z in (0, 7, 23):
        assert decode(coded[z], scan.hu[z].shape, PixelFormat()).tolist() == scan.hu[z].tolist()


def test_a_large_scan_is_rounded_to_fit_and_says_so(tmp_path: Path) -> None:
    scan = make_scan()
    exact = sum(map(len, slices(written(tmp_path / "a.html", scan))))
    page = written(tmp_path / "b.html", scan, max_megabytes=0.9 * exact / 1e6)
    pixels = PixelFormat(2, 1)
    decoded = decode(slices(page)[5], scan.hu[5].shape, pixels)
    assert np.abs(decoded - scan.hu[5]).max() == 1
    assert "HU are rounded to multiples of 2" in page


def test_nothing_is_loaded_and_no_text_ends_an_element(tmp_path: Path) -> None:
    scan = replace(make_scan(), warnings=(EVIL,))
    lesions = make_lesions()
    document = make_document(scan, lesions)
    document["generator"]["checkpoint"] = EVIL
    document["generator"]["settings"][EVIL] = EVIL
    page = written(tmp_path / "a.html", scan, lesions, document)
    assert page.count("<script") == page.count("</script>") == len(scan.hu) + 2
    assert EVIL not in page
    assert "<img" not in page
    plain = written(tmp_path / "b.html")
    links = re.findall(r"""(?:\b(?:src|href)=["']?|url\(|@import)([^"'\s>)]*)""", plain)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    for word in ("eval(", "innerHTML", "fetch(", "XMLHttpRequest", "localStorage"):
        assert word not in page
    assert "default-src 'none'" in page


def test_the_patient_is_not_named_unless_the_document_does(tmp_path: Path) -> None:
    scan, lesions = make_scan(), make_lesions()
    assert SECRET not in written(tmp_path / "a.html", scan, lesions)
    document = make_document(scan, lesions, with_identity=True)
    assert SECRET in written(tmp_path / "b.html", scan, lesions, document)


def test_model_card_and_disclaimer_are_in_it(tmp_path: Path) -> None:
    page = written(tmp_path / "a.html")
    for text in ("not a medical device", "epoch_20.pth", "ab" * 32, "config_of_test.py", "9.8.7"):
        assert text in page
    data = json.loads(re.search(r'id="data">([^<]*)<', page).group(1))
    assert data["disclaimer"].startswith("Research software, not a medical device")
    assert any("Lesions are found in single slices" in limit for limit in data["limits"])


def test_a_scan_without_findings_has_a_page(tmp_path: Path) -> None:
    page = written(tmp_path / "a.html", lesions=[])
    assert len(slices(page)) == 24


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    scan = make_scan()
    hu = scan.hu.astype(np.float32)
    hu[13, 4, 4] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        written(tmp_path / "a.html", replace(scan, hu=hu), [])
    assert list(tmp_path.iterdir()) == []


def test_colors_are_those_of_the_pictures() -> None:
    style = page_source("deeplesion.lesions", "page.css")
    for name, color in (("box", BOX_COLOR), ("contour", CONTOUR_COLOR), ("axes", AXES_COLOR)):
        assert f"--{name}: rgb{color};" in style
