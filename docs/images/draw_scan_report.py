"""Makes the pictures of the report of a scan: a phantom, its true lesions, their page and overlays.

    python docs/images/draw_scan_report.py

Needs a Chromium with its driver and ``pip install selenium``. Scores are made up.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from selenium import webdriver

from deeplesion.datasets.synthetic import scene as phantom
from deeplesion.datasets.synthetic.render import pixel_grid, render_slice
from deeplesion.lesions.document import build_document
from deeplesion.lesions.lesion import Lesion, SliceMask
from deeplesion.lesions.model_card import ModelCard
from deeplesion.lesions.overlays import write_overlays
from deeplesion.lesions.page import write_page
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan

SIZE, DEPTH, INTERVAL_MM, SEED = 320, 80, 2.5, 11
SPACING_MM = phantom.FIELD_OF_VIEW_MM / SIZE
SCENE_MM = 40.0
WINDOW_PX = (1360, 860)
BEST_SCORE, STEP = 0.97, 0.09
CARD = ModelCard("phantom.py", "0" * 64, "none.pth", "0" * 64, training_data="none: a phantom")


def make_scan() -> tuple[Scan, list[phantom.Lesion]]:
    """A phantom of one patient, and the lesions that were put into it."""
    rng = np.random.default_rng(SEED)
    anatomy = phantom.draw_anatomy(rng)
    heights = np.arange(DEPTH) * INTERVAL_MM
    middles = np.arange(SCENE_MM / 2, heights[-1], SCENE_MM)
    scenes = [phantom.draw_scene(rng, anatomy, float(z)) for z in middles]
    grid = pixel_grid(SIZE, SPACING_MM)
    slices = []
    for z in heights:
        scene = scenes[int(np.abs(middles - z).argmin())]
        slices.append(np.rint(render_slice(rng, anatomy, scene, grid, float(z))))
    size = (SIZE, SIZE, DEPTH)
    spacing = np.array([SPACING_MM, SPACING_MM, INTERVAL_MM])
    corner = -SPACING_MM * (SIZE - 1) / 2
    geometry = Geometry(np.array([corner, corner, 0.0]), spacing, np.diag([1.0, 1.0, -1.0]), size)
    stored = Geometry(geometry.to_patient([0, 0, DEPTH - 1]), spacing, np.eye(3), size)
    hu = np.stack(slices).astype(np.int16)
    scan = Scan("phantom", "NIfTI", hu, geometry, stored, thickness=INTERVAL_MM)
    return scan, [lesion for scene in scenes for lesion in scene.lesions]


def find(lesions: list[phantom.Lesion]) -> list[Lesion]:
    """The true lesions as a detector that misses nothing would find them."""
    grid = pixel_grid(SIZE, SPACING_MM)
    found = []
    for number, lesion in enumerate(lesions, 1):
        slices, masks = [], []
        for z in range(DEPTH):
            section = lesion.section(z * INTERVAL_MM)
            inside = section is not None and section.outline.radius(*grid) < 1
            if np.any(inside):
                ys, xs = np.nonzero(inside)
                crop = inside[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
                slices.append(z)
                masks.append(SliceMask(int(xs.min()), int(ys.min()), crop))
        boxes = [(m.x, m.y, m.x + m.pixels.shape[1] - 1, m.y + len(m.pixels) - 1) for m in masks]
        areas = np.array([m.pixels.sum() for m in masks])
        score = max(BEST_SCORE - STEP * (number - 1), 0.05)
        key = slices[int(areas.argmax())]
        scores = score * areas / areas.max()
        boxes_px = np.array(boxes, np.float64)
        found.append(Lesion(number, score, np.array(slices), boxes_px, scores, tuple(masks), key))
    return found


def screenshot(page: Path, target: Path) -> None:
    """Open a page in Chromium and keep what its window shows."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        metrics = {"deviceScaleFactor": 1, "mobile": False}
        size = {"width": WINDOW_PX[0], "height": WINDOW_PX[1]}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, **metrics})
        browser.get(page.as_uri())
        browser.execute_async_script(
            "const done = arguments[0]; (function look() {"
            "if (document.documentElement.dataset.slice) requestAnimationFrame(done);"
            "else requestAnimationFrame(look); })()"
        )
        browser.save_screenshot(str(target))
    finally:
        browser.quit()


def main() -> None:
    """Write ``scan_report.png`` and ``scan_overlay.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    out = parser.parse_args().out
    scan, lesions = make_scan()
    found = find(lesions)
    document = build_document(scan, found, CARD, {"score_threshold": 0.05})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_page(folder / "report.html", scan, found, document)
        screenshot(folder / "report.html", out / "scan_report.png")
        overlay = cv2.imread(str(write_overlays(folder, scan, found, document)[0]))
        small = cv2.resize(overlay, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(out / "scan_overlay.png"), small)


if __name__ == "__main__":
    main()
