"""Return the web addresses of what people look at, if this machine's server serves the workspace."""

from __future__ import annotations

from urllib.parse import quote

from blocks import Asset, Workspace

__all__ = ["file_link", "scene_link"]


def file_link(workspace: Workspace, asset: Asset, file: str) -> str:
    """Return the address of a file of an asset; "" if no server serves it. Blocks."""
    return _link(workspace, f"assets/{asset.name}/{asset.version}/{file}")


def scene_link(workspace: Workspace, scene: str) -> str:
    """Return the address of the page of a scene; "" if no server serves it. Blocks."""
    return _link(workspace, f"gallery/{scene}.html")


def _link(workspace: Workspace, path: str) -> str:
    address = workspace.served_at()
    return f"{address}/{quote(path)}" if address else ""
