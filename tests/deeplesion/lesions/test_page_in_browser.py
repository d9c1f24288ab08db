"""What the page of a scan does in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.lesions.page import write_page
from deeplesion.lesions.windows import WINDOWS
from deeplesion.scans.scan import Scan
from tests.browser import (
    DESKTOP,
    PHONE,
    Driver,
    cells,
    check_quiet,
    click,
    press,
    settle,
    text,
    visit,
)
from tests.deeplesion.lesions.page_material import EVIL, make_document, make_lesions, make_scan

WIDTH, HEIGHT, DEPTH = 60, 40, 24
SPACING_X, SPACING_Y = 0.7, 1.4
FLAT = ((20, 20), (10, 14), (57, 36))


@pytest.fixture(scope="module")
def scan() -> Scan:
    """The scan that is shown, without noise about the voxels of :data:`FLAT`."""
    scan = make_scan()
    for x, y in FLAT:
        scan.hu[10, y - 1 : y + 2, x - 1 : x + 2] = scan.hu[10, y, x]
    return scan


@pytest.fixture(scope="module")
def file(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, with texts that try to become code."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    lesions = make_lesions()
    document = make_document(scan, lesions)
    document["scan"]["warnings"].append(EVIL)
    document["generator"]["checkpoint"] = EVIL
    write_page(path, scan, lesions, document)
    return path


@pytest.fixture
def page(driver: Driver, file: Path) -> Iterator[Driver]:
    """The page on a desktop; fails on errors in the console, or if anything was loaded."""
    visit(driver, file)
    wait_for_slice(driver, 10)
    yield driver
    check_quiet(driver)


def wait_for_slice(driver: Driver, z: int) -> None:
    """Wait until a slice is drawn, and fail if another one stays."""
    script = (
        "const [z, done] = arguments; const end = performance.now() + 5000;"
        "(function look() { const now = document.documentElement.dataset.slice;"
        "if (now === String(z) || performance.now() > end) done(now);"
        "else requestAnimationFrame(look); })()"
    )
    assert driver.execute_async_script(script, z) == str(z)
    settle(driver)


def stage(driver: Driver) -> dict[str, float]:
    """Left, top, width and height of the view, its border left out."""
    found: dict[str, float] = driver.execute_script(
        "const s = document.getElementById('stage'); s.scrollIntoView({block: 'center'});"
        "const r = s.getBoundingClientRect();"
        "return {left: r.left + s.clientLeft, top: r.top + s.clientTop,"
        " width: s.clientWidth, height: s.clientHeight}"
    )
    return found


def place_of(driver: Driver, x: float, y: float) -> tuple[float, float]:
    """Where a voxel is in the view when the slice fits into it."""
    area = stage(driver)
    scale = min(area["width"] / (WIDTH * SPACING_X), area["height"] / (HEIGHT * SPACING_Y))
    return (
        area["width"] / 2 + (x - (WIDTH - 1) / 2) * SPACING_X * scale,
        area["height"] / 2 + (y - (HEIGHT - 1) / 2) * SPACING_Y * scale,
    )


def mouse(driver: Driver, kind: str, at: tuple[float, float], **options: Any) -> None:
    """Send an event of the mouse to a place in the view."""
    area = stage(driver)
    where = {"x": area["left"] + at[0], "y": area["top"] + at[1]}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **where, **options})


def drag(
    driver: Driver, across: float, down: float, button: str = "left", modifiers: int = 0
) -> None:
    """Drag from the middle of the view."""
    area = stage(driver)
    x, y = area["width"] / 2, area["height"] / 2
    options = {"button": button, "modifiers": modifiers}
    mouse(driver, "mousePressed", (x, y), clickCount=1, **options)
    for part in (0.25, 0.5, 0.75, 1):
        mouse(driver, "mouseMoved", (x + part * across, y + part * down), **options)
    mouse(driver, "mouseReleased", (x + across, y + down), clickCount=1, **options)
    settle(driver)


def touch(driver: Driver, *paths: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Move fingers, each from a place in the view to another one."""
    area = stage(driver)

    def points(part: float) -> list[dict[str, float]]:
        places = [np.add(np.multiply(a, 1 - part), np.multiply(b, part)) for a, b in paths]
        return [
            {"x": area["left"] + float(x), "y": area["top"] + float(y), "id": index}
            for index, (x, y) in enumerate(places)
        ]

    for kind, part in (("touchStart", 0.0), *(("touchMove", step / 10) for step in range(1, 11))):
        sent = {"type": kind, "touchPoints": points(part)}
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", sent)
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settle(driver)


def wheel(driver: Driver, delta: float, at: tuple[float, float] | None = None, **more: Any) -> None:
    """Turn the wheel over the view, down for delta > 0."""
    area = stage(driver)
    middle = (area["width"] / 2, area["height"] / 2)
    mouse(driver, "mouseWheel", at or middle, deltaX=0, deltaY=delta, **more)
    settle(driver)


def keys(driver: Driver, *pressed: str) -> None:
    """Press keys while the view has the focus."""
    press(driver, "stage", *pressed)


def window(driver: Driver) -> tuple[int, int]:
    """Level and width as the fields say."""
    return tuple(
        int(driver.find_element("id", name).get_property("value")) for name in ("level", "width")
    )


def gray(driver: Driver, x: int, y: int) -> int:
    """Gray of the canvas in the middle of a voxel."""
    left, top = place_of(driver, x, y)
    # From a copy: the browser warns of canvases that are read again and again.
    script = (
        "const copy = document.createElement('canvas'); copy.width = copy.height = 1;"
        "const pen = copy.getContext('2d', {willReadFrequently: true});"
        "pen.drawImage(document.getElementById('image'), -arguments[0], -arguments[1]);"
        "const data = pen.getImageData(0, 0, 1, 1).data;"
        "if (data[0] !== data[1] || data[0] !== data[2]) throw new Error('color'); return data[0]"
    )
    value: int = driver.execute_script(script, int(left), int(top))
    return value


def drawn(driver: Driver, selector: str) -> int:
    """Number of elements among the drawings."""
    return len(driver.find_elements("css selector", f"#overlay {selector}"))


def slide(driver: Driver, slider: str, value: float) -> None:
    """Move a slider, given by its id."""
    driver.execute_script(
        "const slider = document.getElementById(arguments[0]); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))",
        slider,
        value,
    )
    settle(driver)


def test_it_opens_at_the_best_lesion_in_its_window(page: Driver) -> None:
    assert window(page) == WINDOWS["lung"]
    assert text(page, "where").startswith("Slice 10 (0\u201323)\nS 75.0 mm")
    assert text(page, "shown-lesions") == "2 lesions in this slice"
    assert text(page, "detail").startswith("Lesion 1 score 0.91")
    assert [drawn(page, name) for name in (".box", ".contour", ".axis", ".label")] == [2, 2, 4, 2]
    assert [text(page, f"edge-{edge}") for edge in ("left", "right", "top", "bottom")] == [*"RLAP"]
    assert page.find_element("id", "slice").get_property("value") == "10"


def test_wheel_keys_and_slider_go_through_the_slices(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    wheel(page, 100)
    wait_for_slice(page, 11)
    for _ in range(3):
        wheel(page, -120)
    wait_for_slice(page, 8)
    for _ in range(4):
        wheel(page, 10)  # a touch pad
    wait_for_slice(page, 9)
    for pressed, z in (
        ([Keys.ARROW_DOWN] * 3, 12),
        ([Keys.ARROW_UP], 11),
        ([Keys.ARROW_LEFT], 10),
        ([Keys.ARROW_RIGHT] * 2, 12),
        ([Keys.PAGE_DOWN], 22),
        ([Keys.PAGE_DOWN], 23),
        ([Keys.PAGE_UP], 13),
        ([Keys.HOME], 0),
        ([Keys.ARROW_UP], 0),
        ([Keys.END], 23),
    ):
        keys(page, *pressed)
        wait_for_slice(page, z)
    press(page, "slice", Keys.ARROW_LEFT)
    wait_for_slice(page, 22)


def test_hu_and_positions_under_the_cursor(page: Driver, scan: Scan) -> None:
    for x, y in ((30, 20), (0, 0), (59, 39), (7, 18), (45, 5)):
        mouse(page, "mouseMoved", place_of(page, x, y))
        lines = text(page, "cursor").split("\n")
        assert lines[0] == f"{scan.hu[10, y, x]} HU"
        assert lines[1:3] == [f"voxel {x}, {y}, 10", f"in file {x}, {y}, 13"]
        left, posterior, superior = scan.geometry.to_patient([x, y, 10])
        assert lines[3] == (
            f"{'L' if left >= 0 else 'R'} {abs(left):.1f}  "
            f"{'P' if posterior >= 0 else 'A'} {abs(posterior):.1f}  S {superior:.1f} mm"
        )
    left, top = place_of(page, -2, 20)
    mouse(page, "mouseMoved", (left, top))
    assert text(page, "cursor") == ""


def test_presets_change_the_pixels(page: Driver, scan: Scan) -> None:
    for number, (name, (level, width)) in enumerate(WINDOWS.items(), 1):
        if number % 2:
            click(page, f"[data-window='{name}']")
        else:
            keys(page, str(number))
        assert window(page) == (level, width)
        pressed = page.find_elements("css selector", "#presets [aria-pressed='true']")
        assert [button.text for button in pressed] == [name.capitalize()]
        for x, y in FLAT:
            wanted = np.clip((scan.hu[10, y, x] - (level - width / 2)) * 255 / width, 0, 255)
            assert gray(page, x, y) == pytest.approx(wanted, abs=1)
    keys(page, "6")
    assert window(page) == (round((3071 - 1100) / 2), 3071 + 1100)


def test_dragging_changes_window_slice_or_place(page: Driver) -> None:
    level, width = window(page)
    drag(page, 40, 0, button="right")
    assert window(page)[0] == level
    assert window(page)[1] > width
    drag(page, 0, -40, button="right")
    assert window(page)[0] > level
    click(page, "[data-tool='window']")
    changed = window(page)
    drag(page, -30, 0)
    assert window(page)[1] < changed[1]
    click(page, "[data-tool='slices']")
    drag(page, 0, 80)
    assert int(page.execute_script("return document.documentElement.dataset.slice")) > 10


def test_level_and_width_can_be_typed(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    for name, value in (("level", -20), ("width", 0)):
        field = page.find_element("id", name)
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(str(value), Keys.TAB)
    assert window(page) == (-20, 1)
    keys(page, Keys.SHIFT + Keys.ARROW_UP, Keys.ARROW_RIGHT)
    assert window(page) == (-10, 21)


def test_zooming_keeps_what_is_under_the_cursor(page: Driver) -> None:
    place = place_of(page, 30, 10)  # in the middle across: there is room beside the slice
    mouse(page, "mouseMoved", place)
    before = text(page, "cursor")
    for _ in range(4):
        wheel(page, -100, place, modifiers=2)
    assert text(page, "cursor") == before
    assert page.execute_script("return document.documentElement.dataset.zoom") == "2.441"
    drag(page, 0, 50, modifiers=8)
    mouse(page, "mouseMoved", place)
    assert int(re.search(r"voxel \d+, (\d+)", text(page, "cursor")).group(1)) < 10
    keys(page, "f")
    assert page.execute_script("return document.documentElement.dataset.zoom") == "1.000"
    mouse(page, "mouseMoved", place)
    assert text(page, "cursor") == before


def test_boxes_are_where_the_document_says(page: Driver) -> None:
    rectangle = page.find_element("css selector", "#overlay [data-number='1'] .box")
    x, y, width, height = (
        float(rectangle.get_attribute(name)) for name in ("x", "y", "width", "height")
    )
    # From the edge of voxel 24, 16 to that of 33, 23.
    assert (x, y) == pytest.approx(place_of(page, 23.5, 15.5), abs=0.1)
    assert (x + width, y + height) == pytest.approx(place_of(page, 33.5, 23.5), abs=0.1)


def test_the_list_jumps(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    click(page, "#table tr[data-number='2'] .score")
    wait_for_slice(page, 4)
    assert window(page) == WINDOWS["soft tissue"]
    current = page.find_elements("css selector", "#table [aria-current='true']")
    assert [row.get_attribute("data-number") for row in current] == ["2"]
    assert drawn(page, ".lesion.chosen[data-number='2']") == 1
    page.find_element("css selector", "#table tr[data-number='3'] .jump").send_keys(Keys.ENTER)
    wait_for_slice(page, 10)
    assert text(page, "detail").startswith("Lesion 3")
    keys(page, "n")
    assert text(page, "detail").startswith("Lesion 1")
    keys(page, "p", "p")
    wait_for_slice(page, 4)
    click(page, "#next")
    assert text(page, "detail").startswith("Lesion 3")
    click(page, "#follow")
    before = window(page)
    keys(page, "n")
    assert window(page) == before


def test_clicks_on_boxes_and_on_the_strip(page: Driver) -> None:
    from selenium.webdriver import ActionChains

    at = place_of(page, 51, 19)
    for kind in ("mousePressed", "mouseReleased"):
        mouse(page, kind, at, button="left", clickCount=1)
    settle(page)
    assert text(page, "detail").startswith("Lesion 3")
    bar = page.find_element("css selector", "#strip .bar[data-number='2'] rect")
    ActionChains(page).click(bar).perform()
    wait_for_slice(page, 4)
    assert text(page, "detail").startswith("Lesion 2")


def test_scores_filter_list_drawings_and_strip(page: Driver) -> None:
    assert text(page, "count") == "3 of 3 lesions shown"
    slide(page, "score", 0.5)
    assert text(page, "count") == "2 of 3 lesions shown"
    assert text(page, "out-score") == "0.50"
    assert [row[0] for row in cells(page, "#table")] == ["1", "2"]
    assert drawn(page, ".lesion") == 1
    assert len(page.find_elements("css selector", "#strip .bar")) == 2
    keys(page, "n", "n")
    wait_for_slice(page, 10)
    slide(page, "score", 0.91)
    assert [row[0] for row in cells(page, "#table")] == ["1"]  # its score is not below the limit
    slide(page, "score", 1)
    assert cells(page, "#table") == []
    assert drawn(page, "*") == 0
    assert not page.find_element("id", "next").is_enabled()
    keys(page, "n")
    slide(page, "score", 0)
    assert len(cells(page, "#table")) == 3


def test_the_list_shows_and_sorts_measurements(page: Driver, scan: Scan) -> None:
    records = make_document(scan, make_lesions())["lesions"]
    first, record = cells(page, "#table")[0], records[0]
    axes = [record[name]["mm"] for name in ("long_axis", "short_axis")]
    assert first[:4] == ["1", "0.91", "8\u201312", f"{axes[0]:.1f} \u00d7 {axes[1]:.1f}"]
    assert first[4:6] == [f"{record['volume_mm3'] / 1000:.2f}", f"{record['hu']['mean']:.0f}"]
    assert re.fullmatch(r"[LR]\d+ [AP]\d+ [SI]\d+", first[6])
    for key, value in (("score", "score"), ("volume", "volume_mm3")):
        click(page, f"[data-sort='{key}']")
        order = sorted(records, key=lambda item: -item[value])
        assert [row[0] for row in cells(page, "#table")] == [str(item["number"]) for item in order]
    click(page, "[data-sort='slices']")
    assert [row[0] for row in cells(page, "#table")] == ["2", "1", "3"]
    click(page, "[data-sort='slices']")
    assert [row[0] for row in cells(page, "#table")] == ["1", "3", "2"]
    head = page.find_element("css selector", "[data-column='slices']")
    assert head.get_attribute("aria-sort") == "descending"
    keys(page, "n")
    assert text(page, "detail").startswith("Lesion 3")  # next in the order of the list


def test_drawings_can_be_hidden(page: Driver) -> None:
    for key, selector in (("b", ".box"), ("m", ".contour"), ("r", ".axis"), ("l", ".label")):
        assert drawn(page, selector) > 0
        keys(page, key)
        assert drawn(page, selector) == 0
    keys(page, "h")
    assert drawn(page, ".box") == 2
    keys(page, "h")
    assert drawn(page, ".box, .contour, .axis, .label") == 0
    click(page, "#show-boxes")
    assert drawn(page, ".box") == 2


def test_the_help_opens_by_key_and_keeps_keys_to_itself(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    keys(page, "?")
    assert page.find_element("id", "help").is_displayed()
    page.switch_to.active_element.send_keys("n", Keys.ESCAPE)
    assert not page.find_element("id", "help").is_displayed()
    assert text(page, "detail").startswith("Lesion 1")


def test_texts_stay_texts(page: Driver) -> None:
    assert EVIL in text(page, "warning-list")
    assert EVIL in text(page, "generator")
    assert text(page, "warnings-link") == "3 warnings"
    assert page.find_elements("css selector", "body img") == []
    assert "not a medical device" in text(page, "disclaimer")


def test_fingers_on_a_phone(driver: Driver, file: Path) -> None:
    visit(driver, file, PHONE)
    wait_for_slice(driver, 10)
    touch(driver, ((150, 60), (150, 140)))
    z = int(driver.execute_script("return document.documentElement.dataset.slice"))
    assert z > 10
    touch(driver, ((150, 140), (150, 100)))
    assert int(driver.execute_script("return document.documentElement.dataset.slice")) < z
    level, width = window(driver)
    touch(driver, ((100, 100), (160, 100)), ((150, 100), (210, 100)))
    assert window(driver)[1] > width
    assert driver.execute_script("return document.documentElement.dataset.zoom") == "1.000"
    changed = window(driver)
    touch(driver, ((140, 100), (80, 100)), ((180, 100), (240, 100)))
    assert float(driver.execute_script("return document.documentElement.dataset.zoom")) > 2
    assert window(driver) == changed
    assert level == changed[0]
    check_quiet(driver)


@pytest.mark.parametrize("size", [PHONE, (390, 844), (768, 1024), DESKTOP, (1920, 1080)])
def test_no_window_scrolls_sideways(driver: Driver, file: Path, size: tuple[int, int]) -> None:
    visit(driver, file, size)
    wait_for_slice(driver, 10)
    sizes = "return [document.documentElement.scrollWidth, window.innerWidth, window.scrollY]"
    assert driver.execute_script(sizes) == [size[0], size[0], 0]
    area = stage(driver)
    assert area["height"] >= 280
    assert area["width"] >= min(size[0] - 20, 600)
    check_quiet(driver)


def test_shrunk_scans_keep_their_places(driver: Driver, scan: Scan, tmp_path: Path) -> None:
    lesions = make_lesions()
    write_page(
        tmp_path / "a.html",
        scan,
        lesions,
        make_document(scan, lesions),
        min_score=0.5,
        hu_step=2,
        max_side=30,
    )
    visit(driver, tmp_path / "a.html")
    wait_for_slice(driver, 10)
    mean = scan.hu[10, 20:22, 30:32].mean()
    for x, y in ((30, 20), (31, 21)):
        mouse(driver, "mouseMoved", place_of(driver, x, y))
        hu, voxel = text(driver, "cursor").split("\n")[:2]
        assert abs(int(hu.removesuffix(" HU")) - mean) <= 1
        assert voxel == f"voxel {x}, {y}, 10"
    assert "means of 2 x 2 voxels" in text(driver, "limits")
    assert text(driver, "count") == "2 of 3 lesions shown"
    check_quiet(driver)


def test_boxes_between_slices_of_a_lesion_are_dashed(
    driver: Driver, scan: Scan, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    lesion = make_lesions()[1]
    boxes = np.array([[6.0, 16, 11, 21], [6, 16, 11, 21], [10, 18, 19, 25]])
    gap = replace(lesion, slices=np.array([3, 4, 8]), boxes=boxes, masks=())
    write_page(tmp_path / "a.html", scan, [gap], make_document(scan, [gap]))
    visit(driver, tmp_path / "a.html")
    wait_for_slice(driver, 4)
    assert (drawn(driver, ".box"), drawn(driver, ".between")) == (1, 0)
    keys(driver, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    wait_for_slice(driver, 6)
    (box,) = driver.find_elements("css selector", "#overlay .between")
    assert float(box.get_attribute("x")) == pytest.approx(place_of(driver, 7.5, 0)[0], abs=0.1)
    for z, count in ((8, 1), (9, 0), (2, 0)):
        slide(driver, "slice", z)
        wait_for_slice(driver, z)
        assert (drawn(driver, ".box"), drawn(driver, ".between")) == (count, 0)
    check_quiet(driver)


def test_without_lesions(driver: Driver, scan: Scan, tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", scan, [], make_document(scan, []))
    visit(driver, tmp_path / "a.html")
    wait_for_slice(driver, DEPTH // 2)
    assert text(driver, "count") == "The detector marked no lesion in this scan."
    assert window(driver) == WINDOWS["soft tissue"]
    keys(driver, "n")
    check_quiet(driver)


def test_a_damaged_file_says_so(driver: Driver, file: Path, tmp_path: Path) -> None:
    page = file.read_text(encoding="utf-8")
    damaged = tmp_path / "a.html"
    damaged.write_text(re.sub(r'(id="slice-10">.{40}).*?<', r"\1<", page), encoding="utf-8")
    visit(driver, damaged)
    script = (
        "const done = arguments[0]; (function look() {"
        "if (!document.getElementById('failure').hidden) done();"
        "else requestAnimationFrame(look); })()"
    )
    driver.execute_async_script(script)
    assert "the file may be damaged" in text(driver, "failure")
