"""Camera paths: a real export of nerfstudio's viewer is taken, and every bad one is refused by file, key and remedy."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import camera_path
from jobs.errors import InvalidInput
from tests.processes import free_port

Content = dict[str, Any]

POSE = [0.8, 0.0, 0.6, 1.0, 0.6, 0.0, -0.8, 2.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0]
PATH: Content = {
    "render_width": 64,
    "render_height": 36,
    "fps": 24,
    "seconds": 2.0,
    "camera_path": [{"camera_to_world": POSE, "fov": 60.0, "aspect": 64 / 36} for _ in range(4)],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path that the viewer's own RENDER tab exported when a client clicked it over its websocket."""
    import msgspec
    import viser
    from nerfstudio.viewer.render_panel import populate_render_tab
    from websockets.sync.client import connect

    from jobs.radiance.viewer import prepare_viser

    folder = tmp_path_factory.mktemp("export")
    port = free_port()
    prepare_viser()
    server = viser.ViserServer(host="127.0.0.1", port=port)
    populate_render_tab(server, folder / "config.yml", folder)
    handles = {handle._impl.label: handle for handle in server.gui._gui_input_handle_from_id.values()}

    def within(seconds: float, done: Callable[[], object]) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "the viewer did not answer"
            time.sleep(0.02)

    with connect(f"ws://127.0.0.1:{port}", max_size=None) as client:

        def send(kind: str, **content: Any) -> None:
            client.send(msgspec.msgpack.encode({"type": kind, **content}))

        def click(label: str) -> None:
            send("GuiUpdateMessage", id=handles[label]._impl.id, updates={"value": True})

        def add_keyframe(stop: int) -> None:
            turn = 0.2 * stop
            send(
                "ViewerCameraMessage",
                wxyz=[math.cos(turn / 2), 0.0, math.sin(turn / 2), 0.0],
                position=[float(stop), 0.5, 0.2],
                fov=1.0,
                aspect=1.6,
                look_at=[0.0, 0.0, 0.0],
                up_direction=[0.0, 0.0, 1.0],
            )
            within(60, lambda: any(c.camera.position[0] == stop for c in server.get_clients().values()))
            click("Add Keyframe")
            within(60, lambda: f"/render_cameras/{stop}" in server.scene._handle_from_node_name)
            within(60, lambda: handles["Duration (sec)"].value == 2.0 * stop)

        for stop in range(3):
            add_keyframe(stop)
        click("Generate Command")
        within(60, lambda: any(file.read_text().endswith("}") for file in folder.glob("camera_paths/*.json")))
    server.stop()
    (file,) = folder.glob("camera_paths/*.json")
    return file


def test_takes_what_the_viewer_exports(exported: Path, tmp_path: Path) -> None:
    raw = json.loads(exported.read_text())
    path = camera_path.read(exported)
    assert len(raw["keyframes"]) == 3
    assert (path.render_width, path.render_height, path.camera_type) == (1920, 1080, "perspective")
    assert (len(path.camera_path), path.seconds, float(path.frame_rate)) == (120, 4.0, 30.0)
    assert path.content()["keyframes"] == raw["keyframes"], "the viewer must be able to load the copy"
    path.write(tmp_path / "copy.json")
    assert camera_path.read(tmp_path / "copy.json") == path


def test_gives_nerfstudio_the_same_cameras(exported: Path) -> None:
    from nerfstudio.cameras.camera_paths import get_path_from_json

    ours = get_path_from_json(camera_path.read(exported).content())
    theirs = get_path_from_json(json.loads(exported.read_text()))
    assert (ours.camera_to_worlds == theirs.camera_to_worlds).all()
    assert (ours.fx == theirs.fx).all() and (ours.width == theirs.width).all()


@pytest.mark.parametrize("camera_type", ["perspective", "fisheye", "equirectangular"])
def test_takes_every_projection_and_rows_and_a_crop(tmp_path: Path, camera_type: str) -> None:
    content = copy.deepcopy(PATH) | {
        "camera_type": camera_type,
        "crop": {
            "crop_center": [0, 0, 0],
            "crop_scale": [1, 2, 3],
            "crop_bg_color": {"r": 38, "g": 42, "b": 55},
        },
    }
    content["camera_path"][0]["camera_to_world"] = [POSE[row : row + 4] for row in range(0, 16, 4)]
    path = camera_path.read(_write(tmp_path, content))
    assert path.camera_type == camera_type
    assert path.camera_path[0] == path.camera_path[1]
    assert path.crop is not None and path.crop.crop_scale == [1, 2, 3]


def test_rate_is_frames_by_seconds_and_sizes_are_made_even(tmp_path: Path) -> None:
    path = camera_path.read(_write(tmp_path, PATH | {"render_width": 65, "render_height": 37.0}))
    assert path.frame_rate == 2, "the fps key decides nothing"
    assert path.even_size == (64, 36)
    thirds = camera_path.read(_write(tmp_path, PATH | {"seconds": 1 / 3}))
    assert thirds.frame_rate == 12


def _with(**changes: Any) -> Callable[[Content], Content]:
    return lambda content: content | changes


def _without(key: str) -> Callable[[Content], Content]:
    return lambda content: {k: v for k, v in content.items() if k != key}


def _frame(**changes: Any) -> Callable[[Content], Content]:
    def change(content: Content) -> Content:
        content["camera_path"][3] |= changes
        return content

    return change


def _pose(**changes: float) -> list[float]:
    pose = list(POSE)
    for at, number in changes.items():
        pose[int(at.removeprefix("at"))] = number
    return pose


BAD: dict[str, tuple[Callable[[Content], Any], str]] = {
    "a list": (lambda _: [], "is a JSON list"),
    "no camera_path": (_without("camera_path"), "camera_path is missing"),
    "empty camera_path": (_with(camera_path=[]), "camera_path has no frame"),
    "one frame": (lambda c: c | {"camera_path": c["camera_path"][:1]}, "camera_path has only one frame"),
    "camera_path an object": (_with(camera_path={}), "camera_path is {}"),
    "a frame a number": (_with(camera_path=[1, 2]), "camera_path[0] is 1"),
    "no camera_to_world": (_with(camera_path=[{"fov": 50}] * 2), "camera_path[0].camera_to_world is missing"),
    "NaN": (_frame(camera_to_world=_pose(at3=math.nan)), "camera_path[3].camera_to_world[3] is nan"),
    "infinity": (_frame(fov=math.inf), "camera_path[3].fov is inf"),
    "NaN in a keyframe": (_with(keyframes=[{"matrix": [math.nan]}]), "keyframes[0].matrix[0] is nan"),
    "NaN as text": (_frame(fov="nan"), "camera_path[3].fov is 'nan'"),
    "3x3": (_frame(camera_to_world=[1, 0, 0, 0, 1, 0, 0, 0, 1]), "camera_path[3].camera_to_world is a 3x3 matrix"),
    "3x3 in rows": (_frame(camera_to_world=[[1, 0, 0], [0, 1, 0], [0, 0, 1]]), "camera_to_world is a 3x3 matrix"),
    "3x4": (_frame(camera_to_world=POSE[:12]), "camera_path[3].camera_to_world is a 3x4 matrix"),
    "column by column": (
        _frame(camera_to_world=[POSE[4 * (i % 4) + i // 4] for i in range(16)]),
        "camera_path[3].camera_to_world has the last row",
    ),
    "words": (_frame(camera_to_world=["a"] * 16), "camera_path[3].camera_to_world[0] is 'a'"),
    "scaled": (
        _frame(camera_to_world=[2 * v for v in POSE[:15]] + [1]),
        "camera_path[3].camera_to_world is scaled by 2",
    ),
    "zero": (_frame(camera_to_world=[0.0] * 15 + [1.0]), "camera_path[3].camera_to_world is scaled by 0"),
    "skewed": (_frame(camera_to_world=_pose(at0=0.6, at4=0.8)), "camera_path[3].camera_to_world is skewed"),
    "mirrored": (_frame(camera_to_world=_pose(at9=-1.0)), "camera_path[3].camera_to_world mirrors the scene"),
    "fov 0": (_frame(fov=0), "camera_path[3].fov is 0"),
    "fov 180": (_frame(fov=180), "camera_path[3].fov is 180"),
    "aspect negative": (_frame(aspect=-1), "camera_path[3].aspect is -1"),
    "seconds 0": (_with(seconds=0), "seconds is 0"),
    "no seconds": (_without("seconds"), "seconds is missing"),
    "a year": (_with(seconds=3e7), "seconds is 30000000.0"),
    "fps 0": (_with(fps=0), "fps is 0"),
    "no width": (_without("render_width"), "render_width is missing"),
    "height 0": (_with(render_height=0), "render_height is 0"),
    "half a pixel": (_with(render_height=36.5), "render_height is 36.5"),
    "a million pixels wide": (_with(render_width=1_000_000), "render_width is 1000000"),
    "more than H.264 holds": (_with(render_width=16384, render_height=16384), ": 16384x16384 is larger than an H.264"),
    "faster than H.264": (
        lambda c: c | {"render_width": 7680, "render_height": 4320, "camera_path": c["camera_path"] * 100},
        ": 7680x4320 at 200 frames a second is beyond H.264's levels: 128 are the most",
    ),
    "unknown camera": (_with(camera_type="pinhole"), "camera_type is 'pinhole'"),
    "crop without a size": (_with(crop={"crop_center": [0, 0, 0]}), "crop.crop_scale is missing"),
}


@pytest.mark.parametrize(("change", "says"), BAD.values(), ids=BAD)
def test_a_wrong_path_is_refused_with_a_remedy(tmp_path: Path, change: Callable[[Content], Any], says: str) -> None:
    file = _write(tmp_path, change(copy.deepcopy(PATH)))
    with pytest.raises(InvalidInput) as refused:
        camera_path.read(file)
    text = str(refused.value)
    assert says in text and str(file) in text and "RENDER tab" in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"not JSON", "JSON"),
        (b'{"camera_path": [', "JSON"),
        (b"\xff\xd8\xff\xe0 a picture", "JSON"),
    ],
)
def test_refuses_what_is_not_json(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "path.json"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=says) as refused:
        camera_path.read(file)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b" " * (1 << 24) + b"{}", "16 MiB"),
        (b'{"note": ' + b"[" * 21 + b"]" * 21 + b"}", "22 levels deep"),
        (b"[" * 200_000, "200000 levels deep"),
        (b'{"note": "\\\\", "deep": ' + b"[" * 21, "22 levels deep"),
    ],
)
def test_refuses_what_would_take_minutes_to_parse(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "camera_path.json"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=f"camera_path.json .*{says}"):
        camera_path.read(file)


def test_brackets_in_strings_are_no_depth(tmp_path: Path) -> None:
    file = tmp_path / "camera_path.json"
    file.write_text(json.dumps({**PATH, "note": "[" * 100 + '"[' * 100 + "\\"}))
    assert len(camera_path.read(file).camera_path) == 4


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    for file in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InvalidInput, match=f"{file} .*tour, orbit"):
            camera_path.read(file)


def test_importing_the_module_imports_nothing_heavy() -> None:
    code = "import sys, jobs.camera_path; print({'numpy', 'torch', 'nerfstudio', 'av', 'PIL'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def _write(folder: Path, content: Any) -> Path:
    file = folder / "path.json"
    file.write_text(json.dumps(content))
    return file
