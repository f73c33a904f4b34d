from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from blocks import Asset, Workspace
from jobs import media
from jobs.errors import InvalidInput, NotFound
from jobs.options import PrepareOptions
from tasks.patience import patiently


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
    source = images or workspace.dropped(scene)
    if source is None:
        if not known:
            raise NotFound(
                f"scene {scene}: no capture in {workspace.identity}. Give a folder of photos or a video as images."
            )
        return known[-1]
    try:
        found = media.scan(source.expanduser(), minimum=options.min_registered_images)
    except InvalidInput as error:
        raise InvalidInput(f"scene {scene}: {error}") from None
    for file, reason in found.unreadable.items():
        get_run_logger().warning("scene %s: %s is left out: %s", scene, file, reason)
    taken = workspace.take_in(scene, found.files, {"source": str(source)})
    # A folder of dropped photos that was taken in long ago does not bring an old version back.
    return taken if images else workspace.assets(scene)[-1]


def _listed(known: list[Asset]) -> str:
    return ", ".join(asset.version for asset in known) or "none yet"
