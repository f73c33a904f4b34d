"""What a video shows: its options, and the camera path if it comes from a file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.profiles import Profile
from tasks.plain_errors import naming

__all__ = ["Shot", "find_shot", "read_shot", "trajectory_file"]

TRAJECTORIES = Path(__file__).resolve().parent.parent / "trajectories"


@dataclass(frozen=True)
class Shot:
    """What a video shows.

    Args:
        options: the render options. `camera_path` is the kind of a generated path, or "file".
        path: the camera path of a file; None for a generated path.
        chosen: whether a person chose the path for this run.
    """

    options: RenderOptions
    path: CameraPath | None = None
    chosen: bool = False

    @property
    def frames(self) -> int:
        """Return how many frames the video has."""
        return len(self.path.camera_path) if self.path else self.options.frames

    def generated(self) -> Shot:
        """Return the shot with a generated path in place of the file's."""
        options = self.options.model_copy(update={"camera_path": camera_path.GENERATED[0]})
        return replace(self, options=options, path=None)


def trajectory_file(scene: str, name: str | None = None) -> Path:
    """Return the file of a scene's own camera path, or of one of its named paths."""
    return TRAJECTORIES / scene / f"{name}.json" if name else TRAJECTORIES / f"{scene}.json"


async def find_shot(scene: str, options: RenderOptions, profile: Profile, shards: int) -> Shot:
    """Return what `read_shot` returns, without blocking the event loop."""
    return await asyncio.to_thread(read_shot, scene, options, profile, shards)


def read_shot(scene: str, options: RenderOptions, profile: Profile, shards: int) -> Shot:
    """Return what a video of a scene shows.

    The profile's defaults are filled in. The size of a generated path stays open until the photos' shape is known (see
    `tasks.scene_frame.fit_shot`). Options given beside a file change its path: size, pace, field of view, projection
    and crop. Options that are not given keep the file's values, whatever the profile says.

    Raises:
        InvalidInput: the path does not exist or is not valid, easing or loop was given beside a file, no video can be
            made of the path, or it has fewer frames than there are shards. Names the scene, file and key.
    """
    with naming(scene):
        shot = _read(scene, options, profile)
    if shards > shot.frames:
        raise InvalidInput(
            f"scene {scene}: {shot.frames} frames cannot be rendered in {shards} shards. Give fewer shards."
        )
    return shot


def _read(scene: str, given: RenderOptions, profile: Profile) -> Shot:
    options = given.with_profile(profile)
    name, own = options.camera_path, trajectory_file(scene)
    chosen = name != "auto"
    if name == "auto" and not own.exists():
        name = camera_path.GENERATED[0]
    if name in camera_path.GENERATED:
        # The default projection gives the same path, whether it is named or not.
        projection = None if options.camera_type == "perspective" else options.camera_type
        return Shot(options.model_copy(update={"camera_path": name, "camera_type": projection}), None, chosen)
    places = [own] if name == "auto" else [Path(name).expanduser(), trajectory_file(scene, name)]
    file = next((place for place in places if place.is_file()), places[0])
    path = _adjusted(camera_path.read(file), file, given)
    return Shot(options.model_copy(update={"camera_path": "file"}), path, chosen)


def _adjusted(path: CameraPath, file: Path, given: RenderOptions) -> CameraPath:
    """Return a path changed by the options given beside its file; the same path if there are none."""
    if given.loop or given.easing != "linear":
        raise InvalidInput(
            f"easing and loop are for generated paths; {file} has its own pace and end. Remove them, or choose a "
            f"generated path: {', '.join(camera_path.GENERATED)}."
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
