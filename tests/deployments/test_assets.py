"""Pages and videos over HTTP: what the server shows, to whom, and what a hostile page cannot do."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest

from blocks import LocalWorkspace
from deployments import assets
from jobs.video.h264 import encode
from tasks.gallery import gallery_file, write_gallery
from tasks.links import file_link, scene_link
from tests.browser import Browser, browser
from tests.processes import free_port
from tests.service import Service

__all__ = ["browser"]

AUTH = "rebel-nerf:secret word"
_SECRET = "not for browsers"
_HOSTILE = """<!doctype html><title>waiting</title><link rel="icon" href="data:,"><body><script>
const said = {origin: self.origin};
try { localStorage.length; said.storage = "read" } catch (error) { said.storage = error.name }
const addresses = ADDRESSES.map(address => fetch(address, {credentials: "include", mode: "no-cors"})
    .then(() => said[address] = "reached", () => said[address] = "refused"));
const picture = new Promise(ends => { const image = new Image(); image.onload = image.onerror = ends;
    image.src = ADDRESSES[0] + "?picture" });
Promise.all([...addresses, picture]).then(() => { document.body.textContent = JSON.stringify(said) });
</script>"""


def put(root: Path, name: str, kind: str, files: dict[str, bytes], **tags: str) -> Path:
    """Register an asset as version 1-0a, and return its folder."""
    folder = root / "assets" / name / "1-0a"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    about = {"name": name, "version": "1-0a", "kind": kind, "created": datetime.now(timezone.utc).isoformat()}
    sizes = {path: len(content) for path, content in files.items()}
    checksums = dict.fromkeys(files, "0")
    (folder / "asset.json").write_text(json.dumps({**about, "tags": tags, "sizes": sizes, "checksums": checksums}))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a workspace of one scene, with a video, a page and a 3D view."""
    root = tmp_path / "home"
    frames = (np.full((90, 160, 3), shade, np.uint8) for shade in range(60, 100))
    encode(tmp_path / "video.mp4", frames, Fraction(10), (160, 90))
    video = (tmp_path / "video.mp4").read_bytes()
    put(root, "street-nerf", "model", {"config.yml": b"", "held_out/1-photo.jpg": b"photo"}, psnr="25")
    files = {"video.mp4": video, "poster.jpg": b"poster", "video.json": b"{}"}
    put(root, "street-video", "video", files, model="street-nerf:1-0a")
    put(root, "street-page", "page", {"index.html": b"<h1>the page</h1>"}, video="street-video:1-0a")
    put(root, "street-export", "export", {"index.html": b"<h1>in 3D</h1>"}, model="street-nerf:1-0a")
    put(root, "street-images-to-nerf-dataset", "dataset", {"images/1.jpg": b"photo"})
    put(root, "street", "capture", {"1.jpg": b"photo", "index.html": b"photo"})
    return root


@pytest.fixture
def address(root: Path) -> str:
    """Serve the workspace, and return the address."""
    port = free_port()
    assets.serve(root, AUTH, "127.0.0.1", port)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, auth=("rebel-nerf", "secret word"), timeout=60) as client:
        yield client


def raw(address: str, target: str, method: str = "GET") -> bytes:
    """Return the whole answer to a request whose path no client has normalized."""
    url, basic = httpx.URL(address), httpx.BasicAuth("rebel-nerf", "secret word")._auth_header
    request = f"{method} {target} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nAuthorization: {basic}\r\n"
    with socket.create_connection((url.host, url.port or 80), 60) as connection:
        connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_people_look_at_is_served(client: httpx.Client, root: Path) -> None:
    page = client.get("/assets/street-page/1-0a/index.html")
    assert page.text == "<h1>the page</h1>" and page.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox allow-scripts" in page.headers["content-security-policy"]
    assert "allow-same-origin" not in page.headers["content-security-policy"]
    assert client.get("/assets/street-export/1-0a/index.html").text == "<h1>in 3D</h1>"
    content = (root / "assets/street-video/1-0a/video.mp4").read_bytes()
    whole = client.get("/assets/street-video/1-0a/video.mp4")
    assert whole.content == content and whole.headers["content-type"] == "video/mp4"
    part = client.get("/assets/street-video/1-0a/video.mp4", headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.content == content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    head = client.head("/assets/street-video/1-0a/video.mp4")
    assert head.status_code == 200 and head.content == b"" and head.headers["content-length"] == str(len(content))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client: httpx.Client, method: str) -> None:
    assert client.request(method, "/assets/street-page/1-0a/index.html", content=b"x").status_code == 405
    assert client.request(method, "/gallery.html").status_code == 405


@pytest.mark.parametrize("credentials", [None, ("rebel-nerf", ""), ("rebel-nerf", "secret"), ("", "secret word")])
def test_nothing_is_served_without_the_password(address: str, credentials: tuple[str, str] | None) -> None:
    for path in ("/", "/gallery.html", "/assets/street-page/1-0a/index.html", "/assets/none/1/none"):
        answer = httpx.get(f"{address}{path}", auth=credentials)
        assert answer.status_code == 401 and "the page" not in answer.text
        assert answer.headers["www-authenticate"].startswith("Basic "), "a browser asks for it"
        assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "header", ["Basic", "Basic ?", "Basic cmViZWwtbmVyZjpzZWNyZXQgd29yZA", "Bearer secret word", "é"]
)
def test_a_damaged_sign_in_is_refused(address: str, header: str) -> None:
    answer = httpx.get(f"{address}/gallery.html", headers={b"Authorization": header.encode()})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "street-video/1-0a/asset.json",
        "street-video/1-0a/video.json",
        "street-video/1-0a/planted.mp4",
        "street-nerf/1-0a/config.yml",
        "street-nerf/1-0a/held_out/1-photo.jpg",
        "street-images-to-nerf-dataset/1-0a/images/1.jpg",
        "street/1-0a/1.jpg",
        "street/1-0a/index.html",
        "street-page/1-0a/",
        "street-page/1-0a",
        "street-page/.damaged-1-0a/index.html",
        "street-page/renamed/index.html",
        "street-page/1-0a/index.html%00",
        f"street-page/1-0a/{'a' * 5000}",
    ],
)
def test_other_files_are_not_served(client: httpx.Client, root: Path, path: str) -> None:
    (root / "assets/street-video/1-0a/planted.mp4").write_text(_SECRET)
    for name in ("renamed", ".damaged-1-0a"):
        folder = root / "assets/street-page" / name
        folder.mkdir()
        for file in ("index.html", "asset.json"):
            (folder / file).write_bytes((root / "assets/street-page/1-0a" / file).read_bytes())
    assert client.get(f"/assets/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.html",
        "/gallery/../../secret.html",
        "/gallery/..%2f..%2fsecret.html",
        "/gallery/%2e%2e/%2e%2e/secret.html",
        "/assets/street-page/1-0a/../../../../secret.html",
        "/assets/street-page/1-0a/..%2f..%2f..%2f..%2fsecret.html",
        "/assets/street-page/../../secret.html",
        "/assets/%2e%2e/%2e%2e/secret.html",
        "/assets/street-page/1-0a//SECRET",
        "/assets/street-page/1-0a/%2fSECRET",
        "/assets/street-page/1-0a/inside/secret.html",
        "/assets/street-page/1-0a/link.html",
        "/assets/street-page/linked/secret.html",
        "/assets/linked-page/1-0a/index.html",
        "/gallery/linked.html",
        "//SECRET",
    ],
)
def test_no_path_and_no_link_leads_out(address: str, root: Path, path: str) -> None:
    """Even if the manifest lists the path: assets may come from elsewhere."""
    secret = root.parent / "secret.html"
    secret.write_text(_SECRET)
    folder = root / "assets/street-page/1-0a"
    (folder / "link.html").symlink_to(secret)
    (folder / "inside").symlink_to(root.parent)
    (folder.parent / "linked").symlink_to(root.parent)
    other = put(root.parent / "other", "linked-page", "page", {"index.html": _SECRET.encode()})
    (root / "assets/linked-page").symlink_to(other.parent)
    (root / "gallery").mkdir()
    (root / "gallery/linked.html").symlink_to(secret)
    listed = ["../../../../secret.html", str(secret), "inside/secret.html", "link.html"]
    manifest = json.loads((folder / "asset.json").read_text())
    manifest["sizes"] |= dict.fromkeys(listed, len(_SECRET))
    manifest["checksums"] |= dict.fromkeys(listed, "0")
    (folder / "asset.json").write_text(json.dumps(manifest))
    for method in ("GET", "HEAD"):
        answer = raw(address, path.replace("SECRET", str(secret).lstrip("/")), method)
        assert re.match(rb"HTTP/1.1 (404|400) ", answer) and _SECRET.encode() not in answer


def test_a_hostile_page_reaches_nothing(address: str, root: Path, browser: Browser) -> None:
    """It has its own origin: neither other pages, nor the UI's storage, nor the API, nor any network."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        others = [f"http://127.0.0.1:{listener.server_port}/api/flows", "/assets/street-export/1-0a/index.html", "/"]
        targets = [others[0], *(f"{address}{path}" for path in others[1:])]
        text = _HOSTILE.replace("ADDRESSES", json.dumps(targets))
        put(root, "evil-page", "page", {"index.html": text.encode()})
        signed_in = address.replace("//", "//rebel-nerf:secret%20word@")
        browser.get(f"{signed_in}/assets/street-export/1-0a/index.html")
        assert browser.text() == "in 3D", "the browser has the password now"
        browser.get(f"{address}/assets/evil-page/1-0a/index.html")
        said = json.loads(browser.until(lambda: browser.text()))
        listener.shutdown()
    assert said == {"origin": "null", "storage": "SecurityError", **dict.fromkeys(targets, "refused")}
    assert asked == []


def test_a_foreign_page_cannot_show_what_is_served(address: str, root: Path, browser: Browser) -> None:
    """Although the browser has the password."""
    video = f"{address}/assets/street-video/1-0a/video.mp4"
    page = f"{address}/assets/street-page/1-0a/index.html"
    foreign = (
        f'<!doctype html><link rel="icon" href="data:,"><video src="{video}"></video><iframe src="{page}"></iframe>'
        "<script>const v = document.querySelector('video'); "
        f"fetch('{page}', {{credentials: 'include'}}).then(() => self.read = 'read', () => self.read = 'refused')"
        "</script>"
    )

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(foreign.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    signed_in = address.replace("//", "//rebel-nerf:secret%20word@")
    browser.get(f"{signed_in}/assets/street-video/1-0a/video.mp4")
    loaded = (
        "const v = document.querySelector('video'); return v && (v.error ? 'refused' : v.readyState > 1 && 'shown')"
    )
    assert browser.until(lambda: browser.execute_script(loaded)) == "shown"
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{elsewhere.server_port}/")
        assert browser.until(lambda: browser.execute_script(loaded)) == "refused"
        assert browser.until(lambda: browser.execute_script("return self.read")) == "refused"
        browser.switch_to.frame(0)
        assert "the page" not in browser.text()
        elsewhere.shutdown()


@pytest.mark.timeout(300)
def test_a_scene_is_looked_at_from_the_server(
    root: Path, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the server that people start: from the gallery to a video that plays, and on to its page."""
    monkeypatch.setenv("REBEL_NERF_HOME", str(root))
    workspace = LocalWorkspace()
    write_gallery(workspace, gallery_file(workspace))
    service = Service(tmp_path / "service")
    service.environment["REBEL_NERF_HOME"] = str(root)
    assert scene_link(workspace, "street") == ""
    try:
        service.start_server()
        address = f"http://127.0.0.1:{service.assets_port}"
        [video] = workspace.assets("street-video")
        assert file_link(workspace, video, "video.mp4") == f"{address}/assets/street-video/1-0a/video.mp4"
        assert scene_link(workspace, "street") == f"{address}/gallery/street.html"
        assert address in service.log("server") and service.password.partition(":")[2] not in service.log("server")
        assert httpx.get(address).status_code == 401
        browser.get(f"http://{service.password}@127.0.0.1:{service.assets_port}/")
        browser.until(lambda: browser.find_elements("css selector", "h2"))
        for look in browser.looks():
            assert browser.barriers() == [] and browser.overflow() == 0, look
        browser.find_element("css selector", "a").click()
        browser.until(lambda: "/gallery/street.html" in browser.current_url)
        browser.execute_script("document.querySelector('video').preload = 'auto'")
        length = "const v = document.querySelector('video'); return v.readyState > 1 && v.duration"
        assert browser.until(lambda: browser.execute_script(length)) == 4
        seek = "const v = document.querySelector('video'); v.currentTime = 3; return v.seekable.end(0)"
        assert browser.execute_script(seek) == 4, "the server sends parts of a file"
        browser.find_element("link text", "page").click()
        assert browser.until(lambda: browser.text()) == "the page"
    finally:
        service.close()


def test_an_address_that_is_taken_does_not_stop_the_server(
    root: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REBEL_NERF_HOME", str(root))
    workspace = LocalWorkspace()
    workspace.note_served_at("http://127.0.0.1:1")
    assets.serve_workspace(AUTH, "127.0.0.1", int(address.rpartition(":")[2]))
    assert "--assets-port" in capsys.readouterr().out
    assert workspace.served_at() == "http://127.0.0.1:1", "another server may serve it"
    monkeypatch.setenv("REBEL_NERF_ASSETS_URL", "https://nerf.example.org/")
    assets.serve_workspace(AUTH, "127.0.0.1", free_port())
    assert scene_link(workspace, "street") == "https://nerf.example.org/gallery/street.html"
    assets.serve_workspace(AUTH, "127.0.0.1", 0)
    assert workspace.served_at() == "" and os.listdir(root) == ["assets"]
