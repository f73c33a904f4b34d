"""Camera paths of a person's own, kept under trajectories/ with the model and frame that they belong to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import GENERATED, CameraPath, Origin
from jobs.errors import InvalidInput
from tasks.frames import check_belongs, frame_of, read_cameras
from tasks.plain_errors import named
from tasks.render import TRAJECTORIES

__all__ = ["check_taken_path", "keep_camera_path", "read_camera_path"]


def read_camera_path(scene: str, file: Path) -> CameraPath:
    """The camera path in a file, checked.

    Raises:
        InvalidInput: it is not there or not valid; names the scene, file and key.
    """
    with named(scene):
        return camera_path.read(file.expanduser())


def check_taken_path(
    workspace: Workspace, path: CameraPath, scene: str, model: Asset, dataset: Asset, *, anyway: bool = False
) -> str | None:
    """Whether a path shows what the dataset of its model shows, before it is kept as this scene's; doubts, in words.

    Args:
        workspace: where model and dataset lie.
        path, scene, model, dataset: see `keep_camera_path`.
        anyway: take one whose frames look into nothing for the most part.

    Raises:
        InvalidInput: see `check_belongs`.
    """
    own = path.rebel_nerf.frame if path.rebel_nerf else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not read_cameras(workspace, dataset, model, folder):
            return None
        return check_belongs(scene, dataset, path, folder, surely=anyway or own == frame_of(dataset))


def keep_camera_path(
    path: CameraPath, scene: str, name: str | None, model: Asset, dataset: Asset, *, replace: bool = False
) -> Path:
    """Write a path to `trajectories/<scene>/<name>.json`, without a name to `trajectories/<scene>.json`.

    The file is the path as it came, with `"rebel_nerf": {"model": …, "frame": …}` beside it.

    Args:
        path: checked.
        scene, name: what it is for.
        model: that it was drawn in.
        dataset: that the model was trained on.
        replace: whether another path that is there may go.

    Raises:
        InvalidInput: another path is there, the name is that of a generated path, or the file says that it belongs to
            another frame than this dataset's.
    """
    if name in GENERATED:
        raise InvalidInput(f"scene {scene}: {name} is a path that is generated; give yours another name.")
    file = TRAJECTORIES / scene / f"{name}.json" if name else TRAJECTORIES / f"{scene}.json"
    own = path.rebel_nerf
    if own and own.frame not in (None, frame_of(dataset)):
        raise InvalidInput(
            f"scene {scene}: the path was drawn in {own.model or 'another model'}, in the frame of {own.frame}; "
            f"{model} is in that of {frame_of(dataset)}. Name a model of that frame with --model-version."
        )
    kept = path.model_copy(update={"rebel_nerf": Origin(model=str(model), frame=frame_of(dataset))})
    if file.exists() and not replace and camera_path.read(file) != kept:
        raise InvalidInput(
            f"scene {scene}: {file} holds another path; give --replace, or this one a --name of its own."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    kept.write(file)
    return file
