"""A real browser without a window; without Chromium and its driver on the machine, its tests are skipped."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
DESKTOP, PHONE = (1280, 900), (390, 844)  # pixels: width, height
_SWITCHES = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")


def arrived(path: Path) -> bool:
    """Whether a download is there: a browser reserves its name by an empty file, which the whole one replaces."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def open_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Chrome]]:
    """Starts browsers: ``open_browser(PHONE, "--some-switch")``; what one downloads lies in ``browser.downloads``."""
    missing = [name for name, found in (("Chromium", CHROMIUM), ("chromedriver", DRIVER)) if not found]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on this machine: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    opened: list[Chrome] = []

    def open_one(size: tuple[int, int] = DESKTOP, *switches: str) -> Chrome:
        downloads = tmp_path_factory.mktemp("downloads")
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for switch in (*_SWITCHES, *switches):
            options.add_argument(switch)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = Chrome(options, Service(str(DRIVER)))
        opened.append(browser)
        browser.downloads = downloads  # type: ignore[attr-defined]
        # As a phone's page where it is narrow, since a window has a least width.
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        return browser

    yield open_one
    for browser in opened:
        browser.quit()
