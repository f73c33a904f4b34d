"""Find the assets that a run works with, by their numbers or versions."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from prefect import get_run_logger, task

from blocks import Asset, Workspace
from jobs.errors import NotFound
from jobs.names import asset_name
from jobs.program import typed
from tasks.choice import choose, model_versions
from tasks.patience import patiently

__all__ = [
    "ShownModel",
    "find_dataset",
    "find_model",
    "find_model_of_capture",
    "find_registered",
    "find_registered_dataset",
    "find_registered_model",
    "find_shown_model",
    "newest_made_of",
    "no_such_scene",
    "similar_scene",
]


@task(description="The model to work with: the given number or version, else the pinned or the newest good one.")
async def find_model(workspace: Workspace, scene: str, version: str | int | None) -> Asset:
    """Find a scene's model by its number (`3`) or its full version (`2-0a1b2c3d`), or the one that shows the scene.

    A number always means the model's own number. If a capture has the same number but another model, the log says
    which is taken.

    Raises:
        NotFound: the model does not exist, or the scene has no model.
    """
    if version is None:
        model, remark = await patiently(lambda: find_shown_model(workspace, scene))
        if remark:
            get_run_logger().warning("%s", remark)
        return model
    model = await patiently(lambda: find_registered_model(workspace, scene, version))
    if other := await patiently(lambda: _of_capture(workspace, scene, version, model)):
        get_run_logger().warning(
            "scene %s: taking model number %s, %s. To take the newest model of capture %s instead, give %s.",
            *(scene, version, model.version, version, other.number or other.version),
        )
    return model


@task(name="find_model", description="The newest model of the given capture version, or the given model version.")
async def find_model_of_capture(workspace: Workspace, scene: str, version: str | int) -> Asset:
    """Find the newest model of a capture version (`2`), or a model by its full version (`2-0a1b2c3d`).

    Raises:
        NotFound: the model does not exist.
    """
    model = await patiently(lambda: find_registered(workspace, scene, asset_name(scene, "model"), version))
    get_run_logger().info("scene %s: the older visit is shown by %s", scene, model.title)
    return model


@task(description="The dataset to work with: the given version, else the one that the model was trained on.")
async def find_dataset(workspace: Workspace, scene: str, version: str | int | None, model: Asset) -> Asset:
    """Find a scene's dataset by its full version (`2-0a1b2c3d`), or the newest of a capture version (`2`).

    Raises:
        NotFound: the version does not exist, or the scene has no dataset.
    """
    return await patiently(lambda: find_registered_dataset(workspace, scene, version, model))


def find_registered_model(workspace: Workspace, scene: str, version: str | int | None) -> Asset:
    """Find a scene's model as the task `find_model` does, without Prefect."""
    if version is None:
        return find_shown_model(workspace, scene).model
    known = workspace.assets(asset_name(scene, "model"))
    wanted = str(version)
    found = [model for model in known if model.version == wanted]
    if not found and wanted.isdecimal():
        found = [model for model in known if model.number == int(wanted)]
    if found:
        return _completed(found[-1], scene)
    listed = ", ".join(f"{model.number or '–'} ({model.version})" for model in known) or "none yet"
    other = _of_capture(workspace, scene, version, None)
    hint = f" The newest model of capture {wanted} is {other.title}." if other else ""
    which = f"model {wanted} of {asset_name(scene, 'model')}"
    hint = hint or ("" if known else f" {similar_scene(workspace, scene)}".rstrip())
    raise NotFound(f"scene {scene}: no {which} in {workspace.identity}; there is {listed}.{hint}")


def similar_scene(workspace: Workspace, scene: str) -> str:
    """Return a question about a scene with a similar name, with a space at its end; "" if there is none."""
    near = difflib.get_close_matches(scene, set(workspace.scenes()) - {scene}, n=1)
    return f"Did you mean {near[0]}? " if near else ""


def no_such_scene(workspace: Workspace, scene: str) -> NotFound:
    """Return the error for a scene that a workspace does not have. It suggests a similar name, and lists the scenes."""
    listed = ", ".join(workspace.scenes()) or "none yet"
    hint = similar_scene(workspace, scene)
    return NotFound(f"scene {scene}: there is no such scene in {workspace.identity}. {hint}Its scenes: {listed}.")


class ShownModel(NamedTuple):
    """The model that shows a scene, and a sentence about a newer one; "" if there is none."""

    model: Asset
    remark: str


def find_shown_model(workspace: Workspace, scene: str) -> ShownModel:
    """Find the model that shows a scene: the pinned one, else the newest good one.

    Raises:
        NotFound: the scene has no model.
    """
    choice = choose(model_versions(workspace, scene))
    if choice is None and workspace.assets(scene):
        raise NotFound(
            f"scene {scene}: it has photos in {workspace.identity}, but no model yet. "
            f"To make one: {typed(f'run --scene {scene}')}"
        )
    if choice is None:
        hint = similar_scene(workspace, scene) or f"`{typed('list')}` shows the scenes of a workspace."
        raise NotFound(
            f"scene {scene}: no {asset_name(scene, 'model')} in {workspace.identity}; there is none yet. {hint.strip()}"
        )
    return ShownModel(_completed(choice.shown.asset, scene), choice.remark)


def _of_capture(workspace: Workspace, scene: str, version: str | int | None, found: Asset | None) -> Asset | None:
    """Return the newest model of the capture version `version`; None if that is `found` itself."""
    if version is None or not str(version).isdecimal():
        return None
    models = workspace.assets(asset_name(scene, "model"))
    made = [model for model in models if model.leading_version == str(version)]
    return made[-1] if made and (found is None or made[-1].version != found.version) else None


def find_registered_dataset(workspace: Workspace, scene: str, version: str | int | None, model: Asset) -> Asset:
    """Find a scene's dataset as the task `find_dataset` does, without Prefect."""
    if version is None:
        version = model.provenance.inputs.get("dataset", "").partition(":")[2] or None
    return find_registered(workspace, scene, asset_name(scene, "dataset"), version)


def find_registered(workspace: Workspace, scene: str, name: str, version: str | int | None) -> Asset:
    """Find a version of one of a scene's assets: by its full version, or the newest of a capture version."""
    version = None if version is None else str(version)
    known = workspace.assets(name)
    found = [asset for asset in known if version is None or version in (asset.version, asset.leading_version)]
    if not found:
        listed = ", ".join(asset.version for asset in known) or "none yet"
        which = f"version {version} of {name}" if version else name
        raise NotFound(f"scene {scene}: no {which} in {workspace.identity}; there is {listed}.")
    exact = [asset for asset in found if asset.version == version]
    return _completed((exact or found)[-1], scene)


def newest_made_of(assets: Sequence[Asset], **inputs: Asset) -> Asset | None:
    """Return the newest of the assets, oldest first, that was made of these inputs; None if there is none."""
    wanted = {name: str(asset) for name, asset in inputs.items()}.items()
    return next((each for each in reversed(assets) if wanted <= each.provenance.inputs.items()), None)


def _completed(asset: Asset, scene: str) -> Asset:
    """Add the provenance that an asset lacks if a person registered it, from its name and version."""
    known_by = {"capture_version": asset.leading_version, "fingerprint": str(asset)}
    return asset.model_copy(update={"tags": {**known_by, **asset.tags, "scene": scene}})
