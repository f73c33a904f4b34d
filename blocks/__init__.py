"""Where captures and assets are stored and jobs run, as Prefect blocks. `azure/` has the code for Azure ML."""

import importlib
import pkgutil

# Import prefect first, while the stack is shallow. Python 3.11 keeps stack frames in chunks of 16 kB and frees a chunk
# with its first frame. If a loop of prefect's import crosses the end of a chunk, the import takes up to twice as long
# (benchmarks/imports.md).
import prefect

from blocks.expense import Expense
from blocks.local import LocalWorkspace
from blocks.marks import Marks
from blocks.provenance import Provenance
from blocks.records import (
    Asset,
    AssetKind,
    DroppedCapture,
    JobSpec,
    JobState,
    JobStatus,
    Leftover,
    Measured,
    PageAddress,
)
from blocks.workspace import Workspace

__all__ = [
    "Asset",
    "AssetKind",
    "DroppedCapture",
    "Expense",
    "JobSpec",
    "JobState",
    "JobStatus",
    "Leftover",
    "LocalWorkspace",
    "Marks",
    "Measured",
    "PageAddress",
    "Provenance",
    "Workspace",
]

# A block can be loaded only if its class is imported, and `prefect block register -m blocks` registers the classes that
# are visible here. So a new kind of workspace is one new file or package in this folder.
for _module in pkgutil.iter_modules(__path__):
    _found = importlib.import_module(f"blocks.{_module.name}")
    for _name in getattr(_found, "__all__", ()):
        if isinstance(_block := getattr(_found, _name), type) and issubclass(_block, prefect.blocks.core.Block):
            globals()[_name] = _block
