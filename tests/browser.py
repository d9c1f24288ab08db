"""Pages in a browser without a window, for tests; those that need one skip where there is none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DESKTOP, PHONE = (1280, 900), (360, 740)
Driver = Any


def browser_path() -> str:
    """A Chromium, or skip."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if (found := shutil.which(name)) is not None:
            return found
    return pytest.skip("no browser: apt-get install chromium chromium-driver")


@contextmanager
def open_browser(profile: Path) -> Iterator[Driver]:
    """A browser without a window.

    Args:
        profile: An empty folder.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    binary, service = browser_path(), shutil.which("chromedriver")
    if service is None:
        pytest.skip("no chromedriver: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(service))
    try:
        yield browser
    finally:
        browser.quit()


def visit(driver: Driver, path: Path, size: tuple[int, int] = DESKTOP, dark: bool = False) -> None:
    """Open a file in a window of some size."""
    width, height = size
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get("about:blank")
    for log in ("performance", "browser"):
        driver.get_log(log)
    driver.get(path.as_uri())
    assert driver.execute_script("return document.documentElement.dataset.ready") == "true"


def check_quiet(driver: Driver) -> None:
    """No errors in the console, nothing loaded but the file, no text taken for code."""
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser may still be loading its own start page.
    urls = [item["request"]["url"] for item in sent if item["documentURL"].startswith("file:")]
    assert urls
    assert {re.split(":", url)[0] for url in urls} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in urls) == 1
    assert driver.execute_script("return window.broken") is None


def text(driver: Driver, element: str) -> str:
    """Text of an element by its id."""
    found: str = driver.find_element("id", element).get_attribute("textContent")
    return found


def press(driver: Driver, element: str, *keys: str) -> None:
    """Press keys on an element, and let the page draw."""
    driver.find_element("id", element).send_keys(*keys)
    settle(driver)


def settle(driver: Driver) -> None:
    """Wait until the page has drawn what was asked for."""
    twice = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    driver.execute_async_script(twice)


def click(driver: Driver, selector: str) -> None:
    """Click what a selector finds first."""
    element = driver.find_element("css selector", selector)
    driver.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element
    )
    element.click()
    settle(driver)


def choose(driver: Driver, selector: str, value: str) -> None:
    """Choose an option of a select."""
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("css selector", selector)).select_by_value(value)
    settle(driver)


def cells(driver: Driver, table: str) -> list[list[str]]:
    """Texts of the cells in the body of a table, row by row.

    Args:
        driver: The browser.
        table: Its selector.
    """
    script = (
        "return [...document.querySelectorAll(`${arguments[0]} tbody tr`)]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    found: list[list[str]] = driver.execute_script(script, table)
    return found
