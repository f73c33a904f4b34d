from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from blocks import Asset, DroppedCapture, Workspace
from jobs import media
from jobs.errors import InvalidInput, NotFound
from jobs.options import PrepareOptions
from tasks.patience import patiently
from tasks.plain_errors import named

__all__ = ["capture", "take_in_dropped"]

_SETTLED_SECONDS = 60.0


@task(description="The capture version to work on: a new one where there are new photos, else the newest.")
async def capture(
    workspace: Workspace, scene: str, version: int | None, images: Path | None, options: PrepareOptions
) -> Asset:
    """The scene's capture: `images` taken in, else the given version, else the newest of what was dropped or is known.

    Raises:
        InvalidInput: `images` cannot become a dataset; names the scene, the file and the remedy.
        NotFound: there is no such version, or no capture of the scene at all.
    """
    return await patiently(lambda: _capture(workspace, scene, version, images, options))


def _capture(
    workspace: Workspace, scene: str, version: int | None, images: Path | None, options: PrepareOptions
) -> Asset:
    if images and version:
        raise InvalidInput(f"scene {scene}: give images (a new version) or version {version} (one that is there).")
    known = workspace.assets(scene)
    if version is not None:
        for asset in known:
            if asset.version == str(version):
                return asset
        raise NotFound(f"scene {scene}: no capture version {version}; there is {_listed(known)}.")
    if images:
        found = _scan(scene, images.expanduser(), options)
        return workspace.take_in(scene, found.files, {"source": str(images)})
    for dropped in workspace.dropped(scene):
        # A folder of dropped photos that was taken in long ago does not bring an old version back.
        if (dropped.files or not known) and not workspace.find_capture(dropped):
            if dropped.uploading:
                raise InvalidInput(
                    f"scene {scene}: {', '.join(dropped.uploading[:3])} is being uploaded. Wait for its end; "
                    "if nothing is, delete it or upload it again."
                )
            if dropped.age < _SETTLED_SECONDS:
                get_run_logger().warning(
                    "scene %s: what was dropped has changed %.0f s ago: what comes later is another version",
                    *(scene, dropped.age),
                )
            return take_in_dropped(workspace, dropped, options, {})
    if not known:
        raise NotFound(
            f"scene {scene}: no capture in {workspace.identity}. Give a folder of photos or a video as images."
        )
    return known[-1]


def take_in_dropped(
    workspace: Workspace, dropped: DroppedCapture, options: PrepareOptions, tags: dict[str, str]
) -> Asset:
    """Register what was dropped, looked at as far as it is in reach.

    Where the files are on another machine, only names and sizes are looked at, and the job that prepares the dataset
    looks into the files, on a node without a GPU: to fetch them all would take longer.

    Raises:
        InvalidInput: it cannot become a dataset, or has changed since it was listed.
    """
    scene, minimum = dropped.scene, options.min_registered_images
    if dropped.folder:
        _scan(scene, dropped.folder, options)
        return workspace.take_in_dropped(dropped, {"source": str(dropped.folder), **tags})
    with named(scene):
        media.check_names([*{f.checksum: path for path, f in dropped.files.items() if f.size}.values()], minimum)
    return workspace.take_in_dropped(dropped, {"source": "uploaded by hand", **tags})


def _scan(scene: str, source: Path, options: PrepareOptions) -> media.Capture:
    with named(scene):
        found = media.scan(source, minimum=options.min_registered_images)
    for file, reason in found.unreadable.items():
        get_run_logger().warning("scene %s: %s is left out: %s", scene, file, reason)
    return found


def _listed(known: list[Asset]) -> str:
    return ", ".join(asset.version for asset in known) or "none yet"
