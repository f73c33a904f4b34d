from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from blocks import Asset, DroppedCapture, Workspace
from jobs import media
from jobs.errors import InvalidInput, NotFound
from jobs.names import printable
from jobs.options import PrepareOptions
from tasks.patience import patiently
from tasks.plain_errors import named
from tasks.watch import News, tell

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
    tell(News("capture", words="reading photos"))
    taken = await patiently(lambda: _capture(workspace, scene, version, images, options))
    tell(News("capture", state="done", asset=taken))
    return taken


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
        archived = _put_away(workspace, scene)
        raise NotFound(f"scene {scene}: no capture version {version}; there is {_listed(known)}{archived}.")
    if images:
        found = _scan(scene, images.expanduser(), options)
        taken = workspace.take_in(scene, found.files, {"source": str(images), **found.tags(found.files)})
        _tell_archived(workspace, taken)
        return taken
    for dropped in workspace.dropped(scene):
        # A folder of dropped photos that was taken in long ago does not bring an old version back.
        if not dropped.files and known:
            continue
        same = workspace.find_capture(dropped)
        if same and same.archived:
            get_run_logger().warning(
                "scene %s: the photos uploaded by hand are those of %s, which is archived, so they are left alone. "
                "To use them, restore it or give the photos as images.",
                *(scene, same),
            )
        if not same:
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
            f"scene {scene}: no capture in {workspace.identity}{_put_away(workspace, scene)}. "
            "Give a folder of photos or a video as images."
        )
    return known[-1]


def _tell_archived(workspace: Workspace, taken: Asset) -> None:
    """Warn if an archived version has the same photos."""
    same = [
        each.version for each in workspace.archived(taken.name) if each.tags.get("content") == taken.tags["content"]
    ]
    if same:
        get_run_logger().warning(
            "scene %s: version %s has the same photos but is archived, so they are registered as version %s.",
            *(taken.name, ", ".join(same), taken.version),
        )


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
        found = _scan(scene, dropped.folder, options)
        about = {"source": str(dropped.folder), **found.tags(dropped.files)}
        return workspace.take_in_dropped(dropped, about | tags)
    with named(scene):
        media.check_names([*{f.checksum: path for path, f in dropped.files.items() if f.size}.values()], minimum)
    return workspace.take_in_dropped(dropped, {"source": "uploaded by hand", **tags})


def _scan(scene: str, source: Path, options: PrepareOptions) -> media.Capture:
    with named(scene):
        found = media.scan(source, minimum=options.min_registered_images)
    for file, reason in found.unreadable.items():
        get_run_logger().warning("scene %s: %s is left out: %s", scene, printable(file), reason)
    get_run_logger().info("scene %s: %s", scene, found.line())
    tell(News("capture", words=found.line().rstrip(".")))
    return found


def _listed(known: list[Asset]) -> str:
    return ", ".join(asset.version for asset in known) or "none yet"


def _put_away(workspace: Workspace, scene: str) -> str:
    """List the archived versions, for an error's text; "" if there are none."""
    archived = ", ".join(asset.version for asset in workspace.archived(scene))
    return f" (archived: {archived})" if archived else ""
