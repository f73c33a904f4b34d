"""Camera paths of a person's own, kept under trajectories/ with the model and frame that they belong to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import ValidationError

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import GENERATED, CameraPath, Origin
from jobs.errors import InvalidInput
from jobs.options import Profile, RenderOptions
from tasks.frames import check_belongs, frame_of, read_cameras
from tasks.plain_errors import named

__all__ = [
    "TRAJECTORIES",
    "check_taken_path",
    "find_camera_path",
    "frame_count",
    "keep_camera_path",
    "read_camera_path",
]

TRAJECTORIES = Path(__file__).resolve().parent.parent / "trajectories"


def find_camera_path(
    scene: str, options: RenderOptions, profile: Profile, shards: int
) -> tuple[RenderOptions, CameraPath | None]:
    """The options with what their camera path means for a scene: the kind of a generated one, or "file" and the path.

    What the profile decides is filled in; the size of a generated path stays open until the photos' shape is known (see
    `check_camera_path`). What was given beside a file changes its path: size, pace, field of view, projection and crop;
    what is not given stays as the file has it, whatever the profile says.

    Raises:
        InvalidInput: there is no such path, it is not valid, easing or loop was given beside a file, no video can be
            made of it, or it has fewer frames than there are shards; names the scene, file and key.
    """
    with named(scene):
        options, path = _find(scene, options, profile)
    frames = frame_count(options, path)
    if shards > frames:
        raise InvalidInput(f"scene {scene}: {frames} frames cannot be rendered in {shards} shards; give fewer shards.")
    return options, path


def _find(scene: str, given: RenderOptions, profile: Profile) -> tuple[RenderOptions, CameraPath | None]:
    options = given.with_profile(profile)
    name, own = options.camera_path, TRAJECTORIES / f"{scene}.json"
    if name == "auto" and not own.exists():
        name = camera_path.GENERATED[0]
    if name in camera_path.GENERATED:
        # It is the same path, whether its default is named or not.
        projection = None if options.camera_type == "perspective" else options.camera_type
        return options.model_copy(update={"camera_path": name, "camera_type": projection}), None
    places = [own] if name == "auto" else [Path(name).expanduser(), TRAJECTORIES / scene / f"{name}.json"]
    file = next((place for place in places if place.is_file()), places[0])
    path = camera_path.read(file)
    return options.model_copy(update={"camera_path": "file"}), _adjusted(path, file, given)


def _adjusted(path: CameraPath, file: Path, given: RenderOptions) -> CameraPath:
    """A path with what a person gave beside its file; the very same where nothing was given."""
    if given.loop or given.easing != "linear":
        raise InvalidInput(
            f"easing and loop are for generated paths; {file} has a pace and an end of its own. Leave them out, "
            f"or take a generated path: {', '.join(camera_path.GENERATED)}."
        )
    frames = len(path.camera_path)
    seconds = given.seconds or (frames / given.fps if given.fps else None)
    projection, width, height = given.camera_type or path.camera_type, given.width, given.height
    shape = path.render_width / path.render_height
    if projection == "equirectangular" != path.camera_type:
        shape, width = 2.0, width or (None if height or given.long_side else path.render_width)
    if given.long_side and not (width or height):
        width, height = (given.long_side, None) if shape >= 1 else (None, given.long_side)
    new = {
        "render_width": width or (height and round(height * shape)),
        "render_height": height or (width and round(width / shape)),
        "seconds": seconds,
        "fps": frames / seconds if seconds and seconds != path.seconds else None,
        "camera_type": given.camera_type,
        "crop": given.crop and given.crop.model_dump(mode="json", exclude_none=True),
    }
    new = {name: value for name, value in new.items() if value}
    views = {"fov": given.field_of_view} if given.field_of_view else {}
    if not new and not views:
        return path
    content = path.content() | new
    if (content["render_width"], content["render_height"]) != (path.render_width, path.render_height):
        views["aspect"] = content["render_width"] / content["render_height"]
    content["camera_path"] = [frame | views for frame in content["camera_path"]]
    try:
        return CameraPath.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"{file} with the options given beside it: {camera_path.describe(error)}") from None


def frame_count(options: RenderOptions, path: CameraPath | None) -> int:
    return len(path.camera_path) if path else options.frames


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
