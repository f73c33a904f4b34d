"""Make the pictures of the demo in `docs/`: its page, its 3D view, its video, and its summary in Prefect's UI.

`python -m tests.terminal --demo` makes them of the demo that it records. `python -m tests.illustrations HOME` makes
them of a demo that was run in the folder HOME, which was also the home folder then.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import httpx
from PIL import Image

from tests.browser import opened
from tests.processes import free_port
from tests.terminal import README, ROOT, environment

__all__ = ["photograph_demo"]

DOCS = ROOT / "docs"


def photograph_demo(home: Path) -> None:
    """Replace the pictures of the demo, which was run in that home folder, and the README's number of points."""
    assets = home / ".rebel-nerf/assets"
    page, video, view = (_newest(assets / f"facade-{kind}") for kind in ("page", "video", "export"))
    shutil.copyfile(video / "preview.gif", DOCS / "facade.gif")
    with tempfile.TemporaryDirectory() as scratch, opened(Path(scratch) / "chromium") as browser:
        shot = Path(scratch) / "shot.png"

        def shown(width: int, height: int, scheme: str = "light", scroll_to: str = "") -> Image.Image:
            browser.resize(width, height)
            browser.prefer(color_scheme=scheme)
            if scroll_to:
                heading = browser.find_elements("xpath", f"//h2[normalize-space()='{scroll_to}']")[0]
                browser.execute_script("arguments[0].scrollIntoView()", heading)
            time.sleep(2)  # the page lays itself out, and the video shows its first frame
            browser.photograph(shot)
            return Image.open(shot).convert("RGB")

        browser.get((page / "index.html").as_uri())
        desktop = shown(1000, 918).resize((667, 612), Image.Resampling.LANCZOS)
        phone = shown(400, 866, "dark", "Photo and rendering").resize((283, 612), Image.Resampling.LANCZOS)
        both = Image.new("RGB", (960, 612), "white")
        both.paste(desktop, (0, 0))
        both.paste(phone, (677, 0))
        _save(both, "page.jpg")

        browser.get((view / "index.html").as_uri())
        browser.until(lambda: re.search(r"[\d,]+ points", browser.text()))
        _save(shown(800, 450), "3d.jpg")
        points = re.search(r"([\d,]+) points", browser.text())
        assert points
        README.write_text(re.sub(r"(?<=here )[\d,]+(?= points of the model)", points[1], README.read_text()))

        with _served(home) as (url, auth):
            with httpx.Client(base_url=f"{url}/api", auth=auth, timeout=60) as client:
                wanted = {"artifacts": {"key": {"any_": ["facade-summary"]}}, "sort": "CREATED_DESC", "limit": 1}
                [artifact] = client.post("/artifacts/filter", json=wanted).raise_for_status().json()
            browser.resize(1280, 896)
            browser.prefer(color_scheme="light")
            browser.get(f"{url}/v2/login")
            browser.until(lambda: browser.find_elements("css selector", "input[type=password]"))[0].send_keys(
                f"{':'.join(auth)}\n"
            )
            browser.until(lambda: "login" not in browser.current_url)
            browser.get(f"{url}/v2/artifacts/artifact/{artifact['id']}")
            browser.until(lambda: "Results:" in browser.text())
            browser.execute_script(_REPLACE, str(home), "/home/you")
            _save(shown(1280, 896).resize((900, 630), Image.Resampling.LANCZOS), "run-summary.jpg")


_REPLACE = """
const [from, to] = arguments, texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(from, to);
"""


@contextmanager
def _served(home: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Start a server, repeat the demo with it, and yield the server's address, and a user and password."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    theirs = environment(home)
    command = [str(home / "bin/rebel-nerf"), "server", "--port", str(port), "--assets-port", str(free_port())]
    with open(os.devnull, "w") as log, subprocess.Popen(command, env=theirs, cwd=home, stdout=log) as server:
        try:
            deadline = time.monotonic() + 180
            while not _answers(f"{url}/api/health"):
                assert server.poll() is None and time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.5)
            subprocess.run(
                [home / "bin/rebel-nerf", "demo"], env={**theirs, "PREFECT_API_URL": f"{url}/api"}, cwd=home, check=True
            )
            profiles = tomllib.loads((home / ".prefect/rebel-nerf.toml").read_text())["profiles"]
            user, _, password = profiles["rebel-nerf"]["PREFECT_API_AUTH_STRING"].partition(":")
            yield url, (user, password)
        finally:
            server.terminate()
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def _newest(folder: Path) -> Path:
    return max((each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime)


def _save(picture: Image.Image, name: str) -> None:
    picture.save(DOCS / name, quality=85, optimize=True)


if __name__ == "__main__":
    photograph_demo(Path(sys.argv[1]).resolve())
