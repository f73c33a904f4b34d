"""The job environment: the image in which jobs run on Azure ML."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.ai.ml.operations import EnvironmentOperations

__all__ = ["FILES", "NAME", "is_registered", "register", "version"]

NAME = "rebel-nerf"

FILES = [Path(__file__).with_name(name) for name in ("Dockerfile", "environment.lock", "build_gsplat.py")]
"""The files that decide what is in the image. The build also gets `jobs/` to check the image, but does not keep it."""

_JOBS = Path(__file__).resolve().parents[2] / "jobs"


def version() -> str:
    """Return the environment's version, a hash of its files."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in FILES)).hexdigest()[:12]


def is_registered(environments: EnvironmentOperations, version: str) -> bool:
    """Return whether the workspace has this version."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return environments.get(NAME, version) is not None
    except ResourceNotFoundError:
        return False


def register(environments: EnvironmentOperations, version: str) -> None:
    """Upload the files and register the environment."""
    from azure.ai.ml.entities import BuildContext, Environment

    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            shutil.copy(file, folder)
        shutil.copytree(_JOBS, Path(folder, "jobs"), ignore=shutil.ignore_patterns("__pycache__"))
        context = BuildContext(path=folder, dockerfile_path="Dockerfile")
        environments.create_or_update(Environment(name=NAME, version=version, build=context))
