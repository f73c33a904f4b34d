from pathlib import Path

from blocks import Asset
from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from tasks.stage import Plan, stage_task

TRAJECTORIES = Path(__file__).resolve().parent.parent / "trajectories"


def find_camera_path(scene: str, options: RenderOptions) -> tuple[RenderOptions, CameraPath | None]:
    """The options with what their camera path means for a scene: the kind of a generated one, or "file" and the path.

    Raises:
        InvalidInput: there is no such path, or it is not valid; names the scene, file and key.
    """
    name, own = options.camera_path, TRAJECTORIES / f"{scene}.json"
    if name == "auto" and not own.exists():
        name = camera_path.GENERATED[0]
    if name in camera_path.GENERATED:
        return options.model_copy(update={"camera_path": name}), None
    places = [own] if name == "auto" else [Path(name).expanduser(), TRAJECTORIES / scene / f"{name}.json"]
    file = next((place for place in places if place.is_file()), places[0])
    try:
        return options.model_copy(update={"camera_path": "file"}), camera_path.read(file)
    except InvalidInput as error:
        raise InvalidInput(f"scene {scene}: {error}") from None


@stage_task
def render(dataset: Asset, model: Asset, path: CameraPath | None, options: RenderOptions) -> Plan:
    """A model and a camera path to a video; `path` is None where the options name a generated one."""
    scene = model.tags["scene"]
    files = {}
    if path:
        # The path's content decides, not the name of its file, nor the size of a generated one.
        options = RenderOptions(camera_path="{files.camera_path.json}")
        files = {"camera_path.json": path.model_dump_json(exclude_none=True)}
    return Plan(
        scene=scene,
        capture_version=model.tags["capture_version"],
        options=options,
        asset_name=f"{scene}-video",
        kind="video",
        output="video",
        inputs={"dataset": dataset, "model": model},
        files=files,
        time_limit=12 * 3600,
    )
