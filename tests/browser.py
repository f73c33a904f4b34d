"""A real browser, as a person who looks at pages: `from tests.browser import browser`."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

selenium = pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[dev]'")

from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.remote.command import Command  # noqa: E402

__all__ = ["Browser", "browser", "opened"]

T = TypeVar("T")

_BARRIERS = Path(__file__).with_name("accessibility.js").read_text()

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--autoplay-policy=no-user-gesture-required", "--mute-audio", "--hide-scrollbars"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a GPU
)


class Browser(Chrome):
    """Chromium without a window, on a fresh profile; it keeps what pages ask of the network and say to the console."""

    def resize(self, width: int, height: int) -> None:
        """Show pages as on a screen of that many px, however small (a window cannot be)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, **features: str) -> None:
        """Set what the person prefers, e.g. `color_scheme="dark"`, and nothing else."""
        wanted = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})

    def looks(self) -> Iterator[str]:
        """Set up each way to look at a page: a phone and a desktop, light and dark, and yield its name."""
        for width, height in ((360, 740), (1280, 900)):
            for scheme in ("light", "dark"):
                self.resize(width, height)
                self.prefer(color_scheme=scheme, reduced_motion="reduce")
                yield f"{width} px, {scheme}"
        self.prefer()

    def barriers(self) -> list[str]:
        """Return what keeps people from using the page that is shown: names, contrast, sizes, motion."""
        found: list[str] = self.execute_script(_BARRIERS)
        return found

    def download_to(self, folder: Path) -> None:
        """Keep what pages have downloaded in a folder, without asking."""
        self.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})

    def text(self) -> str:
        """Return all that can be read on the page."""
        return str(self.execute_script("return document.body.innerText"))

    def click(self, label: str) -> None:
        """Click the button or tab that says so, once there is one."""
        there = f"//button[normalize-space()='{label}']"
        self.until(lambda: self.find_elements("xpath", there))[0].click()

    def _log(self, kind: str) -> list[dict[str, Any]]:
        """Return what `get_log` does, with types."""
        entries: list[dict[str, Any]] = self.execute(Command.GET_LOG, {"type": kind})["value"]
        return entries

    def requested(self) -> list[str]:
        """Return the addresses requested since the last look, without what lies in the page itself (`data:`), nor
        what the browser's own pages ask for."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        urls = [each["request"]["url"] for each in sent if not each["documentURL"].startswith("chrome")]
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Return the errors and refused contents in the console since the last call."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def overflow(self) -> int:
        """Return by how many px the page is wider than the screen."""
        width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.execute_script(width))

    def until(self, look: Callable[[], T], seconds: float = 60) -> T:
        """Wait until `look` returns something, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"waited {seconds} s in vain at {self.current_url}:\n{self.text()}"
            time.sleep(0.1)
        return found

    def photograph(self, file: Path, whole: bool = False) -> None:
        """Save a PNG of what the screen shows, or of the whole page."""
        if whole:
            height = int(self.execute_script("return document.documentElement.scrollHeight"))
            width = int(self.execute_script("return document.documentElement.clientWidth"))
            self.resize(width, height)
        assert self.save_screenshot(str(file))


@contextmanager
def opened(profile: Path) -> Iterator[Browser]:
    """Open Chromium, with a folder for its profile. Skip the test where there is none."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no chromium with its chromedriver on this machine")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with Browser(options, Service(driver)) as browser:
        yield browser


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Yield Chromium, where there is one (Debian: `apt-get install chromium chromium-driver`)."""
    with opened(tmp_path / "chromium") as browser:
        yield browser
