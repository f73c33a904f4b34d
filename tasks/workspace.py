"""Open the workspace that a flow's parameter names."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from prefect.client.orchestration import get_client

from blocks import Asset, LocalWorkspace, Workspace
from blocks.saved import loading, saved_name
from jobs.errors import InvalidInput
from jobs.profiles import Profile
from jobs.program import typed
from tasks.patience import patiently

__all__ = [
    "LOCAL",
    "all_workspaces",
    "check_reference",
    "is_here",
    "load_workspace",
    "open_workspace",
    "page_command",
    "reference_to",
    "resolve_profile",
    "view_command",
]

LOCAL = "local"


async def open_workspace(reference: str) -> Workspace:
    """Load a workspace, and check that it can work.

    Raises:
        InvalidInput: see `load_workspace`; or the workspace cannot work as it is.
    """
    workspace = await load_workspace(reference)
    await patiently(workspace.check)
    return workspace


async def load_workspace(reference: str) -> Workspace:
    """Load a workspace.

    Args:
        reference: "local" for this machine, or a saved block as `<block type>/<name>`, as in the UI's address.

    Raises:
        InvalidInput: there is no such block, or it is not a workspace.
    """
    return LocalWorkspace() if reference == LOCAL else await _load(reference)


def reference_to(workspace: Workspace) -> str:
    """Return the reference with which `open_workspace` opens it."""
    saved = saved_name(workspace)
    return f"{workspace.get_block_type_slug()}/{saved}" if saved else LOCAL


def is_here(workspace: Workspace) -> bool:
    """Return whether a workspace is the folder of `local`. A saved block may be, too, for its prices and limits."""
    return isinstance(workspace, LocalWorkspace) and workspace.folder == LocalWorkspace().folder


def page_command(workspace: Workspace, scene: str, page: Asset) -> str:
    """Return the command that opens a page of a scene."""
    return typed(f"page --scene {scene} --version {page.version}{_elsewhere(workspace)}")


def view_command(workspace: Workspace, scene: str) -> str:
    """Return the command that opens the viewer of a scene."""
    return typed(f"view --scene {scene}{_elsewhere(workspace)}")


def _elsewhere(workspace: Workspace) -> str:
    return "" if (reference := reference_to(workspace)) == LOCAL else f" --workspace {reference}"


async def _load(reference: str) -> Workspace:
    check_reference(reference)
    slug, _, name = reference.partition("/")
    with loading(reference):
        return cast(Workspace, await _kinds()[slug].aload(name))


def check_reference(reference: str) -> None:
    """Check the form of a reference to a workspace, without asking for the block.

    Raises:
        InvalidInput: no workspace can have it.
    """
    slug, _, name = reference.partition("/")
    if reference != LOCAL and (slug not in _kinds() or not name):
        choices = ", ".join(f"{kind}/NAME" for kind in sorted(_kinds()))
        raise InvalidInput(f"workspace {reference!r}: give {LOCAL}, or a saved block as one of {choices}.")


def _kinds() -> dict[str, Any]:
    return {kind.get_block_type_slug(): kind for kind in _subclasses(Workspace)}


def _subclasses(kind: Any) -> list[Any]:
    return [found for sub in kind.__subclasses__() for found in (sub, *_subclasses(sub))]


async def all_workspaces() -> list[str]:
    """Return the references of this machine's workspace and of every saved one.

    If a saved one is the same folder, it stands for it: scheduled work must keep to its limits.
    """
    async with get_client() as client:
        saved = await client.read_block_documents()
    found = [(block.block_type.slug if block.block_type else "", block.name) for block in saved]
    references = [f"{slug}/{name}" for slug, name in found if slug in _kinds()]
    return references if await _is_one_here(references) else [LOCAL, *references]


async def _is_one_here(references: list[str]) -> bool:
    for reference in references:
        with suppress(InvalidInput):  # whoever uses a wrong block says so
            if reference.startswith(f"{LocalWorkspace.get_block_type_slug()}/") and is_here(await _load(reference)):
                return True
    return False


async def resolve_profile(workspace: Workspace, profile: Profile) -> Profile:
    """Return `full` for `auto` if jobs get a CUDA GPU, else `preview`; return other profiles unchanged."""
    if profile != "auto":
        return profile
    return "full" if await patiently(workspace.has_gpu) else "preview"
