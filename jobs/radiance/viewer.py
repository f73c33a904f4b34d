"""Serve nerfstudio's viewer so that people can download the camera paths they draw.

nerfstudio's button "Generate Command" writes the path below the dataset (`nerfstudio/viewer/render_panel.py`) and
shows a command. The dataset may be registered or on another machine. Here, the button writes to a folder of the job,
and the browser downloads the file.
"""

from __future__ import annotations

import functools
import json
import re
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer
from PIL import Image
from torch import Tensor
from viser import (
    ClientHandle,
    GuiButtonHandle,
    GuiEvent,
    ViserServer,
    _client_autobuild,
    _gui_api,
    _gui_handles,
    _icons,
)

from jobs import camera_path
from jobs.camera_path import Origin
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.path import reading, trajectory
from jobs.program import typed
from jobs.radiance import visitors

__all__ = ["FILE", "Thumbnails", "open_viewer", "prepare_viser", "show_finished", "start_at_tour"]

FILE = "camera_path.json"
"""The file name of a downloaded path."""

_BUTTON, _NAME = "Generate Command", "Render name"
_FILE_NAME = re.compile(r"[\w-][\w .-]{0,99}")
_THUMBNAIL = 200  # px; the viewer shows photos with a shorter side of half of this


class Thumbnails:
    """A dataset's photos, at least as large as the viewer shows them. Of a JPEG file, it decodes no more than that."""

    def __init__(self, dataset: InputDataset) -> None:
        self.cameras, self._files = dataset.cameras, dataset.image_filenames

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self._files[index]) as photo:
            photo.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
            pixels = np.asarray(photo.convert("RGB"), np.float32)
        return {"image": torch.from_numpy(pixels / 255)}


def open_viewer(config: ViewerConfig, pipeline: Pipeline, scratch: Path, origin: Origin, **training: Any) -> Viewer:
    """Serve a viewer whose paths are downloaded.

    Args:
        config: nerfstudio's, with the address.
        pipeline: the model to show.
        scratch: a folder for the viewer's files.
        origin: the model and the scene frame, if known. Paths record them.
        training: the additional arguments of nerfstudio's viewer during a training.

    Raises:
        OSError, RuntimeError: the viewer cannot be served.
    """
    prepare_viser()
    log = scratch / "viewer.log"
    viewer = Viewer(config, log_filename=log, datapath=scratch, pipeline=pipeline, **training)
    # nerfstudio's title has a logo from the network, which a machine without one shows as a broken picture.
    viewer.viser_server.gui.configure_theme(
        control_layout="collapsible", dark_mode=True, brand_color=(255, 211, 105), titlebar_content=None
    )
    _download_paths(viewer.viser_server, scratch / "camera_paths", origin)
    return viewer


def prepare_viser() -> None:
    """Replace what is slow, unreliable or unsafe in the servers that viser starts in this process from now on."""
    for module in (_gui_api, _gui_handles):
        vars(module)["svg_from_icon"] = _icon
    # viser's package has a finished client. Whether it should be built again, viser asks all processes of the machine,
    # and fails if one of them ends meanwhile.
    vars(_client_autobuild)["ensure_client_is_built"] = lambda: None
    visitors.guard()


def _icon(name: str) -> str:
    """Return an icon as SVG. For each button, viser itself would read its whole file of icons, which adds up to 1 s."""
    return _all_icons()[f"{name}.svg"]


@functools.cache
def _all_icons() -> dict[str, str]:
    with tarfile.open(_icons.ICONS_DIR / "tabler-icons.tar") as file:
        return {icon.name: content.read().decode() for icon in file if (content := file.extractfile(icon))}


def show_finished(viewer: Viewer, step: int) -> None:
    """Show a trained model: its number of steps, no controls of a training, and no photos at first.

    Args:
        viewer: a viewer with a scene.
        step: the number of steps of the training.
    """
    viewer.pause_train.visible = viewer.resume_train.visible = False
    for element in (viewer.control_panel._train_speed, viewer.control_panel._train_util):
        element.set_hidden(True)
    viewer.set_camera_visibility(False)
    viewer.hide_images.visible, viewer.show_images.visible = False, True
    viewer.update_scene(step=step)
    viewer.update_step(step)


def start_at_tour(server: ViserServer, dataset: Path, model: Path) -> None:
    """Start everybody who opens the viewer at the first camera of the tour, or of the spiral if there is no tour.

    Args:
        server: the server of the viewer.
        dataset, model: folders, as for `trajectory.generate`.
    """
    options = RenderOptions().with_profile("preview")
    try:
        path = trajectory.generate("tour", dataset, model, options)
    except InvalidInput:
        path = trajectory.generate("spiral", dataset, model, options)
    first = path.camera_path[0]
    pose = np.array(first.camera_to_world).reshape(4, 4)
    place = pose[:3, 3] * VISER_NERFSTUDIO_SCALE_RATIO
    # The viewer orbits the point in the middle of the picture.
    depth = reading.read_photos(dataset, model).depth * VISER_NERFSTUDIO_SCALE_RATIO

    @server.on_client_connect
    def _(client: ClientHandle) -> None:
        with client.atomic():
            client.camera.position = place
            client.camera.look_at = place - depth * pose[:3, 2]
            client.camera.fov = np.radians(first.fov)


def _download_paths(server: ViserServer, folder: Path, origin: Origin) -> None:
    """Send the file that the button writes to the person who pressed it."""
    one_at_a_time = threading.Lock()  # all clients share the folder
    handles = list(server.gui._gui_input_handle_from_id.values())
    [name] = (handle for handle in handles if handle._impl.label == _NAME)
    for button in handles:
        if not isinstance(button, GuiButtonHandle) or button._impl.label != _BUTTON:
            continue
        written = button._impl.update_cb[:]
        button._impl.update_cb.clear()

        @button.on_click
        def _(event: GuiEvent[GuiButtonHandle], written: Any = tuple(written)) -> None:
            assert event.client
            if not _FILE_NAME.fullmatch(str(name.value)):  # nerfstudio writes a file of that name
                event.client.add_notification("No camera path", f"{_NAME}: use letters, digits, - and _.", color="red")
                return
            with one_at_a_time:
                before = _files(folder)
                for write in written:
                    write(event)
                new = [file for file, changed in _files(folder).items() if before.get(file) != changed]
                _close_modals(event.client)  # nerfstudio's dialog with a command for the job's machine
                _send(event.client, new, origin)


def _send(client: ClientHandle, files: list[Path], origin: Origin) -> None:
    """Send the path with its origin if it is valid, or show what is wrong with it."""
    if not files or len(json.loads(files[0].read_text())["keyframes"]) < 2:
        client.add_notification(
            "No camera path", "Add at least two keyframes, then press the button again.", color="red"
        )
        return
    try:
        path = camera_path.read(files[0])
    except InvalidInput as error:
        client.add_notification("This camera path cannot be rendered", str(error), color="red")
        return
    content = path.model_copy(update={"rebel_nerf": origin}).content()
    client.send_file_download(FILE, json.dumps(content, allow_nan=False).encode())
    keep = f"Keep it for the scene's videos with: {typed(f'path --scene NAME ~/Downloads/{FILE}')}"
    client.add_notification(f"{FILE} is downloaded", f"{len(path.camera_path)} frames. {keep}")


def _files(folder: Path) -> dict[Path, int]:
    """Return the time of the last change of each path in a folder."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("*.json")}


def _close_modals(client: ClientHandle) -> None:
    for shown in list(client.gui._container_handle_from_id.values()):
        if close := getattr(shown, "close", None):
            close()
