"""The capture that a run works on."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from blocks import Asset, DroppedCapture, Workspace
from jobs import media
from jobs.errors import InvalidInput, NotFound
from jobs.options import PrepareOptions
from jobs.text import printable
from tasks.find import similar_scene
from tasks.news import News, tell
from tasks.patience import patiently
from tasks.plain_errors import naming

__all__ = ["capture", "check_capture", "take_in_dropped"]

_SETTLED_SECONDS = 60.0


@task(description="Find the capture version to work on: a new one if there are new photos, else the newest.")
async def capture(
    workspace: Workspace, scene: str, version: int | None, images: Path | None, options: PrepareOptions
) -> Asset:
    """Return the scene's capture: `images`, else the given version, else new dropped photos, else the newest version.

    Raises:
        InvalidInput: no dataset can be made of the photos. Names the scene, the file and the remedy.
        NotFound: the version does not exist, or the scene has no capture.
    """
    tell(News("capture", words="reading photos"))
    taken = await patiently(lambda: _capture(workspace, scene, version, images, options))
    tell(News("capture", state="done", asset=taken))
    return taken


def _capture(
    workspace: Workspace, scene: str, version: int | None, images: Path | None, options: PrepareOptions
) -> Asset:
    if images and version:
        raise InvalidInput(f"scene {scene}: give either images (a new version) or version {version} (an existing one).")
    known = workspace.assets(scene)
    if version is not None:
        return _of_version(workspace, scene, version, known)
    if images:
        return _take_in(workspace, scene, images, options)
    for dropped in workspace.dropped(scene):
        # If the scene has captures, an empty drop folder is ignored.
        if not dropped.files and known:
            continue
        if dropped.folder and options.poses == "keep":  # listings have no poses
            return _take_in(workspace, scene, dropped.folder, options)
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
                    f"scene {scene}: {', '.join(dropped.uploading[:3])} is being uploaded. Wait until it is complete. "
                    "If no upload is running, delete it or upload it again."
                )
            if dropped.age < _SETTLED_SECONDS:
                get_run_logger().warning(
                    "scene %s: the dropped photos changed %.0f s ago. Photos that arrive later will be another version",
                    *(scene, dropped.age),
                )
            return take_in_dropped(workspace, dropped, options, {})
    return _newest(workspace, scene, known)


def check_capture(workspace: Workspace, scene: str, version: int | None, images: Path | None) -> None:
    """Check that there are photos to work on, without reading them: a mistyped folder or scene needs no run.

    Raises:
        InvalidInput: there are no photos in the folder.
        NotFound: the version does not exist, or the scene has no capture.
    """
    if images:
        with naming(scene):
            media.find_any(images.expanduser())
        return
    known = workspace.assets(scene)
    if version is not None:
        _of_version(workspace, scene, version, known)
    elif not any(dropped.files for dropped in workspace.dropped(scene)):
        _newest(workspace, scene, known)


def _of_version(workspace: Workspace, scene: str, version: int, known: list[Asset]) -> Asset:
    for asset in known:
        if asset.version == str(version):
            return asset
    archived = _archived_versions(workspace, scene)
    raise NotFound(f"scene {scene}: no capture version {version}; there is {_listed(known)}{archived}.")


def _newest(workspace: Workspace, scene: str, known: list[Asset]) -> Asset:
    if not known:
        raise NotFound(
            f"scene {scene}: no capture in {workspace.identity}{_archived_versions(workspace, scene)}. "
            f"{similar_scene(workspace, scene)}Give a folder of photos or a video: --images FOLDER."
        )
    return known[-1]


def _take_in(workspace: Workspace, scene: str, images: Path, options: PrepareOptions) -> Asset:
    found = _scan(scene, images.expanduser(), options)
    taken = workspace.take_in(scene, found.files, {"source": str(images), **found.tags(found.files)})
    _warn_of_archived(workspace, taken)
    return taken


def _warn_of_archived(workspace: Workspace, taken: Asset) -> None:
    """Warn if an archived version has the same photos."""
    same = [
        each.version for each in workspace.archived(taken.name) if each.provenance.content == taken.provenance.content
    ]
    if same:
        get_run_logger().warning(
            "scene %s: version %s has the same photos but is archived, so they are registered as version %s.",
            *(taken.name, ", ".join(same), taken.version),
        )


def take_in_dropped(
    workspace: Workspace, dropped: DroppedCapture, options: PrepareOptions, tags: dict[str, str]
) -> Asset:
    """Check dropped files and register them.

    If the files are on another machine, only their names and sizes are checked here. The job that prepares the dataset
    checks the files, on a node without a GPU: fetching them first would take longer.

    Raises:
        InvalidInput: no dataset can be made of the files, or they changed after they were listed.
    """
    scene, minimum = dropped.scene, options.min_registered_images
    if dropped.folder:
        found = _scan(scene, dropped.folder, options)
        about = {"source": str(dropped.folder), **found.tags(dropped.files)}
        return workspace.take_in_dropped(dropped, about | tags)
    with naming(scene):
        media.check_names([*{f.checksum: path for path, f in dropped.files.items() if f.size}.values()], minimum)
    return workspace.take_in_dropped(dropped, {"source": "uploaded by hand", **tags})


def _scan(scene: str, source: Path, options: PrepareOptions) -> media.Capture:
    with naming(scene):
        found = media.scan(source, options.min_registered_images, keep_poses=options.poses == "keep")
    for file, reason in found.unreadable.items():
        get_run_logger().warning("scene %s: %s is not used: %s", scene, printable(file), reason)
    get_run_logger().info("scene %s: %s", scene, found.line())
    tell(News("capture", words=found.line().rstrip(".")))
    return found


def _listed(known: list[Asset]) -> str:
    return ", ".join(asset.version for asset in known) or "none yet"


def _archived_versions(workspace: Workspace, scene: str) -> str:
    """List the archived versions, for an error's text; "" if there are none."""
    archived = ", ".join(asset.version for asset in workspace.archived(scene))
    return f" (archived: {archived})" if archived else ""
