"""Look up what the Prefect server already has: the saved block, the work pool and the deployments."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.azure import AzureMLWorkspace
from jobs.environment import FOR_PREFECT, child_environment
from jobs.errors import InvalidInput

__all__ = ["POOL", "ROOT", "call", "deployed", "has_pool", "is_saved"]

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""
POOL = "rebel-nerf"
"""The work pool's name."""


def is_saved(name: str) -> bool:
    """Return whether a workspace's block of that name is saved."""
    with get_client(sync_client=True) as client:
        try:
            client.read_block_document_by_name(name, AzureMLWorkspace.get_block_type_slug())
        except ObjectNotFound:
            return False
    return True


def has_pool() -> bool:
    """Return whether the work pool exists."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            return False
    return True


def deployed() -> bool:
    """Return whether the server has all deployments, from this folder, and as new as their files."""
    files = [ROOT / "prefect.yaml", ROOT / "jobs" / "options.py", *(ROOT / "flows").glob("*.py")]
    changed = max(file.stat().st_mtime for file in files)
    wanted = yaml.safe_load((ROOT / "prefect.yaml").read_bytes())["deployments"]
    with get_client(sync_client=True) as client:
        there = client.read_deployments()
    current = {
        (each.entrypoint, each.name)
        for each in there
        if each.updated and each.updated.timestamp() > changed and str(ROOT) in str(each.pull_steps)
    }
    return all((each["entrypoint"], each["name"]) in current for each in wanted)


def call(command: list[str]) -> None:
    """Run one of our own programs in the project's folder.

    Raises:
        InvalidInput: it failed. The text contains its output.
    """
    default = {"REBEL_NERF_PROJECT": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=default | child_environment(FOR_PREFECT), capture_output=True, text=True
    )
    if done.returncode:
        raise InvalidInput(f"{' '.join(command[3:])} failed:\n{done.stdout}{done.stderr}")
