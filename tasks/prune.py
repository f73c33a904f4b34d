"""Find the assets of a scene that can be removed: old ones, or a model, that nothing that is kept was made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blocks import Asset, Workspace
from jobs.errors import InvalidInput
from jobs.names import SUFFIXES, asset_name

__all__ = ["Judged", "judge_model", "judge_scene"]


@dataclass(frozen=True)
class Judged:
    """An asset, and why it is kept.

    Args:
        asset: the asset.
        kept: the reason for keeping it; "" if it can be removed.
        size: in bytes.
    """

    asset: Asset
    kept: str
    size: int


def judge_scene(workspace: Workspace, scene: str, keep: int, *, captures: bool) -> list[Judged]:
    """Return for each asset of a scene whether it can be removed, and its size.

    The newest versions of each asset, pinned models, the inputs of kept assets, and captures are kept. With `captures`,
    an old capture can be removed if the drop folder still has the same content.

    Args:
        workspace: where the assets are registered.
        scene: the scene's name.
        keep: how many of the newest versions of each asset are kept; at least 1.
        captures: whether captures can be removed as well.
    """
    if keep < 1:
        raise ValueError(f"at least 1 version must be kept, not {keep}")
    versions = _versions(workspace, scene)
    if _is_worked_on(workspace, scene):
        return [Judged(asset, "a run is under way", workspace.size(asset)) for asset in _all(versions)]
    kept: dict[str, str] = {}
    for assets in versions.values():
        for asset in assets[-keep:]:
            kept[str(asset)] = f"among the newest {keep}"
        for asset in assets:
            if asset.marks.pinned:
                kept[str(asset)] = "pinned"
    dropped = {each.content for each in workspace.dropped(scene)} if captures else set()
    for capture in versions[scene]:
        if capture.tags.get("content") not in dropped:
            kept.setdefault(str(capture), "the only copy of these photos" if captures else "a capture")
    _keep_origins(kept, versions)
    return [Judged(asset, kept.get(str(asset), ""), workspace.size(asset)) for asset in _all(versions)]


def judge_model(workspace: Workspace, scene: str, model: Asset) -> list[Judged]:
    """Return a model and everything that was made from it: videos, pages and exports, all of which can be removed.

    Raises:
        InvalidInput: the model is pinned, another model was trained from it, or a run of the scene is under way.
    """
    if model.marks.pinned:
        raise InvalidInput(
            f"scene {scene}: {model.title} is pinned. Unpin it first: rebel-nerf pin --scene {scene} --off"
        )
    if _is_worked_on(workspace, scene):
        raise InvalidInput(f"scene {scene}: a run is under way. {model.title} can be removed once it has ended.")
    known, found = _all(_versions(workspace, scene)), [model]
    for origin in found:  # grows
        found += [each for each in known if str(origin) in each.tags.values() and each not in found]
    if later := [each for each in found[1:] if each.kind == "model"]:
        raise InvalidInput(f"scene {scene}: {later[0].title} was trained from {model.title}. Remove that one first.")
    return [Judged(asset, "", workspace.size(asset)) for asset in found]


def _versions(workspace: Workspace, scene: str) -> dict[str, list[Asset]]:
    names = [scene, *(asset_name(scene, product) for product in SUFFIXES)]
    return {name: workspace.assets(name) for name in names}


def _keep_origins(kept: dict[str, str], versions: Mapping[str, list[Asset]]) -> None:
    """Add the inputs of kept assets to `kept`, and the inputs of those."""
    known = {str(asset): asset for asset in _all(versions)}
    waiting = list(kept)
    while waiting:
        user = waiting.pop()
        for value in known[user].tags.values():
            if value in known and value not in kept:
                kept[value] = f"{user} was made from it"
                waiting.append(value)


def _is_worked_on(workspace: Workspace, scene: str) -> bool:
    """Return whether a run waits for a job of the scene."""
    jobs = (workspace.find_job(name) for name in workspace.followers() if name.startswith(f"{scene}-"))
    return any(job and not job.state.ended for job in jobs)


def _all(versions: Mapping[str, list[Asset]]) -> Iterable[Asset]:
    return [asset for assets in versions.values() for asset in assets]
