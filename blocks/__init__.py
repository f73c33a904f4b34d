"""Where captures and assets lie and jobs run, as Prefect blocks. All of Azure is here."""

import importlib
import pkgutil

# First, while the stack is shallow. Python 3.11 keeps frames in chunks of 16 kB and gives one back as its first frame
# ends: where a loop of prefect's import crosses a chunk's end, all takes up to twice as long (benchmarks/imports.md).
import prefect

from blocks.expense import Expense
from blocks.local import LocalWorkspace
from blocks.marks import Marks
from blocks.workspace import (
    Asset,
    AssetKind,
    DroppedCapture,
    JobSpec,
    JobState,
    JobStatus,
    Leftover,
    Measured,
    Workspace,
)

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
    "Workspace",
]

# A block can be loaded once its class is known, and `prefect block register -m blocks` registers the classes that are
# visible here: a new kind of workspace is one new file or package in this folder.
for _module in pkgutil.iter_modules(__path__):
    _found = importlib.import_module(f"blocks.{_module.name}")
    for _name in getattr(_found, "__all__", ()):
        if isinstance(_block := getattr(_found, _name), type) and issubclass(_block, prefect.blocks.core.Block):
            globals()[_name] = _block
