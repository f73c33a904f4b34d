from __future__ import annotations

from prefect import task

from blocks import Asset, Workspace
from jobs.errors import NotFound
from tasks.patience import patiently

__all__ = ["find_dataset", "find_model", "find_registered", "find_registered_dataset", "find_registered_model"]


@task(description="The model to work with: the given version, else the newest.")
async def find_model(workspace: Workspace, scene: str, version: str | int | None) -> Asset:
    """A scene's model; see `find_dataset` for the versions.

    Raises:
        NotFound: there is no such version, or no model of the scene at all.
    """
    return await patiently(lambda: find_registered_model(workspace, scene, version))


@task(description="The dataset to work with: the given version, else the one that the model was trained on.")
async def find_dataset(workspace: Workspace, scene: str, version: str | int | None, model: Asset) -> Asset:
    """A scene's dataset: `version` in full (`2-0a1b2c3d`), or a capture version (`2`) for the newest made of it.

    Raises:
        NotFound: there is no such version, or no dataset of the scene at all.
    """
    return await patiently(lambda: find_registered_dataset(workspace, scene, version, model))


def find_registered_model(workspace: Workspace, scene: str, version: str | int | None) -> Asset:
    """What the task `find_model` does, without Prefect."""
    return find_registered(workspace, scene, f"{scene}-nerf", version)


def find_registered_dataset(workspace: Workspace, scene: str, version: str | int | None, model: Asset) -> Asset:
    """What the task `find_dataset` does, without Prefect."""
    if version is None:
        version = model.tags.get("dataset", "").partition(":")[2] or None
    return find_registered(workspace, scene, f"{scene}-images-to-nerf-dataset", version)


def find_registered(workspace: Workspace, scene: str, name: str, version: str | int | None) -> Asset:
    """A version of one of a scene's assets, by the asset's name; see `find_dataset`."""
    version = None if version is None else str(version)
    known = workspace.assets(name)
    found = [asset for asset in known if version is None or version in (asset.version, asset.version.partition("-")[0])]
    if not found:
        listed = ", ".join(asset.version for asset in known) or "none yet"
        which = f"version {version} of {name}" if version else name
        raise NotFound(f"scene {scene}: no {which} in {workspace.identity}; there is {listed}.")
    exact = [asset for asset in found if asset.version == version]
    asset = (exact or found)[-1]
    # One that a person registered by hand has no provenance: it is known by its name and version.
    known_by = {"capture_version": asset.version.partition("-")[0], "fingerprint": str(asset)}
    return asset.model_copy(update={"tags": {**known_by, **asset.tags, "scene": scene}})
