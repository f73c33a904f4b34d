"""Where captures and assets lie and jobs run, as Prefect blocks. All of Azure is here."""

import importlib
import pkgutil

# First, before the stack is deep. Python 3.11 keeps frames in chunks of 16 kB and gives one back when its first frame
# ends: where prefect's import happens to cross a chunk's end in a loop, it takes twice the time (benchmarks/imports.md).
import prefect  # noqa: F401

from blocks.local import LocalWorkspace
from blocks.workspace import Asset, AssetKind, DroppedCapture, JobSpec, JobState, JobStatus, Workspace

__all__ = [
    "Asset",
    "AssetKind",
    "DroppedCapture",
    "JobSpec",
    "JobState",
    "JobStatus",
    "LocalWorkspace",
    "Workspace",
]

# A block can be loaded once its class is known: a new kind of workspace is one new file in this folder.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"blocks.{_module.name}")
