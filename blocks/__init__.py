"""Where captures and assets lie and jobs run, as Prefect blocks. All of Azure is here."""

import importlib
import pkgutil

# First, while the stack is shallow. Python 3.11 keeps frames in chunks of 16 kB and gives one back as its first frame
# ends: where a loop of prefect's import crosses a chunk's end, all takes up to twice as long (benchmarks/imports.md).
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
