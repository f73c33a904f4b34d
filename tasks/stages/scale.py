"""Give a scene frame its metres, from what people measured, the photos' GPS, and earlier visits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from prefect import get_run_logger

from blocks import Asset, Workspace
from jobs import media
from jobs.errors import InvalidInput, NotFound, RunCancelled
from jobs.metric.control import read_control
from jobs.metric.given import CONTROL_FILE, SCALE_FILE, Given, read_scale
from jobs.metric.scene import SceneInMetres
from jobs.names import asset_name
from jobs.opening import find_plain
from jobs.options import ScaleOptions
from tasks.find import newest_made_of
from tasks.patience import patiently
from tasks.plain_errors import naming
from tasks.scene_frame import scene_frame_of
from tasks.stage import Plan, Stage

__all__ = ["find_metres", "find_scale", "measure_scene", "read_measurements", "read_metres", "scale"]


@Stage
def scale(dataset: Asset, given: Given, earlier: Asset | None = None) -> Plan:
    """Find metres per scene unit, up and place from measurements, each with its error."""
    scene = dataset.scene
    return Plan(
        scene=scene,
        capture_version=dataset.capture_version,
        options=ScaleOptions(),
        asset_name=asset_name(scene, "metres"),
        kind="metres",
        output="metres",
        must_have=("scene.json", "given.json"),
        inputs={"dataset": dataset, **({"earlier": earlier} if earlier else {})},
        # Without areas as before there were any, so that the fingerprint stays the same.
        files={"given.json": given.model_dump_json(by_alias=True, exclude=None if given.areas else {"areas"})},
        arguments=("--given", "{files.given.json}", "--frame", scene_frame_of(dataset)),
        tier="cpu",
        time_limit=3600,
    )


async def read_measurements(
    workspace: Workspace,
    scene: str,
    version: str | int | None = None,
    images: Path | None = None,
    measurements: Path | None = None,
    control_points: Path | None = None,
) -> Given | None:
    """Read and check what people measured; None if they gave nothing.

    Args:
        workspace, scene: whose drop folder is looked at if there is neither a version nor `images`.
        version: of the capture, if it exists already.
        images: a folder of photos; `scale.json` and `gcp_list.txt` in it are read.
        measurements, control_points: files to read instead.

    Raises:
        InvalidInput: a file is not valid; names the file and the entry.
    """
    dropped = [] if version or images else await patiently(lambda: workspace.dropped(scene))
    folder = images.expanduser() if images else next((each.folder for each in dropped if each.folder), None)
    return _read(scene, folder, measurements, control_points)


def _read(scene: str, folder: Path | None, measurements: Path | None, control_points: Path | None) -> Given | None:
    folder = folder.resolve() if folder and folder.is_dir() else None

    def chosen(given: Path | None, name: str) -> Path | None:
        if given:
            return given.expanduser().resolve()
        if folder is None or not (folder / name).is_file():
            return None
        try:
            return find_plain(folder / name, folder)
        except InvalidInput as error:
            raise InvalidInput(f"{folder / name} is {error}.") from None

    with naming(scene):
        lengths, control = chosen(measurements, SCALE_FILE), chosen(control_points, CONTROL_FILE)
        if lengths is None and control is None:
            return None
        given = read_scale(lengths) if lengths else Given()
        if control:
            given = given.model_copy(update={"control": read_control(control)})
        if folder:
            photos = list(media.find(folder).media)
            given.model_copy(update={"control": ()}).check_photos(photos, str(lengths))
            given.model_copy(update={"lengths": ()}).check_photos(photos, str(control))
    return given


async def measure_scene(workspace: Workspace, dataset: Asset, given: Given | None) -> list[Asset]:
    """Return the metres of a dataset's scene frame; nothing if nobody measured anything, or if it fails.

    Measurements of the same capture are used again, and those of earlier visits in the same scene frame are inherited.
    A failure is only logged, because the purpose of the run is the video.

    Raises:
        RunCancelled: somebody cancelled this flow run.
    """
    try:
        return [await find_scale(workspace, dataset, given)]
    except NotFound:
        return []
    except (RunCancelled, asyncio.CancelledError):
        raise
    except Exception as error:
        get_run_logger().warning("scene %s: the scene has no metres: %s", dataset.scene, error)
        return []


async def find_scale(workspace: Workspace, dataset: Asset, given: Given | None) -> Asset:
    """Return the metres of a dataset's scene frame.

    Args:
        workspace: where the assets are.
        dataset: in whose pictures points are picked.
        given: what people measured now; None for what they measured in an earlier run. Areas alone are added to that.

    Raises:
        NotFound: nobody measured anything, and the photos have neither GPS nor poses in metres.
        RebelNerfError: see `tasks.run.run_to_end`.
    """
    known = await patiently(lambda: _in_frame(workspace, dataset))
    own = [each for each in known if each.capture_version == dataset.capture_version]
    others = [each for each in known if each.capture_version != dataset.capture_version]
    if own and (given is None or given == Given(areas=given.areas)):
        before = Given.model_validate_json(await patiently(lambda: workspace.read(own[-1], "given.json")))
        areas = {area.name: area for area in (*before.areas, *(given.areas if given else ()))}
        given = before.model_copy(update={"areas": tuple(areas.values())})
    if given is None and not others and not await patiently(lambda: _is_measured(workspace, dataset)):
        raise NotFound(
            f"scene {dataset.scene}: nobody measured anything in it, and its photos have no GPS. Put {SCALE_FILE} or "
            f"{CONTROL_FILE} beside the photos; docs/metres.md describes them."
        )
    return await scale(workspace, dataset, given or Given(), others[-1] if others else None)


def find_metres(workspace: Workspace, dataset: Asset) -> Asset | None:
    """Return the newest metres of a dataset; None if there are none."""
    return newest_made_of(workspace.assets(asset_name(dataset.scene, "metres")), dataset=dataset)


def read_metres(workspace: Workspace, dataset: Asset) -> SceneInMetres | None:
    """Return what is known of a dataset's scene frame; None if nothing was measured."""
    found = find_metres(workspace, dataset)
    return SceneInMetres.model_validate_json(workspace.read(found, "scene.json")) if found else None


def _in_frame(workspace: Workspace, dataset: Asset) -> list[Asset]:
    """Return the metres measured in a dataset's scene frame, oldest first, without those that were only inherited."""
    return [
        each
        for each in workspace.assets(asset_name(dataset.scene, "metres"))
        if each.provenance.frame == scene_frame_of(dataset) and each.tags.get("measurements", "0") != "0"
    ]


def _is_measured(workspace: Workspace, dataset: Asset) -> bool:
    """Return whether the photos have GPS, or came with poses in metres."""
    try:
        about = json.loads(workspace.read(dataset, "dataset.json"))
        with_gps = any("latitude" in image.get("tags", {}) for image in about.get("images", []))
        return with_gps or "metres_per_unit" in about.get("poses", {})
    except (NotFound, ValueError, AttributeError, TypeError):  # a dataset that a person registered
        return False
