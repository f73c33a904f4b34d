"""Keep camera paths that a person drew, under trajectories/, with the model and scene frame that they are for."""

from __future__ import annotations

from pathlib import Path

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import GENERATED, CameraPath, Origin
from jobs.errors import InvalidInput
from tasks.plain_errors import naming
from tasks.scene_frame import check_belongs, read_cameras, scene_frame_of
from tasks.shot import trajectory_file

__all__ = ["check_taken_path", "keep_camera_path", "read_camera_path"]


def read_camera_path(scene: str, file: Path) -> CameraPath:
    """Read and check the camera path in a file.

    Raises:
        InvalidInput: the file does not exist or is not valid. Names the scene, file and key.
    """
    with naming(scene):
        return camera_path.read(file.expanduser())


def check_taken_path(
    workspace: Workspace, path: CameraPath, scene: str, model: Asset, dataset: Asset, *, anyway: bool = False
) -> str | None:
    """Check that a path shows what its model's dataset shows, before it is kept. Return doubts, for people.

    Args:
        workspace: where model and dataset are.
        path, scene, model, dataset: see `keep_camera_path`.
        anyway: accept a path even if most of its frames show nothing.

    Raises:
        InvalidInput: see `check_belongs`.
    """
    own = path.rebel_nerf.frame if path.rebel_nerf else None
    with naming(scene):
        capture = read_cameras(workspace, dataset, model)
    if capture is None:
        return None
    return check_belongs(scene, dataset, path, capture, surely=anyway or own == scene_frame_of(dataset))


def keep_camera_path(
    path: CameraPath, scene: str, name: str | None, model: Asset, dataset: Asset, *, replace: bool = False
) -> Path:
    """Write a path to `trajectories/<scene>/<name>.json`, or without a name to `trajectories/<scene>.json`.

    The file is the path, unchanged, with `"rebel_nerf": {"model": …, "frame": …}` added.

    Args:
        path: a path that has been checked.
        scene, name: what it is for.
        model: the model that it was drawn in.
        dataset: the dataset that the model was trained on.
        replace: whether it may replace another path.

    Raises:
        InvalidInput: another path exists, the name is that of a generated path, or the path says that it is for
            another scene frame than this dataset's.
    """
    if name in GENERATED:
        raise InvalidInput(f"scene {scene}: {name} is the name of a generated path. Give yours another name.")
    file = trajectory_file(scene, name)
    own = path.rebel_nerf
    if own and own.frame not in (None, scene_frame_of(dataset)):
        raise InvalidInput(
            f"scene {scene}: the path was drawn in {own.model or 'another model'}, in the scene frame of "
            f"{own.frame}; {model} is in that of {scene_frame_of(dataset)}. Name a model in the path's scene frame "
            "with --model-version."
        )
    kept = path.model_copy(update={"rebel_nerf": Origin(model=str(model), frame=scene_frame_of(dataset))})
    if file.exists() and not replace and camera_path.read(file) != kept:
        raise InvalidInput(f"scene {scene}: {file} holds another path. Give --replace, or another --name.")
    file.parent.mkdir(parents=True, exist_ok=True)
    kept.write(file)
    return file
