"""Other pages, other users and other names at the viewer."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("viser")

import msgspec
import numpy as np
import torch
import viser
from nerfstudio.viewer.render_panel import populate_render_tab
from PIL import Image
from viser import _client_autobuild
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin as From

from jobs.camera_path import Origin
from jobs.radiance import viewer
from tests.processes import free_port
from tests.waiting import until


@pytest.fixture
def server() -> Iterator[viser.ViserServer]:
    viewer.prepare_viser()
    served = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    yield served
    served.stop()


def get(server: viser.ViserServer, path: str, **headers: str) -> tuple[int, bytes, str | None]:
    client = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=30)
    client.request("GET", path, headers=headers)
    answer = client.getresponse()
    return answer.status, answer.read(), answer.headers["X-Frame-Options"]


def test_a_process_that_ends_meanwhile_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended() -> bool:
        raise ProcessLookupError

    monkeypatch.setattr(_client_autobuild, "_check_viser_yarn_running", ended)
    viewer.prepare_viser()
    viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False).stop()


def test_its_own_page_is_served_and_no_other_file_of_this_machine(server: viser.ViserServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("planted")
    status, page, framing = get(server, "/?from=here")
    assert status == 200 and b"<html" in page and framing == "DENY"
    climb = "/" + "../" * 20
    for path in (f"{climb}{tmp_path}/secret", f"/assets{climb}{tmp_path}/secret?x", f"/{tmp_path}/secret"):
        status, answer, _ = get(server, path.replace("//", "/"))
        assert status >= 400 and b"planted" not in answer, path


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[", ""])
def test_a_name_of_somebody_elses_that_leads_here_is_refused(server: viser.ViserServer, host: str) -> None:
    assert get(server, "/", Host=host)[0] >= 400


def test_only_its_own_page_opens_a_web_socket(server: viser.ViserServer) -> None:
    port = server.get_port()
    for origin in ("http://evil.example", "http://localhost:1", "null", "file://"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://localhost:{port}", origin=From(origin))
    for name in ("localhost", "127.0.0.1"):
        with connect(f"ws://{name}:{port}", origin=From(f"http://{name}:{port}"), max_size=None) as own:
            assert own.recv(timeout=30)


def test_a_camera_path_is_written_below_its_folder_only(server: viser.ViserServer, tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    (folder / "camera_paths").mkdir(parents=True)
    populate_render_tab(server, folder / "config.yml", folder)
    viewer._download_paths(server, folder / "camera_paths", Origin())
    handles: dict[str, Any] = {each._impl.label: each for each in server.gui._gui_input_handle_from_id.values()}

    with connect(f"ws://127.0.0.1:{server.get_port()}", max_size=None) as client:

        def send(kind: str, **content: Any) -> None:
            client.send(msgspec.msgpack.encode({"type": kind, **content}))

        def put(label: str, value: object) -> None:
            send("GuiUpdateMessage", id=handles[label]._impl.id, updates={"value": value})

        def written_as(name: str, told: bytes) -> None:
            put("Render name", name)
            until(lambda: handles["Render name"].value == name)
            put("Generate Command", True)
            while told not in client.recv(timeout=60):
                pass

        camera = {"wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0, 0.0, 0.0], "look_at": [0.0, 0.0, 1.0]}
        send("ViewerCameraMessage", **camera, fov=1.0, aspect=1.6, up_direction=[0.0, 1.0, 0.0])
        until(server.get_clients)
        written_as("../../outside", b"use letters, digits")
        written_as("Main front 2", b"Add at least two keyframes")
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.json")] == [
        "scratch/camera_paths/Main front 2.json"
    ]


@pytest.mark.parametrize(("ending", "decoded"), [("jpg", (200, 300)), ("png", (1600, 2400))])
def test_photos_are_decoded_about_as_large_as_they_are_shown(
    ending: str, decoded: tuple[int, int], tmp_path: Path
) -> None:
    ramp = np.add.outer(np.arange(1600), np.arange(2400)) / 4000 * 255
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / f"photo.{ending}")
    dataset: Any = SimpleNamespace(cameras=None, image_filenames=[tmp_path / f"photo.{ending}"])
    shown = viewer.Thumbnails(dataset)[0]["image"]
    assert shown.shape == (*decoded, 3) and shown.dtype == torch.float32
    step = 1600 // decoded[0]
    expected = torch.from_numpy(ramp[::step, ::step]) / 255
    assert (shown[..., 0] - expected).abs().max() < 0.02
