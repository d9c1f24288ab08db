"""The report's page: its file, and what it does in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.canvas import STYLES
from deeplesion.evaluation.html_report import render, write_report
from deeplesion.evaluation.plots import COLORS
from deeplesion.offline_page import escaped_json
from tests.browser import (
    DESKTOP,
    PHONE,
    Driver,
    cells,
    check_quiet,
    choose,
    click,
    press,
    settle,
    text,
    visit,
)
from tests.deeplesion.evaluation.report_material import (
    EVIL,
    case_of,
    method_of,
    random_cases,
    random_method,
    report_of,
    write_slices,
)

PAGE = Path(__file__).resolve().parents[3] / "deeplesion/evaluation/page"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A report of two detectors with a gallery: its file and, as the page reads them, its data."""
    folder = tmp_path_factory.mktemp("report")
    cases = random_cases(40)
    methods = [random_method("AlignShift", cases, 1), random_method(f"2D {EVIL}", cases, 2, 2.0)]
    data = report_of(cases, methods, write_slices(folder, cases))
    write_report(folder / "report.html", data)
    return folder / "report.html", json.loads(escaped_json(data))


@pytest.fixture
def page(driver: Driver, report: tuple[Path, dict[str, Any]]) -> Iterator[Driver]:
    """The report on a desktop; fails on errors in the console, or if anything was loaded."""
    visit(driver, report[0])
    yield driver
    check_quiet(driver)


def table(driver: Driver) -> list[list[str]]:
    """Cells of the rows of lesions that are in the document."""
    return cells(driver, "#lesion-table")


def shown_boxes(driver: Driver) -> int:
    """Number of boxes that the pictures of the gallery show."""
    script = (
        "return [...document.querySelectorAll('#gallery-body .box')]"
        ".filter(box => box.getClientRects().length > 0).length"
    )
    count: int = driver.execute_script(script)
    return count


def boxes_from(data: dict[str, Any], name: str, threshold: float) -> int:
    """The same, counted in the data."""
    mine = [item for item in data["gallery"] if item["method"] == name]
    return sum(box["score"] >= threshold for item in mine for box in item["boxes"][name])


def check_point(driver: Driver, data: dict[str, Any], method: dict[str, Any], point: int) -> None:
    """Everything that hangs on the threshold is as computed from the data."""
    name, curve = method["name"], method["curve"]
    threshold = curve["thresholds"][point]
    found = sum((row["found"][name] or 0) >= threshold for row in data["lesions"])
    total = len(data["lesions"])
    assert found / total == pytest.approx(curve["sensitivity"][point])
    assert text(driver, "out-threshold") == f"{threshold:.3f}"
    assert text(driver, "out-sensitivity") == f"{100 * found / total:.1f}\u202f%"
    assert text(driver, "out-fps") == f"{curve['fps'][point]:.2f}"
    assert text(driver, "out-missed") == str(total - found)
    assert text(driver, "lesion-count").startswith(f"{found} of {total} lesions found")
    assert shown_boxes(driver) == boxes_from(data, name, threshold)
    assert text(driver, "boxes-shown").startswith(f"{shown_boxes(driver)} box")


def point_at(method: dict[str, Any], fps: float) -> int:
    """Last point of a curve within so many false positives per image."""
    return int(np.searchsorted(method["curve"]["fps"], fps, side="right")) - 1


def test_slider_moves_numbers_and_boxes(page: Driver, report: tuple[Path, dict[str, Any]]) -> None:
    from selenium.webdriver.common.keys import Keys

    data = report[1]
    method = data["methods"][0]
    last = len(method["curve"]["thresholds"]) - 1
    check_point(page, data, method, point_at(method, 1))
    press(page, "threshold", Keys.HOME)
    check_point(page, data, method, last)
    press(page, "threshold", *[Keys.ARROW_RIGHT] * 7)
    check_point(page, data, method, last - 7)
    press(page, "threshold", Keys.END)
    check_point(page, data, method, 0)
    press(page, "threshold", *[Keys.ARROW_LEFT] * 20)
    check_point(page, data, method, 20)
    assert "false positives per image" in page.find_element("id", "threshold").get_attribute(
        "aria-valuetext"
    )


def test_a_box_of_the_threshold_itself_is_shown(
    page: Driver, report: tuple[Path, dict[str, Any]]
) -> None:
    data = report[1]
    method = data["methods"][0]
    thresholds = method["curve"]["thresholds"]
    mine = [item for item in data["gallery"] if item["method"] == method["name"]]
    scores = {box["score"] for item in mine for box in item["boxes"][method["name"]]}
    point = next(index for index, value in enumerate(thresholds) if value in scores)
    page.execute_script(
        "const slider = document.getElementById('threshold'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'))",
        len(thresholds) - 1 - point,
    )
    settle(page)
    check_point(page, data, method, point)


def test_presets_give_the_figures_of_the_table(
    page: Driver, report: tuple[Path, dict[str, Any]]
) -> None:
    data = report[1]
    method = data["methods"][0]
    for fps in (0.5, 2, 4):
        click(page, f"#presets [data-fps='{fps:g}']")
        check_point(page, data, method, point_at(method, fps))
        wanted = method["figures"][f"{fps:g}"]["value"]
        assert text(page, "out-sensitivity") == f"{100 * wanted:.1f}\u202f%"
        pressed = page.find_elements("css selector", "#presets [aria-pressed='true']")
        assert f"{fps:g}" in [button.text for button in pressed]


def test_clicking_the_curve_moves_the_operating_point(
    page: Driver, report: tuple[Path, dict[str, Any]]
) -> None:
    before = text(page, "out-fps")
    click(page, "#froc-chart svg")
    ring = page.find_element("css selector", "#operating circle")
    assert text(page, "out-fps") != before
    area, at = page.find_element("css selector", "#froc-chart svg").rect, ring.rect
    middle = area["x"] + area["width"] / 2
    assert abs(at["x"] + at["width"] / 2 - middle) < area["width"] / 12


def test_the_selector_changes_everything(page: Driver, report: tuple[Path, dict[str, Any]]) -> None:
    data = report[1]
    other = data["methods"][1]
    choose(page, "#method", "1")
    check_point(page, data, other, point_at(other, 1))
    shots = page.find_elements("css selector", "#gallery-body .shot")
    assert len(shots) == sum(item["method"] == other["name"] for item in data["gallery"])
    values = [e.text for e in page.find_elements("css selector", "#strata-plots .value")]
    assert values == [f"{100 * row['value']:.1f}" for row in other["strata"]]


def test_sorting(page: Driver, report: tuple[Path, dict[str, Any]]) -> None:
    rows = report[1]["lesions"]
    axes = sorted(row["long_axis"] for row in rows)
    click(page, "[data-sort='long_axis']")
    assert [row[2] for row in table(page)] == [f"{axis:.1f}" for axis in axes[:50]]
    head = page.find_element("css selector", "[data-column='long_axis']")
    assert head.get_attribute("aria-sort") == "ascending"
    click(page, "[data-sort='long_axis']")
    assert [row[2] for row in table(page)] == [f"{axis:.1f}" for axis in axes[::-1][:50]]
    click(page, "[data-sort='found']")
    scores = sorted(row["found"]["AlignShift"] or -1 for row in rows)[:50]
    assert [row[5] for row in table(page)] == ["never" if s < 0 else f"{s:.3f}" for s in scores]
    click(page, "[data-sort='file']")
    names = sorted((row["file"], row["lesion"]) for row in rows)[:50]
    assert [row[0] for row in table(page)] == [f if n == 1 else f"{f} #{n}" for f, n in names]


def test_filters(page: Driver, report: tuple[Path, dict[str, Any]]) -> None:
    data = report[1]
    method = data["methods"][0]
    threshold = method["curve"]["thresholds"][point_at(method, 1)]
    thick = [row for row in data["lesions"] if row["strata"]["slice_interval"] == "thick"]
    found = sum((row["found"]["AlignShift"] or 0) >= threshold for row in thick)
    choose(page, "#filters [data-kind='slice_interval']", "thick")
    assert {row[3] for row in table(page)} == {"5"}
    assert len(table(page)) == min(len(thick), 50)
    share = f"{100 * found / len(thick):.1f}\u202f%"
    wanted = f"{found} of {len(thick)} lesions found at this threshold ({share})."
    assert text(page, "lesion-count") == wanted
    choose(page, "#status", "missed")
    assert len(table(page)) == len(thick) - found
    assert {row[6] for row in table(page)} <= {"\u2717 missed"}
    choose(page, "#status", "all")
    name = thick[0]["file"]
    press(page, "search", name.upper())
    assert {row[0].split(" ")[0] for row in table(page)} == {name}


def test_pictures_enlarge_by_key_and_boxes_can_be_hidden(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    opener = page.find_element("css selector", "#gallery-body .open")
    opener.send_keys(Keys.ENTER)
    viewer = page.find_element("id", "viewer")
    assert viewer.is_displayed()
    assert viewer.find_element("css selector", "svg.slice").is_displayed()
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not viewer.is_displayed()
    assert page.find_element("css selector", "#gallery-body .lesion").is_displayed()
    click(page, "#show-boxes")
    assert shown_boxes(page) == 0
    assert not page.find_element("css selector", "#gallery-body .lesion").is_displayed()


def test_texts_stay_texts(page: Driver) -> None:
    assert text(page, "title") == f"Report {EVIL}"
    assert page.title == f"Report {EVIL}"
    assert EVIL in text(page, "notes")
    assert EVIL in text(page, "figures")
    assert page.find_elements("css selector", "body img[src='x']") == []


def test_published_results_stand_among_ours(page: Driver) -> None:
    rows = page.find_elements("css selector", "#figures tbody tr")
    names = [row.find_element("css selector", ".name").text.split("\n")[0] for row in rows]
    assert names[0].startswith("A3D, 7 slices")
    assert names[0].endswith("\u2020")
    assert names[1] == "AlignShift"
    assert names[-1] == "3DCE, 27 slices"
    assert "\u2020 not confirmed in the primary source" in text(page, "figures-note")


def test_the_color_scheme_can_be_chosen(page: Driver) -> None:
    back = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(back)
    click(page, "#theme")
    assert page.execute_script(back) == light
    click(page, "#theme")
    assert page.execute_script(back) != light


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [PHONE, (390, 844), (768, 1024), DESKTOP])
def test_no_window_scrolls_sideways(
    driver: Driver, report: tuple[Path, dict[str, Any]], size: tuple[int, int], dark: bool
) -> None:
    visit(driver, report[0], size, dark)
    sizes = "return [document.documentElement.scrollWidth, window.innerWidth]"
    assert driver.execute_script(sizes) == [size[0], size[0]]
    check_quiet(driver)


def test_many_lesions_are_shown_by_pages(driver: Driver, tmp_path: Path) -> None:
    cases = random_cases(2500)
    data = report_of(cases, [random_method("AlignShift", cases, 1)])
    assert len(data["lesions"]) > 4500
    write_report(tmp_path / "report.html", data)
    visit(driver, tmp_path / "report.html")
    click(driver, "[data-sort='file']")
    first = table(driver)
    assert len(first) == 50
    click(driver, "#next")
    assert len(table(driver)) == 50
    assert table(driver)[0] > first[-1]
    assert text(driver, "page") == f"Page 2 of {-(-len(data['lesions']) // 50)}"
    assert not driver.find_element("id", "method-label").is_displayed()
    assert "There is no gallery" in text(driver, "gallery-note")
    check_quiet(driver)


@pytest.mark.parametrize("boxes", [[], [[0, 0, 9, 9, 0.5]]])
def test_detectors_without_boxes_and_sets_without_lesions(
    driver: Driver, tmp_path: Path, boxes: list[list[float]]
) -> None:
    cases = [case_of(0, [] if boxes else [[0, 0, 9, 9]])]
    write_report(tmp_path / "a.html", report_of(cases, [method_of("m", cases, [boxes])]))
    visit(driver, tmp_path / "a.html")
    assert text(driver, "out-threshold") == ("0.500" if boxes else "no boxes")
    assert text(driver, "out-sensitivity") == ("\u2013" if boxes else "0.0\u202f%")
    check_quiet(driver)


def test_the_file_is_complete_and_escaped(report: tuple[Path, dict[str, Any]]) -> None:
    page = report[0].read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    assert page.count("<script") == 2
    assert "&lt;/script&gt;" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "eval(" not in page
    assert "innerHTML" not in page
    assert "default-src 'none'" in page


def test_a_part_that_is_missing_is_named() -> None:
    cases = random_cases(2)
    data = report_of(cases, [random_method("a", cases, 0)])
    for wrong, message in (
        ({**data, "lesions": None}, r"data\['lesions'\] must be a list, got NoneType"),
        (
            {k: v for k, v in data.items() if k != "fps"},
            r"data\['fps'\] must be a list, got nothing",
        ),
        ({**data, "methods": []}, r"data\['methods'\] must have at least one method, got none"),
        ({**data, "methods": data["methods"] * 2}, r"must differ in name, got \['a', 'a'\]"),
        (
            {**data, "methods": [{"name": "a"}]},
            r"data\['methods'\]\[0\] lacks figures, mean, curve",
        ),
        (
            {**data, "methods": [{**data["methods"][0], "name": "b"}]},
            r"data\['lesions'\]\[0\]\['found'\] lacks b",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            render(wrong)


def test_colors_are_those_of_plots_and_pictures() -> None:
    style = (PAGE / "page.css").read_text(encoding="utf-8")
    for index, color in enumerate(COLORS):
        assert f"--m{index}: {color.lower()};" in style
    for kind, look in STYLES.items():
        assert f"--{kind.replace(' ', '-')}: rgb{look.color};" in style
