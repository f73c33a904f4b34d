"""Find the assets of a scene that can be removed: old ones, a model with what was made from it, or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blocks import Asset, Workspace
from jobs.errors import InvalidInput
from jobs.names import SUFFIXES, asset_name
from jobs.program import typed
from tasks.find import no_such_scene

__all__ = ["Candidate", "candidates_of_model", "candidates_of_scene", "candidates_of_whole_scene"]


_ONLY_COPY = "the only copy of these photos"


@dataclass(frozen=True)
class Candidate:
    """An asset that may be removed, or the reason for keeping it.

    Args:
        asset: the asset.
        kept: the reason for keeping it; "" if it can be removed.
        size: in bytes.
    """

    asset: Asset
    kept: str
    size: int


def candidates_of_scene(workspace: Workspace, scene: str, keep: int, *, captures: bool) -> list[Candidate]:
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
        return [Candidate(asset, "a run is under way", workspace.size(asset)) for asset in _all(versions)]
    kept: dict[str, str] = {}
    for assets in versions.values():
        for asset in assets[-keep:]:
            kept[str(asset)] = f"among the newest {keep}"
        for asset in assets:
            if asset.marks.pinned:
                kept[str(asset)] = "pinned"
    only_copies = _only_copies(workspace, scene, versions) if captures else versions[scene]
    for capture in only_copies:
        kept.setdefault(str(capture), _ONLY_COPY if captures else "a capture")
    _keep_origins(kept, versions)
    return [Candidate(asset, kept.get(str(asset), ""), workspace.size(asset)) for asset in _all(versions)]


def candidates_of_model(workspace: Workspace, scene: str, model: Asset) -> list[Candidate]:
    """Return a model and everything that was made from it: videos, pages and exports, all of which can be removed.

    Raises:
        InvalidInput: the model is pinned, another model was trained from it, or a run of the scene is under way.
    """
    _check_removable(workspace, scene, [model])
    known, found = _all(_versions(workspace, scene)), [model]
    for origin in found:  # grows
        found += [each for each in known if str(origin) in each.tags.values() and each not in found]
    if later := [each for each in found[1:] if each.kind == "model"]:
        raise InvalidInput(f"scene {scene}: {later[0].title} was trained from {model.title}. Remove that one first.")
    return [Candidate(asset, "", workspace.size(asset)) for asset in found]


def candidates_of_whole_scene(workspace: Workspace, scene: str, *, captures: bool) -> list[Candidate]:
    """Return every asset of a scene. All can be removed but the only copies of photos.

    Args:
        workspace: where the assets are registered.
        scene: the scene's name.
        captures: whether captures can be removed although the drop folder does not have the same photos.

    Raises:
        NotFound: there is no such scene.
        InvalidInput: a model is pinned, or a run of the scene is under way.
    """
    versions = _versions(workspace, scene)
    if not (known := _all(versions)):
        raise no_such_scene(workspace, scene)
    _check_removable(workspace, scene, known)
    kept = set() if captures else {str(capture) for capture in _only_copies(workspace, scene, versions)}
    return [Candidate(asset, _ONLY_COPY if str(asset) in kept else "", workspace.size(asset)) for asset in known]


def _check_removable(workspace: Workspace, scene: str, assets: Iterable[Asset]) -> None:
    """Refuse to remove what is pinned, and anything of a scene of which a run is under way."""
    if pinned := next((asset for asset in assets if asset.marks.pinned), None):
        raise InvalidInput(
            f"scene {scene}: {pinned.title} is pinned. Unpin it first: {typed(f'pin --scene {scene} --off')}"
        )
    if _is_worked_on(workspace, scene):
        raise InvalidInput(f"scene {scene}: a run is under way. Nothing of it can be removed until that has ended.")


def _only_copies(workspace: Workspace, scene: str, versions: Mapping[str, list[Asset]]) -> list[Asset]:
    """Return the captures whose photos the drop folder does not have as well."""
    dropped = {each.content for each in workspace.dropped(scene)}
    return [capture for capture in versions[scene] if capture.tags.get("content") not in dropped]


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


def _all(versions: Mapping[str, list[Asset]]) -> list[Asset]:
    return [asset for assets in versions.values() for asset in assets]
