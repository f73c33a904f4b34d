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
"""Files that decide what is in the image. The build also gets `jobs/`: it compiles the kernels and checks the image."""

_JOBS = Path(__file__).resolve().parents[2] / "jobs"


def version() -> str:
    """Return the environment's version, a hash of its files and of the modules with kernels."""
    kernels = [content for file in sorted(_JOBS.rglob("*.py")) if b"@triton.jit" in (content := file.read_bytes())]
    return hashlib.sha256(b"\0".join([*(file.read_bytes() for file in FILES), *kernels])).hexdigest()[:12]


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
